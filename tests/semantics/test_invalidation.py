"""What an unsafe request makes of stored responses."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.semantics.fields import Field
from pyproxy.semantics.invalidation import SAFE, invalidated
from tests.semantics import strict
from tests.semantics.kit import response

ORIGIN = b"http://up.example:8080"
HOST = b"Shop.example"


def others(*fields: Field, status: int = 200, target: bytes = b"/a/b?c") -> set[bytes]:
    """Return the targets that are invalidated beside the request's own."""
    found = invalidated(target, response(*fields, status=status), ORIGIN, HOST)
    assert target in found
    return found - {target}


class InvalidationTests(SynchronousTestCase):
    """What is used no more.  RFC 9111 4.4."""

    def test_safe(self) -> None:
        """Who only reads changes nothing; methods have a case.  RFC 9110 9.1, 9.2.1."""
        for method in (b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"QUERY"):
            self.assertIn(method, SAFE)
        for method in (b"POST", b"PUT", b"DELETE", b"PATCH", b"get", b"LOCK", b"UNKNOWN"):
            self.assertNotIn(method, SAFE)

    def test_status(self) -> None:
        """Only what went well changes anything; then the request's own target, at least."""
        location = (b"Location", b"/x")
        for status in (200, 201, 204, 299, 302, 303, 399):
            with self.subTest(status=status):
                self.assertEqual({b"/x"}, others(location, status=status))
                self.assertEqual(set(), others(status=status))
        for status in (100, 400, 404, 412, 500, 503):
            with self.subTest(status=status):
                head = response(location, status=status)
                self.assertEqual(set(), invalidated(b"/a", head, ORIGIN, HOST))

    def test_references(self) -> None:
        """Location and Content-Location name others, relative to the target.  RFC 9110 10.2.2."""
        for value, found in (
            (b"/x", b"/x"),
            (b"/x?y=1#z", b"/x?y=1"),
            (b"x", b"/a/x"),
            (b"../x", b"/x"),
            (b"?y", b"/a/b?y"),
            (b"/x;y", b"/x;y"),
            (b"/caf\xe9", b"/caf\xe9"),
            (b"http://up.example:8080/x", b"/x"),
            (b"HTTP://UP.example:8080/x", b"/x"),
            (b"//up.example:8080/x", b"/x"),
            (b"http://up.example:8080", b"/"),
            (b"http://up.example:8080?y", b"/?y"),
            (b"http://shop.example/x", b"/x"),
            (b"https://SHOP.example/x", b"/x"),
        ):
            for name in (b"Location", b"content-location"):
                with self.subTest(name=name, value=value):
                    self.assertEqual({found}, others((name, value)))

    def test_other_origins(self) -> None:
        """Nobody makes anything of another origin be forgotten.  RFC 9111 4.4."""
        for value in (
            b"http://evil.example/x",
            b"//evil.example/x",
            b"http://up.example/x",
            b"http://up.example:8081/x",
            b"http://up.example:8080.evil.example/x",
            b"http://user@up.example:8080/x",
            b"http://evil.example#up.example:8080/x",
            b"ftp://up.example:8080/x",
            b"mailto:a@up.example:8080",
            b"http://[up.example:8080/x",
            b"http://[::1",
        ):
            with self.subTest(value=value):
                self.assertEqual(set(), others((b"Location", value)))

    def test_without_host(self) -> None:
        """A client that asked for no host has not asked for everybody's."""
        for value in (b"mailto:x", b"urn:x", b"data:,/x", b"http://evil.example/"):
            with self.subTest(value=value):
                head = response((b"Location", value))
                self.assertEqual({b"/a"}, invalidated(b"/a", head, ORIGIN, b""))

    def test_several(self) -> None:
        """Every line counts."""
        fields = ((b"Location", b"/x"), (b"location", b"/y"), (b"Content-Location", b"/z"))
        self.assertEqual({b"/x", b"/y", b"/z"}, others(*fields))

    @given(st.lists(st.sampled_from([*b"/:?#@[].%a1\\;\t \xe9\xb5"]), max_size=12).map(bytes))
    def test_whatever_comes(self, value: bytes) -> None:
        """Whatever stands there, the request's own target is invalidated."""
        for prefix in (b"", b"//", b"http://", b"http://up.example:8080"):
            others((b"Location", prefix + value))

    def test_hostile_values_are_linear(self) -> None:
        """No value makes it slow."""
        for part in (b"../", b"/", b"a/", b"?", b"#", b"[", b"//"):
            value = part * (strict.CROWD // len(part))
            taken = strict.cpu_seconds(others, (b"Location", value))
            self.assertLess(taken, strict.CPU_BUDGET, part)
