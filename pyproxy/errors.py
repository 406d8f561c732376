"""What can go wrong, as a tree of classes.

The class of an error fixes its status, who is to blame and whether the request may be sent again;
the place that raises it only says what happened.  Texts must never hold a field value, a secret or
content: they are shown to clients and written to logs.  What the operator alone needs goes into
``for_log``.
"""

from __future__ import annotations

from enum import Enum
from typing import ClassVar


class Blame(Enum):
    """Whose fault an error is."""

    CLIENT = "client"
    UPSTREAM = "upstream"
    PROXY = "proxy"


class Malformed(Exception):
    """A message, or a part of one, that two parsers could read differently or not at all.

    Raised by the pure rules, which do not know who sent the message.  The adapter of each side
    turns it into ``BadRequest`` or ``BadResponse``.
    """


class HeadTooLarge(Malformed):
    """A head or trailer section with more octets or fields than its bound."""


class TargetTooLong(Malformed):
    """A request target with more octets than its bound."""


class UnknownVersion(Malformed):
    """A start line that names a version other than HTTP/1.0 and HTTP/1.1."""


class UnknownCoding(Malformed):
    """A Transfer-Encoding that names a coding other than ``chunked``."""


class ProxyError(Exception):
    """An exchange that the proxy itself has to end.

    Class attributes:
        status: what the client gets, when no head was sent to it yet.
        title: the status in words, for the ``title`` of a problem document.
        error_type: the registered Proxy Error Type.
        remedy: one sentence that says what to do.
        retry_safe: the request provably never reached the upstream.
        close_code: what both ends of an open WebSocket are told.

    Attributes:
        fields: what its response has beside what every such response has.

    Spec: RFC 9110 15, RFC 9209 2.3, RFC 6455 7.4.1.
    """

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal Server Error"
    blame: ClassVar[Blame] = Blame.PROXY
    error_type: ClassVar[str] = "proxy_internal_error"
    remedy: ClassVar[str] = "Look for the request id in the proxy's log."
    retry_safe: ClassVar[bool] = False
    close_code: ClassVar[int] = 1011

    def __init__(self, detail: str, for_log: str = "") -> None:
        """Describe what happened.  Args: what the log says in its place, if that is more."""
        super().__init__(detail)
        self.detail = detail
        self.for_log = for_log or detail
        self.fields: tuple[tuple[bytes, bytes], ...] = ()


class InternalError(ProxyError):
    """A defect of the proxy; the log has its traceback."""


# --- the client is to blame -------------------------------------------------------------------


class ClientError(ProxyError):
    """The request cannot be forwarded as it is."""

    blame = Blame.CLIENT
    error_type = "http_request_error"


class BadRequest(ClientError):
    """A request that is malformed or ambiguous."""

    status = 400
    title = "Bad Request"
    remedy = (
        "Send a request that follows RFC 9112, and RFC 6455 if it opens a WebSocket; "
        "the connection is closed."
    )


class TargetClimbs(ClientError):
    """A target whose decoded form leaves the path that the proxy serves."""

    status = 400
    title = "Bad Request"
    error_type = "http_request_denied"
    remedy = "Ask for a path without dot segments that lead above the target's base path."


class TargetAmbiguous(ClientError):
    """A target that one reader takes for another route's than another reader does."""

    status = 400
    title = "Bad Request"
    error_type = "http_request_denied"
    remedy = (
        "Ask for the path without dot segments, double slashes, `;` and needless percent-encoding."
    )


class RouteNotFound(ClientError):
    """A target that no route serves."""

    status = 404
    title = "Not Found"
    error_type = "destination_not_found"
    remedy = "Ask for a host and a path that the proxy was told to serve."


class MethodRefused(ClientError):
    """A method that a reverse proxy does not carry."""

    status = 405
    title = "Method Not Allowed"
    error_type = "http_request_denied"
    remedy = "Use one of the methods in Allow."

    def __init__(self, detail: str, allow: bytes | None = None) -> None:
        """Args: the methods of Allow, None for those that every route has."""
        super().__init__(detail)
        self.allow = allow


class ClientTimeout(ClientError):
    """A client that stopped sending."""

    status = 408
    title = "Request Timeout"
    remedy = "Send the request again, without a pause in its head or content."


class ContentTooLarge(ClientError):
    """Request content past the configured bound."""

    status = 413
    title = "Content Too Large"
    error_type = "http_request_denied"
    remedy = "Send less content, or have the operator raise --max-body."


class CrossOriginRefused(ClientError):
    """A request that a foreign web page made a browser send, where it would spend a credential."""

    status = 403
    title = "Forbidden"
    error_type = "http_request_denied"
    remedy = (
        "If that page may use the proxy, have the operator say --allow-origin with its origin, "
        "which the log names."
    )


class MisdirectedRequest(ClientError):
    """A request for a host by which the proxy is not known, where it would spend a credential."""

    status = 421
    title = "Misdirected Request"
    error_type = "http_request_denied"
    remedy = (
        "Ask by localhost or the proxy's own address, or have the operator say --allow-host with "
        "the host, which the log names."
    )


class NotCached(ClientError):
    """A request that may be answered by what is stored only, when nothing is."""

    status = 504
    title = "Gateway Timeout"
    error_type = "http_request_denied"
    remedy = "Ask without `Cache-Control: only-if-cached`."


class UriTooLong(ClientError):
    """A request target past its bound."""

    status = 414
    title = "URI Too Long"
    remedy = "Send a shorter target; put long input in the content of a POST."


