"""Logins of a connection, and how long it may be idle."""

from __future__ import annotations

from math import inf

from twisted.trial.unittest import SynchronousTestCase

from pyproxy.semantics.logins import asks_for_login, idle_limit, logs_in
from pyproxy.semantics.messages import ResponseHead
from tests.semantics.kit import head_of


def response(*fields: tuple[bytes, bytes]) -> ResponseHead:
    """Return the head of a response with some fields."""
    return ResponseHead(401, b"", 1, list(fields))


class LoginTests(SynchronousTestCase):
    """``Negotiate`` and ``NTLM`` log a connection in.  RFC 4559 6."""

    def test_credentials(self) -> None:
        """A request's scheme counts in any case, with or without a token; a mere word does not."""
        for value, expected in (
            (b"Negotiate YIIJ+vcGBisGAQUFAqCC/w==", True),
            (b"NTLM TlRMTVNTUAABAAAA", True),
            (b"nTlM  x", True),
            (b"negotiate", True),
            (b"NTLM\tx", True),
            (b"Bearer NTLM", False),
            (b"Basic Negotiate", False),
            (b"NTLMv2 x", False),
            (b"", False),
        ):
            self.assertEqual(expected, logs_in(head_of((b"Authorization", value))), value)
        self.assertFalse(logs_in(head_of()))

    def test_challenges(self) -> None:
        """It may be one challenge of several, in one field or more, of 401 or of 407."""
        for value, expected in (
            (b"Negotiate", True),
            (b'Basic realm="a, NTLM", NTLM', True),
            (b"NTLM TlRMTVNTUAACAAAA", True),
            (b'Basic realm="NTLM"', False),
            (b'Digest qop="auth", realm="Negotiate"', False),
        ):
            for name in (b"WWW-Authenticate", b"proxy-authenticate"):
                self.assertEqual(expected, asks_for_login(response((name, value))), value)
        two = ((b"WWW-Authenticate", b"Basic"), (b"WWW-Authenticate", b"NTLM"))
        self.assertTrue(asks_for_login(response(*two)))
        self.assertFalse(asks_for_login(response()))


class IdleLimitTests(SynchronousTestCase):
    """``Keep-Alive`` tells how long, and how often.  RFC 2068 19.7.1.1."""

    def test_table(self) -> None:
        """The last second is left out; what says nothing sets no limit."""
        for value, limit in (
            (b"timeout=5", 4.0),
            (b"timeout=5, max=100", 4.0),
            (b"max=100, Timeout = 5", 4.0),
            (b'timeout="5"', 4.0),
            (b"timeout=1", 0.0),
            (b"timeout=0", 0.0),
            (b"timeout=5, timeout=3", 2.0),
            (b"timeout=60, max=0", 0.0),
            (b"max=1", inf),
            (b"timeout", inf),
            (b"timeout=-1", inf),
            (b"timeout=1.5", inf),
            (b"timeout=1000000000", inf),
            (b"5", inf),
            (b"", inf),
        ):
            self.assertEqual(limit, idle_limit(response((b"Keep-Alive", value))), value)
        two = ((b"Keep-Alive", b"timeout=9"), (b"keep-alive", b"timeout=4"))
        self.assertEqual(3.0, idle_limit(response(*two)))
