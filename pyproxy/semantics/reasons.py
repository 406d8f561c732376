"""Why octets are no request line, in words that say what they are instead.

Asked only when a request line was refused.  No text quotes the line: keys stand in targets.
Spec: RFC 9112 3.
"""

from __future__ import annotations

import re

from pyproxy.errors import Malformed, UnknownVersion

# The first pattern that fits a line's beginning gives its reason.  Each is linear: what repeats is
# possessive, or goes back one octet at a time.
_REASONS: tuple[tuple[bytes, type[Malformed], str], ...] = (
    (
        rb"\x16",
        Malformed,
        "it is a TLS handshake (https, wss), and this port speaks HTTP without TLS",
    ),
    (
        rb"PROXY |\0\r?\Z",
        Malformed,
        "it is a header of the PROXY protocol, which is read on ports of --listen haproxy:… only",
    ),
    (
        rb"PRI \* HTTP/2",
        UnknownVersion,
        "it is the preface of HTTP/2, and HTTP/1.1 is spoken here",
    ),
    (rb"HTTP/\d", Malformed, "it is a status line, where a request line belongs"),
    (rb".*\0", Malformed, "a NUL in the request line"),
    (rb".*[\r\n]", Malformed, "a bare CR or LF in the request line: only CRLF ends a line"),
    (rb".*[\x01-\x08\x0b-\x1f\x7f]", Malformed, "a control character in the request line"),
    (rb".*\t", Malformed, "a tab in the request line: single spaces part it"),
    (
        rb"[^ ]++ [^ ]++ HTTP/(?!1\.[01]\Z)\d\.\d\Z",
        UnknownVersion,
        "it names a version of HTTP that is not spoken here",
    ),
    (rb" ", Malformed, "white space before the method"),
    (rb".* HTTP/1\.[01] ++\Z", Malformed, "white space behind the version"),
    (
        rb".* (?!HTTP/)(?i:HTTP)/[^ ]*+\Z",
        Malformed,
        "a version in other letters than `HTTP/1.1`, which are capital ones",
    ),
    (
        rb".* HTTP/(?!1\.[01]\Z)[^ ]*+\Z",
        Malformed,
        "a version that is not written `HTTP/1.1` or `HTTP/1.0`",
    ),
    (
        rb"[^ ]++ [^ ]++ [A-Z]++/(?<!HTTP/)[^ ]*+\Z",
        Malformed,
        "it speaks another protocol than HTTP",
    ),
    (
        rb"[^ ]++ (?!(?:.* )?HTTP/1\.[01]\Z)",
        Malformed,
        "no version at the end of the request line (HTTP/0.9 is not spoken here)",
    ),
    (rb"[^ ]++ HTTP/1\.[01]\Z", Malformed, "no target in the request line"),
    (rb"[^ ]++  |.*  HTTP/", Malformed, "more than one space where one parts the request line"),
    (
        rb"[^ ]++ [^ ]++ .*[^ ] HTTP/",
        Malformed,
        "white space in the target, where it has to be percent-encoded (%20)",
    ),
    (rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]*+[^ ]", Malformed, "a method that is no token"),
    (
        rb"[^ ]++ [^ #]*+#",
        Malformed,
        "a fragment (#) in the target: it stays with the client, or is percent-encoded (%23)",
    ),
)

_reasons = tuple((re.compile(one, re.DOTALL).match, kind, text) for one, kind, text in _REASONS)


def why_no_request_line(line: bytes) -> Malformed:
    """Return the error with which a request line is refused.  Args: without its CRLF."""
    for fits, kind, text in _reasons:
        if fits(line):
            return kind(text)
    return Malformed("the request line is not `method SP target SP HTTP/1.x`")