class UpgradeRequired(ClientError):
    """An opening handshake in a version of WebSocket that is not spoken here."""

    status = 426
    title = "Upgrade Required"
    remedy = "Open the WebSocket with Sec-WebSocket-Version: 13 (RFC 6455)."


class ClientMessageTooBig(ClientError):
    """A WebSocket message of the client past the configured bound; never a response."""

    status = 413
    title = "Content Too Large"
    error_type = "http_request_denied"
    remedy = "Send smaller messages, or have the operator raise --ws-max-message."
    close_code = 1009


class FieldsTooLarge(ClientError):
    """A head with more octets or fields than its bound."""

    status = 431
    title = "Request Header Fields Too Large"
    remedy = "Send fewer or shorter fields; large cookies are the usual cause."


class CodingUnsupported(ClientError):
    """A request whose content has a transfer coding that is not understood here."""

    status = 501
    title = "Not Implemented"
    remedy = (
        "Send the content with `Transfer-Encoding: chunked` alone, or with Content-Length; "
        "the connection is closed."
    )


class VersionUnsupported(ClientError):
    """A request in a version that is not spoken here."""

    status = 505
    title = "HTTP Version Not Supported"
    remedy = "Use HTTP/1.1 or HTTP/1.0."


class LoopDetected(ProxyError):
    """A request that has already passed through this instance."""

    status = 508
    title = "Loop Detected"
    error_type = "proxy_loop_detected"
    remedy = "Have the operator point --target at the backend and not at the proxy."


# --- the upstream is to blame -----------------------------------------------------------------


class UpstreamError(ProxyError):
    """No usable response came from the upstream."""

    status = 502
    title = "Bad Gateway"
    blame = Blame.UPSTREAM
    error_type = "http_protocol_error"
    remedy = "Look at the upstream's own log; try again later."


class ConnectFailed(UpstreamError):
    """No connection to the upstream came about; nothing was sent."""

    error_type = "destination_unavailable"
    remedy = (
        "Check that the upstream runs, and that --target (or --upstream-socket) names where it "
        "listens."
    )
    retry_safe = True


class ConnectionRefused(ConnectFailed):
    """The upstream's host answered that nothing listens there."""

    error_type = "connection_refused"


class NameNotResolved(ConnectFailed):
    """The upstream's name has no address."""

    error_type = "dns_error"
    remedy = "Check the spelling of the host in --target and the proxy's resolver."


class CertificateRefused(ConnectFailed):
    """The upstream's certificate does not prove that it is the target."""

    error_type = "tls_certificate_error"
    remedy = (
        "Name the target as its certificate does, trust its issuer with --upstream-ca, or mend the "
        "certificate."
    )


class TLSFailed(ConnectFailed):
    """The TLS handshake with the upstream failed for another reason than its certificate."""

    error_type = "tls_protocol_error"
    remedy = "Check that --target speaks TLS on that port, and with which versions."


class ConnectTimeout(ConnectFailed):
    """No connection to the upstream within the limit; nothing was sent."""

    status = 504
    title = "Gateway Timeout"
    error_type = "connection_timeout"


class ConnectionTerminated(UpstreamError):
    """The upstream closed the connection before it answered."""

    error_type = "connection_terminated"


class BadResponse(UpstreamError):
    """A response that is malformed or ambiguous."""

    error_type = "http_protocol_error"
    remedy = "Mend the upstream: its response does not follow RFC 9112."


class ResponseHeadTooLarge(UpstreamError):
    """A response head with more octets or fields than its bound."""

    error_type = "http_response_header_section_size"
    remedy = "Have the upstream send fewer or shorter fields."


class ResponseIncomplete(UpstreamError):
    """The upstream closed the connection in the middle of a response, or of its head."""

    error_type = "http_response_incomplete"


class FirstByteTimeout(UpstreamError):
    """No response head within the limit."""

    status = 504
    title = "Gateway Timeout"
    error_type = "http_response_timeout"
    remedy = "Try again later, or have the operator raise --first-byte-timeout."


class ReadTimeout(UpstreamError):
    """Nothing moved in the middle of a response within the limit."""

    status = 504
    title = "Gateway Timeout"
    error_type = "connection_read_timeout"
    remedy = "Try again later, or have the operator raise --idle-timeout."
    close_code = 1001


class UpstreamMessageTooBig(UpstreamError):
    """A WebSocket message of the upstream past the configured bound; never a response."""

    error_type = "http_response_body_size"
    remedy = "Have the upstream send smaller messages, or the operator raise --ws-max-message."
    close_code = 1009


class WriteTimeout(UpstreamError):
    """The upstream did not take the request's content within the limit."""

    status = 504
    title = "Gateway Timeout"
    error_type = "connection_write_timeout"
    remedy = "Try again later, or have the operator raise --upload-timeout."


# --- the proxy has to say no ------------------------------------------------------------------


class Unavailable(ProxyError):
    """The proxy is ending."""

    status = 503
    title = "Service Unavailable"
    error_type = "connection_limit_reached"
    remedy = "Try again in a moment."
    close_code = 1001


class Stopped(ProxyError):
    """The operator has ended the exchange."""

    status = 503
    title = "Service Unavailable"
    error_type = "http_request_denied"
    remedy = "Ask the operator, who ended it by hand, before you send it again."


class Exhausted(ProxyError):
    """The proxy's machine has no descriptor or memory left for a connection."""

    status = 503
    title = "Service Unavailable"
    error_type = "connection_limit_reached"
    remedy = "Try again in a moment; EMFILE asks for a higher limit of open files (ulimit -n)."
    retry_safe = True
