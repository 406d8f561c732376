"""What answers where no upstream is asked."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pyproxy.policy.instead import FixedAnswer, Redirection, reason_of


class FixedAnswerTests(SynchronousTestCase):
    """The same to every request."""

    def test_reply(self) -> None:
        """Status, fields and content, with its length."""
        answer = FixedAnswer(503, ((b"Retry-After", b"60"),), b"closed")
        fields = [(b"Retry-After", b"60"), (b"Content-Length", b"6")]
        self.assertEqual((503, b"Service Unavailable", fields, b"closed"), answer.reply(b"/x"))
        self.assertEqual(2, len(answer.reply(b"/").fields))

    def test_no_content(self) -> None:
        """204 has none, and no length (RFC 9110 8.6)."""
        self.assertEqual((204, b"No Content", [], b""), FixedAnswer(204).reply(b"/"))

    def test_reason(self) -> None:
        """The usual phrase, or none."""
        self.assertEqual((b"Not Found", b""), (reason_of(404), reason_of(599)))


class RedirectionTests(SynchronousTestCase):
    """Where a redirect leads."""

    def test_location(self) -> None:
        """To the place, or the rest of the path behind it; to no host that a client names."""
        for to, keeps, rest, location in (
            (b"https://new.example", False, b"/a?b", b"https://new.example"),
            (b"https://new.example", True, b"/a?b", b"https://new.example/a?b"),
            (b"https://new.example/base/", True, b"/a", b"https://new.example/base/a"),
            (b"https://new.example/base", True, b"/", b"https://new.example/base"),
            (b"https://new.example/base", True, b"/?a", b"https://new.example/base/?a"),
            (b"/new", True, b"//evil.example", b"/new//evil.example"),
            (b"/", True, b"/a", b"/a"),
            (b"/", True, b"//evil.example", b"/evil.example"),
            (b"/", True, b"/\\\\evil.example", b"/evil.example"),
        ):
            status, _, fields, content = Redirection(to, 308, keeps).reply(rest)
            self.assertEqual((308, b""), (status, content))
            self.assertEqual((b"Location", location), fields[0])
