"""The tree of what can go wrong."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus

from twisted.trial.unittest import SynchronousTestCase

from pyproxy import errors
from pyproxy.errors import (
    Blame,
    ClientError,
    ConnectFailed,
    Exhausted,
    Malformed,
    ProxyError,
    UpstreamError,
)

STATUS = {
    "BadRequest": 400,
    "TargetClimbs": 400,
    "RouteNotFound": 404,
    "MethodRefused": 405,
    "ClientTimeout": 408,
    "ClientMessageTooBig": 413,
    "ContentTooLarge": 413,
    "UriTooLong": 414,
    "UpgradeRequired": 426,
    "FieldsTooLarge": 431,
    "InternalError": 500,
    "CodingUnsupported": 501,
    "BadResponse": 502,
    "CertificateRefused": 502,
    "ConnectionRefused": 502,
    "ConnectionTerminated": 502,
    "NameNotResolved": 502,
    "ResponseHeadTooLarge": 502,
    "ResponseIncomplete": 502,
    "TLSFailed": 502,
    "UpstreamMessageTooBig": 502,
    "Exhausted": 503,
    "Stopped": 503,
    "Unavailable": 503,
    "ConnectTimeout": 504,
    "FirstByteTimeout": 504,
    "ReadTimeout": 504,
    "WriteTimeout": 504,
    "VersionUnsupported": 505,
    "LoopDetected": 508,
}

CLOSE_CODES = {
    "ClientMessageTooBig": 1009,
    "UpstreamMessageTooBig": 1009,
    "ReadTimeout": 1001,
    "Unavailable": 1001,
}
"""What the ends of an open WebSocket are told, where it is not 1011.  Spec: RFC 6455 7.4.1."""

REGISTERED = frozenset(
    {
        "dns_timeout",
        "dns_error",
        "destination_not_found",
        "destination_unavailable",
        "destination_ip_prohibited",
        "destination_ip_unroutable",
        "connection_refused",
        "connection_terminated",
        "connection_timeout",
        "connection_read_timeout",
        "connection_write_timeout",
        "connection_limit_reached",
        "tls_protocol_error",
        "tls_certificate_error",
        "tls_alert_received",
        "http_request_error",
        "http_request_denied",
        "http_response_incomplete",
        "http_response_header_section_size",
        "http_response_header_size",
        "http_response_body_size",
        "http_response_trailer_section_size",
        "http_response_trailer_size",
        "http_response_transfer_coding",
        "http_response_content_coding",
        "http_response_timeout",
        "http_upgrade_failed",
        "http_protocol_error",
        "proxy_internal_response",
        "proxy_internal_error",
        "proxy_configuration_error",
        "proxy_loop_detected",
    }
)
"""Proxy Error Types.  Spec: RFC 9209 2.3."""


def below(base: type[ProxyError]) -> Iterator[type[ProxyError]]:
    """Return a class and every one below it."""
    yield base
    for each in base.__subclasses__():
        yield from below(each)


class TreeTests(SynchronousTestCase):
    """The class of an error says all that the client is told."""

    def test_status(self) -> None:
        """Every error has the status that RFC 9110 15 gives to its case (508: RFC 5842 7.2)."""
        for name, status in STATUS.items():
            error = getattr(errors, name)("a text")
            self.assertEqual(status, error.status, name)
            self.assertEqual("a text", error.detail)
            self.assertEqual("a text", str(error))

    def test_titles(self) -> None:
        """The title is the status in words, printable as a reason phrase.  RFC 9110 15."""
        for each in below(ProxyError):
            # Python 3.11 still has the words of RFC 7231 for these two.
            renamed = {413: "Content Too Large", 414: "URI Too Long"}
            self.assertEqual(renamed.get(each.status, HTTPStatus(each.status).phrase), each.title)

    def test_error_types(self) -> None:
        """The error type is a registered one.  RFC 9209 2.3."""
        for each in below(ProxyError):
            self.assertIn(each.error_type, REGISTERED, each.__name__)

    def test_close_codes(self) -> None:
        """A message too big is 1009, going away 1001, and what is unexpected 1011.

        RFC 6455 7.4.1: no other code, and none that must not be sent, such as 1006.
        """
        for each in below(ProxyError):
            self.assertEqual(CLOSE_CODES.get(each.__name__, 1011), each.close_code, each.__name__)

    def test_types_of_messages_too_big(self) -> None:
        """A message too big is told by who sent it.  RFC 9209 2.3.17, 2.3.21."""
        self.assertEqual("http_request_denied", errors.ClientMessageTooBig.error_type)
        self.assertEqual("http_response_body_size", errors.UpstreamMessageTooBig.error_type)

    def test_remedies(self) -> None:
        """Every error says in one sentence what to do."""
        for each in below(ProxyError):
            self.assertTrue(each.remedy.isascii() and each.remedy.endswith("."), each.__name__)

    def test_blame(self) -> None:
        """4xx is the client's fault, 502 and 504 the upstream's, the rest the proxy's.

        But for the 504 of a client who forbids to ask the upstream.  RFC 9111 5.2.1.7.
        """
        for each in below(ProxyError):
            if issubclass(each, ClientError):
                expected = Blame.CLIENT
            elif issubclass(each, UpstreamError):
                expected = Blame.UPSTREAM
            else:
                expected = Blame.PROXY
            self.assertEqual(expected, each.blame, each.__name__)
            if 400 <= each.status < 500:
                self.assertEqual(Blame.CLIENT, each.blame, each.__name__)
            if each.status in (502, 504) and each is not errors.NotCached:
                self.assertEqual(Blame.UPSTREAM, each.blame, each.__name__)

    def test_what_may_be_sent_again(self) -> None:
        """Only a request of which nothing was sent may be sent again.  RFC 9110 9.2.2."""
        safe = {each for each in below(ProxyError) if each.retry_safe}
        self.assertEqual({*below(ConnectFailed), Exhausted}, safe)

    def test_malformed_is_no_proxy_error(self) -> None:
        """The pure rules do not know who sent a message; each side translates for itself."""
        self.assertFalse(issubclass(Malformed, ProxyError))
