"""Why octets are no request line."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.errors import Malformed, UnknownVersion
from pyproxy.semantics.messages import MAX_TARGET_BYTES, parse_request_head
from pyproxy.semantics.reasons import why_no_request_line
from tests.semantics import strict

TLS = "TLS handshake"
PROXY = "PROXY protocol"
STATUS = "status line"
NUL = "a NUL"
LINE_END = "bare CR or LF"
CONTROL = "a control character"
TAB = "a tab"
BEFORE = "white space before the method"
BEHIND = "white space behind the version"
LETTERS = "other letters than `HTTP/1.1`"
VERSION = "not written `HTTP/1.1`"
OTHER = "another protocol than HTTP"
NO_VERSION = "no version"
NO_TARGET = "no target"
SPACES = "more than one space"
IN_TARGET = "%20"
METHOD = "a method that is no token"
FRAGMENT = "a fragment (#)"
SHAPE = "not `method SP target SP HTTP/1.x`"

REASONS = (
    (b"GET /x?page=1#y HTTP/1.1", FRAGMENT),
    (b"GET # HTTP/1.0", FRAGMENT),
    (b"GET http://h/a#b HTTP/1.1", FRAGMENT),
    (b"\x16\x03\x01\x02", TLS),
    (b"\x16\x03\x03\x00\x7a\x01\x00\x00\x76\x03\x03", TLS),
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 80", PROXY),
    (b"PROXY UNKNOWN", PROXY),
    (b"\0", PROXY),
    (b"HTTP/1.1 200 OK", STATUS),
    (b"GET /\0 HTTP/1.1", NUL),
    (b"GET /\r HTTP/1.1", LINE_END),
    (b"GET / HTTP/1.1\n", LINE_END),
    (b"GET /\x7f HTTP/1.1", CONTROL),
    (b"GET /\x1b[31m HTTP/1.1", CONTROL),
    (b"GET\t/ HTTP/1.1", TAB),
    (b"GET /a\tb HTTP/1.1", TAB),
    (b" GET / HTTP/1.1", BEFORE),
    (b"GET / HTTP/1.1 ", BEHIND),
    (b"GET / http/1.1", LETTERS),
    (b"GET / Http/1.0", LETTERS),
    (b"get / http/2", LETTERS),
    (b"GET / HTTP/1", VERSION),
    (b"GET / HTTP/2", VERSION),
    (b"GET / HTTP/1.10", VERSION),
    (b"GET / HTTP/1.1x", VERSION),
    (b"GET / HTTP/", VERSION),
    (b"GET  / HTTP/2.0", VERSION),
    (b"OPTIONS sip:a@b SIP/2.0", OTHER),
    (b"GET / ICY/1.1", OTHER),
    (b"GET / HTTPS/1.1", OTHER),
    (b"DESCRIBE rtsp://h/ RTSP/1.0", OTHER),
    (b"GET /", NO_VERSION),
    (b"GET / ", NO_VERSION),
    (b"GET /a b", NO_VERSION),
    (b"EHLO client.example", NO_VERSION),
    (b"GET HTTP/1.1", NO_TARGET),
    (b"GET  HTTP/1.1", SPACES),
    (b"GET  / HTTP/1.1", SPACES),
    (b"GET /  HTTP/1.1", SPACES),
    (b"GET /a b HTTP/1.1", IN_TARGET),
    (b"GET /a  b c HTTP/1.1", IN_TARGET),
    (b"GET /a b#c HTTP/1.1", IN_TARGET),
    (b"G(T / HTTP/1.1", METHOD),
    (b"GET: / HTTP/1.1", METHOD),
    (b"\xff / HTTP/1.1", METHOD),
    (b'{"model":"x"}POST / HTTP/1.1', METHOD),
    (b"SSH-2.0-OpenSSH_9.6", SHAPE),
    (b"GET", SHAPE),
    (b"", SHAPE),
)

OTHER_VERSIONS = (
    (b"PRI * HTTP/2.0", "preface of HTTP/2"),
    (b"GET / HTTP/2.0", "a version of HTTP"),
    (b"GET / HTTP/0.9", "a version of HTTP"),
    (b"GET / HTTP/1.2", "a version of HTTP"),
)


class ReasonTests(SynchronousTestCase):
    """Each kind of wrong line has a reason that says what it is."""

    def test_reasons(self) -> None:
        """The reason is the one that its sender needs, and no other kind's."""
        for line, reason in REASONS:
            error = why_no_request_line(line)
            self.assertIs(Malformed, type(error), line)
            self.assertIn(reason, str(error), line)
            parsed = strict.refusal(parse_request_head, line + b"\r\n")
            self.assertIs(Malformed, type(parsed), line)

    def test_other_versions(self) -> None:
        """A well-formed version that is not spoken is told apart, for a 505.  RFC 9110 15.6.6."""
        for line, reason in OTHER_VERSIONS:
            error = why_no_request_line(line)
            self.assertIs(UnknownVersion, type(error), line)
            self.assertIn(reason, str(error), line)

    @given(
        st.lists(
            st.sampled_from(
                [b"GET", b" ", b"\t", b"/sekret", b"#", b"\x80", b"HTTP/1.1", b"HTTP/2.0", b"\r"]
            ),
            max_size=8,
        ).map(b"".join)
    )
    def test_no_reason_quotes_the_line(self, line: bytes) -> None:
        """Keys stand in targets: no text holds any of it."""
        self.assertNotIn("sekret", str(why_no_request_line(line)))

    def test_hostile_lines_are_linear(self) -> None:
        """No line makes the search slow."""
        for part in (b" ", b"a", b"a ", b"#", b"  ", b" HTTP/", b"A A A/", b" http/", b"HTTP/1.1 "):
            for start in (b"", b"GET ", b"GET / "):
                line = start + part * (MAX_TARGET_BYTES // len(part))
                taken = strict.cpu_seconds(why_no_request_line, line)
                self.assertLess(taken, strict.CPU_BUDGET, (start, part))
