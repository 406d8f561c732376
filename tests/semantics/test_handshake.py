"""What opens a WebSocket, and what answers that."""

from __future__ import annotations

import base64
import binascii
import hashlib

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.errors import UpgradeRequired
from pyproxy.semantics.fields import Fields
from pyproxy.semantics.forwarding import connection_options
from pyproxy.semantics.framing import CHUNKED, NO_CONTENT, Framing, Kind
from pyproxy.semantics.handshake import accept_of, check_switch, opening_key, opens_websocket
from pyproxy.semantics.messages import RequestHead, ResponseHead
from tests.semantics import strict

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""The key of an example, and its answer.  Spec: RFC 6455 1.3."""

UPGRADE = (b"Upgrade", b"websocket")
CONNECTION = (b"Connection", b"Upgrade")
VERSION = (b"Sec-WebSocket-Version", b"13")
KEY_FIELD = (b"Sec-WebSocket-Key", KEY)
ACCEPT_FIELD = (b"Sec-WebSocket-Accept", ACCEPT)

OPENING: tuple[Fields, ...] = (
    [UPGRADE, CONNECTION],
    [CONNECTION, UPGRADE],
    [(b"UPGRADE", b"WebSocket"), (b"CONNECTION", b"UPGRADE")],
    [(b"upgrade", b"WEBSOCKET"), (b"connection", b"upgrade")],
    [UPGRADE, (b"Connection", b"keep-alive, Upgrade")],
    [UPGRADE, (b"Connection", b"upgrade,keep-alive")],
    [UPGRADE, (b"Connection", b", ,Upgrade,")],
    [UPGRADE, (b"Connection", b"keep-alive"), (b"X-A", b"b"), CONNECTION],
    [UPGRADE, (b"Connection", b"close, Upgrade")],
    [(b"Upgrade", b"h2c, websocket"), CONNECTION],
    [(b"Upgrade", b"websocket, h2c"), CONNECTION],
    [(b"Upgrade", b"h2c"), UPGRADE, CONNECTION],
    [UPGRADE, UPGRADE, CONNECTION],
)

OTHER: tuple[Fields, ...] = (
    [],
    [UPGRADE],
    [CONNECTION],
    [VERSION, KEY_FIELD],
    [UPGRADE, (b"Connection", b"keep-alive")],
    [UPGRADE, (b"Connection", b"xupgrade")],
    [UPGRADE, (b"Connection", b"upgrades")],
    [UPGRADE, (b"Connection", b"websocket")],
    [(b"Upgrade", b"h2c"), (b"Connection", b"Upgrade, HTTP2-Settings")],
    [(b"Upgrade", b""), CONNECTION],
    [(b"Upgrade", b"web socket"), CONNECTION],
    [(b"Upgrade", b"websockets"), CONNECTION],
    [(b"Upgrade", b"xwebsocket"), CONNECTION],
    # A protocol with a version is another protocol.  RFC 9110 7.8.
    [(b"Upgrade", b"websocket/13"), CONNECTION],
    [(b"Upgrade", b'"websocket"'), CONNECTION],
    [(b"Upgrade", b'"x, websocket"'), CONNECTION],
    [(b"X-Upgrade", b"websocket"), CONNECTION],
    [UPGRADE, (b"Proxy-Connection", b"Upgrade")],
)

WRONG_VERSIONS: tuple[Fields, ...] = (
    [],
    *([(b"Sec-WebSocket-Version", value)] for value in (b"", b"8", b"12", b"14", b"1", b"3")),
    *([(b"Sec-WebSocket-Version", value)] for value in (b"013", b"+13", b"13.0", b"130", b"0x0d")),
    *([(b"Sec-WebSocket-Version", value)] for value in (b"13, 8", b"13,13", b'"13"', b"\xb93")),
    [VERSION, VERSION],
    [VERSION, (b"sec-websocket-version", b"8")],
    [(b"Sec-WebSocket-Version", b"8"), VERSION],
    [(b"Sec_WebSocket_Version", b"13")],
)

WRONG_KEYS: tuple[Fields, ...] = (
    [],
    [KEY_FIELD, KEY_FIELD],
    [KEY_FIELD, (b"sec-websocket-key", b"AAAAAAAAAAAAAAAAAAAAAA==")],
    [(b"Sec_WebSocket_Key", KEY)],
    *(
        [(b"Sec-WebSocket-Key", value)]
        for value in (
            b"",
            b"=",
            b"AAAAAAAAAAAAAAAAAAAA",
            b"AAAAAAAAAAAAAAAAAAAAAA",
            b"AAAAAAAAAAAAAAAAAAAAAA=",
            b"AAAAAAAAAAAAAAAAAAAAAA===",
            b"AAAAAAAAAAAAAAAAAAAAA===",
            b"AAAAAAAAAAAAAAAAAAAAAAA=",
            b"AAAAAAAAAAAAAAAAAAAAAAAA",
            b"AAAAAAAAAAAAAAAAAAAAAAAAAA==",
            b"!!!!!!!!!!!!!!!!!!!!!!==",
            b"AAAAAAAAAAA AAAAAAAAAA==",
            b"AAAAAAAAAA,AAAAAAAAAAA==",
            b"AAAAAAAAAA-_AAAAAAAAAA==",
            b"AAAAAAAAAA=AAAAAAAAAAA==",
            b"AAAAAAAAAAAAAAAAAAAAA\xb2==",
            b'"AAAAAAAAAAAAAAAAAAAAAA=="',
            KEY + b", " + KEY,
            KEY + b"\n",
            # Thirteen octets: an example that is often copied.
            b"SGVsbG8sIHdvcmxkIQ==",
        )
    ),
)

NOMINATED = (
    b"Sec-WebSocket-Key",
    b"sec-websocket-version",
    b"SEC-WEBSOCKET-EXTENSIONS",
    b"Sec-WebSocket-Protocol",
    b"sec-websocket-accept",
    b"sec-websocket-",
)


def opens(fields: Fields, method: bytes = b"GET", minor_version: int = 1) -> bool:
    """Tell whether a request with some fields opens a WebSocket."""
    head = RequestHead(method, b"/", minor_version, fields)
    return opens_websocket(head, connection_options(head))


def key_of(fields: Fields, framing: Framing = NO_CONTENT) -> bytes:
    """Return the key of an opening handshake with some fields."""
    head = RequestHead(b"GET", b"/", 1, [UPGRADE, CONNECTION, *fields])
    return opening_key(head, connection_options(head), framing)


def check(fields: Fields, key: bytes = KEY, minor_version: int = 1) -> None:
    """Check a 101 with some fields."""
    head = ResponseHead(101, b"Switching Protocols", minor_version, fields)
    check_switch(head, connection_options(head), key)


class OpeningTests(SynchronousTestCase):
    """Which requests open a WebSocket."""

    def test_opening(self) -> None:
        """Upgrade names ``websocket`` and Connection ``upgrade``, in lists and in any case.

        RFC 6455 4.2.1 (3, 4).
        """
        for fields in OPENING:
            self.assertTrue(opens(fields), fields)

    def test_other_requests(self) -> None:
        """Nothing else does, and no other protocol.  RFC 9110 7.8."""
        for fields in OTHER:
            self.assertFalse(opens(fields), fields)

    def test_method_and_version(self) -> None:
        """Only GET opens one, and only in HTTP/1.1: HTTP/1.0 has no Upgrade.

        RFC 6455 4.2.1 (1), RFC 9110 7.8.
        """
        for fields in OPENING:
            for method in (b"POST", b"HEAD", b"OPTIONS", b"get", b"GETS"):
                self.assertFalse(opens(fields, method), method)
            self.assertFalse(opens(fields, minor_version=0), fields)

    def test_what_is_wrong_opens_none_the_less(self) -> None:
        """A wrong version or key makes a wrong opening handshake, and no plain request of it."""
        for fields in (*WRONG_VERSIONS, *WRONG_KEYS):
            self.assertTrue(opens([UPGRADE, CONNECTION, *fields]), fields)


class KeyTests(SynchronousTestCase):
    """The key of an opening handshake, and what has to stand beside it."""

    def test_key(self) -> None:
        """Version 13 and one key of 16 octets, wherever they stand.  RFC 6455 4.2.1 (5, 6)."""
        for fields in (
            [VERSION, KEY_FIELD],
            [KEY_FIELD, (b"X-A", b"b"), VERSION],
            [(b"SEC-WEBSOCKET-KEY", KEY), (b"sec-websocket-version", b"13")],
            [VERSION, KEY_FIELD, (b"Sec-WebSocket-Protocol", b"a"), (b"Origin", b"http://h")],
        ):
            self.assertEqual(KEY, key_of(fields), fields)

    def test_version(self) -> None:
        """Another version is told so, not that it is malformed, whatever else is wrong.

        RFC 6455 4.2.2 (4), 4.4.
        """
        for fields in WRONG_VERSIONS:
            for key in (KEY_FIELD, (b"Sec-WebSocket-Key", b"")):
                for framing in (NO_CONTENT, CHUNKED):
                    self.assertRaises(UpgradeRequired, key_of, [*fields, key], framing)

    def test_wrong_keys(self) -> None:
        """No key, several, and what is no base64 of 16 octets.  RFC 6455 4.2.1 (5), 11.3.1."""
        for fields in WRONG_KEYS:
            error = strict.refusal(key_of, [VERSION, *fields])
            for _, value in fields:
                self.assertNotIn(value.decode("latin-1") or "nothing", str(error))

    @given(st.binary(min_size=16, max_size=16))
    def test_every_nonce(self, nonce: bytes) -> None:
        """Any 16 octets are a key.  RFC 6455 4.1 (7 of the client's requirements)."""
        key = base64.b64encode(nonce)
        self.assertEqual(key, key_of([VERSION, (b"Sec-WebSocket-Key", key)]))

    @given(st.text("AQgwBz+/=- _", min_size=20, max_size=26).map(str.encode))
    @example(b"AAAAAAAAAAAAAAAAAAAAAB==")
    @example(b"/////////////////////w==")
    @example(b"++++++++++++++++++++++==")
    def test_what_decodes_to_16_octets(self, value: bytes) -> None:
        """What a decoder takes for 16 octets is a key, and nothing else.

        RFC 6455 4.2.1 (5), RFC 4648 3.5: bits after the last octet are the decoder's matter.
        """
        try:
            is_key = len(base64.b64decode(value, validate=True)) == 16
        except binascii.Error:
            is_key = False
        fields = [VERSION, (b"Sec-WebSocket-Key", value)]
        if is_key:
            self.assertEqual(value, key_of(fields))
        else:
            strict.refusal(key_of, fields)

    def test_content(self) -> None:
        """Content could be read as frames by one of two readers; none at all is no content."""
        for framing in (CHUNKED, Framing(Kind.LENGTH, 1), Framing(Kind.LENGTH, 10**18 - 1)):
            strict.refusal(key_of, [VERSION, KEY_FIELD], framing)
        self.assertEqual(KEY, key_of([VERSION, KEY_FIELD], Framing(Kind.LENGTH, 0)))

    def test_nominated(self) -> None:
        """No field of the handshake can be nominated away: the upstream would see another one.

        RFC 9110 7.6.1.
        """
        for name in NOMINATED:
            for value in (name, b"keep-alive, " + name):
                strict.refusal(key_of, [VERSION, KEY_FIELD, (b"Connection", value)])
        for name in (b"Origin", b"x-sec-websocket-key", b"sec-websocket"):
            self.assertEqual(KEY, key_of([VERSION, KEY_FIELD, (b"Connection", name)]), name)


class AcceptTests(SynchronousTestCase):
    """The answer to a key."""

    def test_example(self) -> None:
        """The answer of RFC 6455 1.3 to the key that stands there."""
        self.assertEqual(ACCEPT, accept_of(KEY))

    @given(st.binary(min_size=16, max_size=16).map(base64.b64encode))
    def test_accept(self, key: bytes) -> None:
        """The answer is a digest of the key as it was written.  RFC 6455 4.2.2 (5.4)."""
        written = key.decode() + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        digest = bytes.fromhex(hashlib.sha1(written.encode(), usedforsecurity=False).hexdigest())
        self.assertEqual(digest, base64.b64decode(accept_of(key), validate=True))

    def test_key_is_not_decoded(self) -> None:
        """Two ways to write the same octets have two answers.  RFC 6455 4.2.2 (5.4)."""
        self.assertNotEqual(
            accept_of(b"AAAAAAAAAAAAAAAAAAAAAA=="), accept_of(b"AAAAAAAAAAAAAAAAAAAAAB==")
        )


class SwitchTests(SynchronousTestCase):
    """A 101 that opens the WebSocket that was asked for."""

    def test_right(self) -> None:
        """Upgrade, Connection and the answer to the key; all else is the two ends' matter.

        RFC 6455 4.1 (2, 3, 4 of the server's response).
        """
        for fields in (
            [UPGRADE, CONNECTION, ACCEPT_FIELD],
            [(b"SEC-WEBSOCKET-ACCEPT", ACCEPT), (b"connection", b"upgrade"), UPGRADE],
            [(b"UPGRADE", b"WebSocket"), (b"Connection", b"keep-alive, UPGRADE"), ACCEPT_FIELD],
            [
                *(UPGRADE, CONNECTION, ACCEPT_FIELD),
                (b"Sec-WebSocket-Protocol", b"never-offered"),
                (b"Sec-WebSocket-Extensions", b"x-unknown; a=1"),
                (b"Set-Cookie", b"a=b"),
            ],
        ):
            check(fields)

    def test_wrong(self) -> None:
        """A 101 that means another protocol, or nothing at all.  RFC 6455 4.1."""
        for fields in (
            [],
            [ACCEPT_FIELD],
            [UPGRADE, ACCEPT_FIELD],
            [CONNECTION, ACCEPT_FIELD],
            [UPGRADE, (b"Connection", b"close"), ACCEPT_FIELD],
            [(b"Upgrade", b"h2c"), CONNECTION, ACCEPT_FIELD],
            [(b"Upgrade", b""), CONNECTION, ACCEPT_FIELD],
            [(b"Upgrade", b"websocket, h2c"), CONNECTION, ACCEPT_FIELD],
            [(b"Upgrade", b"h2c"), UPGRADE, CONNECTION, ACCEPT_FIELD],
            [(b"Upgrade", b"websocket/13"), CONNECTION, ACCEPT_FIELD],
        ):
            strict.refusal(check, fields)

    def test_wrong_answers(self) -> None:
        """No answer, several, or that to another key.  RFC 6455 4.1 (4)."""
        for answers in (
            [],
            [ACCEPT_FIELD, ACCEPT_FIELD],
            [ACCEPT_FIELD, (b"sec-websocket-accept", b"")],
            *(
                [(b"Sec-WebSocket-Accept", value)]
                for value in (
                    b"",
                    KEY,
                    ACCEPT.lower(),
                    ACCEPT.rstrip(b"="),
                    ACCEPT + b"=",
                    b'"' + ACCEPT + b'"',
                    ACCEPT + b", " + ACCEPT,
                    accept_of(b"AAAAAAAAAAAAAAAAAAAAAA=="),
                )
            ),
        ):
            error = strict.refusal(check, [UPGRADE, CONNECTION, *answers])
            self.assertNotIn(ACCEPT.decode(), str(error))
        strict.refusal(check, [UPGRADE, CONNECTION, ACCEPT_FIELD], b"AAAAAAAAAAAAAAAAAAAAAA==")

    def test_old_version(self) -> None:
        """HTTP/1.0 switches no protocols.  RFC 9110 7.8."""
        strict.refusal(check, [UPGRADE, CONNECTION, ACCEPT_FIELD], minor_version=0)

    def test_nominated(self) -> None:
        """What the upstream chose cannot be nominated away: the client would not learn of it.

        RFC 9110 7.6.1.
        """
        for name in NOMINATED:
            fields = [UPGRADE, (b"Connection", b"Upgrade, " + name), ACCEPT_FIELD]
            strict.refusal(check, fields)
