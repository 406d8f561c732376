"""How responses are read, wherever the network cuts them, and how they end."""

from __future__ import annotations

from typing import cast

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IPushProducer
from twisted.web.iweb import UNKNOWN_LENGTH, IResponse
from zope.interface.verify import verifyObject

from pyproxy.errors import (
    BadResponse,
    ConnectionTerminated,
    InternalError,
    ResponseHeadTooLarge,
    ResponseIncomplete,
)
from pyproxy.relay.ends import RelayedEnd
from pyproxy.semantics.chunked import LARGE_CHUNK_BYTES
from pyproxy.semantics.messages import FIRST_PIECE_BYTES, MAX_HEAD_BYTES, ResponseHead
from pyproxy.semantics.oddities import Oddity
from pyproxy.upstream.manners import Manners
from pyproxy.upstream.response import ForwardedResponse
from pyproxy.upstream.seams import ReadFlow
from tests.memory import LONG, OK, cuts_around, in_chunks, splits
from tests.upstream.kit import (
    CHUNKED_OK,
    ORIGIN,
    Asked,
    ConnectionTestCase,
    Opened,
    Receiver,
    ViewReceiver,
)

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
"""The 101 that answers this key.  Spec: RFC 6455 1.3."""


class ReceivingTests(ConnectionTestCase):
    """How a response is read."""

    WHOLE = (
        (OK, b"ok"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
        (b"HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n", b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n", b""),
        (CHUNKED_OK + b"3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nX-T: 1\r\n\r\n", b"abc0123456789"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK, b"ok"),
    )

    def test_every_split(self) -> None:
        """A response is read the same however the network cuts it."""
        for octets, content in self.WHOLE:
            for pieces in splits(octets):
                opened = Opened.new()
                receiver = Receiver()
                opened.receive(receiver)
                for piece in pieces:
                    self.assertFalse(opened.transport.paused)
                    opened.transport.deliver(piece)
                self.assertEqual((content, True), (receiver.content, receiver.whole), pieces)
                self.assertEqual([opened.connection], opened.idle)

    def test_empty_line_before_a_response(self) -> None:
        """An empty line before the status line is read one way, however the network cuts it."""
        outcomes = set()
        for pieces in [(b"\r\n" + OK,), *splits(b"\r\n" + OK)]:
            opened = Opened.new()
            answered = opened.send()
            for piece in pieces:
                opened.transport.deliver(piece)
            outcomes.add(self.outcome(answered))
        self.assertEqual(1, len(outcomes), outcomes)

    def outcome(self, answered: Deferred[ForwardedResponse]) -> str:
        """Return what became of a request."""
        seen: list[str] = []
        answered.addCallbacks(
            lambda response: seen.append(str(response.code)),
            lambda failure: seen.append(failure.type.__name__),
        )
        return "".join(seen)

    @given(st.lists(st.binary(min_size=1, max_size=50), max_size=8), st.data())
    def test_any_chunks(self, contents: list[bytes], data: st.DataObject) -> None:
        """Any chunks, cut anywhere, are the same content."""
        octets = CHUNKED_OK + b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in contents)
        octets += b"0\r\n\r\n"
        cuts = sorted(data.draw(st.sets(st.integers(1, len(octets) - 1), max_size=10)))
        opened = Opened.new()
        receiver = Receiver()
        opened.receive(receiver)
        for start, end in zip([0, *cuts], [*cuts, len(octets)], strict=True):
            opened.transport.deliver(octets[start:end])
        self.assertEqual((b"".join(contents), True), (receiver.content, receiver.whole))

    def test_the_head_is_enough(self) -> None:
        """The response is there with its head; the content may take for ever."""
        answered = self.send()
        self.transport.deliver(CHUNKED_OK)
        response = self.successResultOf(answered)
        self.assertTrue(verifyObject(IResponse, response))
        self.assertEqual(
            (200, b"OK", (b"HTTP", 1, 1)), (response.code, response.phrase, response.version)
        )
        self.assertEqual(UNKNOWN_LENGTH, response.length)
        self.assertEqual([b"chunked"], response.headers.getRawHeaders(b"transfer-encoding"))
        self.assertRaises(NotImplementedError, response.setPreviousResponse, response)

    def test_every_read_is_passed_on(self) -> None:
        """Each read reaches the receiver before the next one is awaited."""
        receiver = self.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\na")
        self.assertEqual(b"a", receiver.content)
        self.transport.deliver(b"bc")
        self.assertEqual(b"abc", receiver.content)
        self.assertIsNone(receiver.reason)
        self.transport.deliver(b"def")
        self.assertTrue(receiver.whole)

    def test_nobody_receives_yet(self) -> None:
        """Until somebody receives the content the socket is not read: one read waits at most."""
        answered = self.send()
        self.transport.deliver(CHUNKED_OK + b"3\r\nabc\r\n")
        self.assertEqual("paused", self.transport.producerState)
        receiver = Receiver()
        self.successResultOf(answered).deliverBody(receiver)
        self.assertEqual(b"abc", receiver.content)
        self.assertEqual("producing", self.transport.producerState)

    def test_whole_before_anybody_receives(self) -> None:
        """A response that was whole in its first read reaches a late receiver whole."""
        receiver = self.receive(OK)
        self.assertEqual((b"ok", True), (receiver.content, receiver.whole))
        self.assert_reusable(True)

    def test_broken_before_anybody_receives(self) -> None:
        """A response that broke off meanwhile is broken for a late receiver too."""
        answered = self.send()
        self.transport.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc")
        self.transport.lose()
        receiver = Receiver()
        self.successResultOf(answered).deliverBody(receiver)
        assert receiver.reason is not None
        self.assertEqual(b"abc", receiver.content)
        self.assertIsNotNone(receiver.reason.check(ResponseIncomplete))

    def test_closed_before_anybody_receives(self) -> None:
        """Content that ends with the connection is whole for a late receiver."""
        answered = self.send()
        self.transport.deliver(b"HTTP/1.1 200 OK\r\n\r\nabc")
        self.transport.lose()
        receiver = Receiver()
        self.successResultOf(answered).deliverBody(receiver)
        self.assertEqual((b"abc", True), (receiver.content, receiver.whole))

    def test_backpressure(self) -> None:
        """Who receives may pause the socket, and end it."""
        receiver = self.receive(CHUNKED_OK + b"3\r\nabc\r\n")
        flow = cast(object, receiver.transport)
        assert isinstance(flow, ReadFlow)
        self.assertTrue(verifyObject(IPushProducer, flow))
        flow.pauseProducing()
        self.assertEqual("paused", self.transport.producerState)
        flow.resumeProducing()
        self.assertEqual("producing", self.transport.producerState)
        flow.stopProducing()
        self.network.settle()
        self.assertIsNotNone(self.transport.lost)

    def test_paused_at_the_end(self) -> None:
        """A connection that goes back is read again: its loss has to be noticed."""
        receiver = self.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc")
        flow = cast(object, receiver.transport)
        assert isinstance(flow, ReadFlow)
        flow.pauseProducing()
        self.transport.deliver(b"def")
        self.assert_reusable(True)
        self.assertEqual("producing", self.transport.producerState)

    def test_trailers(self) -> None:
        """Trap, twisted.web client and httptools: trailers are there, apart from the fields."""
        answered = self.send()
        self.transport.deliver(CHUNKED_OK + b"1\r\na\r\n0\r\nX-Sum: 1\r\nx-sum: 2\r\n\r\n")
        response = self.successResultOf(answered)
        response.deliverBody(Receiver())
        self.assertEqual([(b"X-Sum", b"1"), (b"x-sum", b"2")], response.trailers)

    def test_interim_responses(self) -> None:
        """Trap, twisted.web client: every 1xx is told, 100 and 103 alike, in order."""
        asked = Asked()
        answered = self.send(asked)
        self.transport.deliver(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n"
        )
        self.assertNoResult(answered)
        self.transport.deliver(b"\r\n" + OK)
        self.assertEqual(200, self.successResultOf(answered).code)
        self.assertEqual(
            [(100, []), (103, [(b"Link", b"a")])], [(h.status, h.fields) for h in asked.interims]
        )

    def test_answer_to_head(self) -> None:
        """Trap, httptools: a response to HEAD has no content whatever its fields say."""
        for fields in (b"Content-Length: 10", b"Transfer-Encoding: chunked"):
            opened = Opened.new()
            receiver = Receiver()
            opened.receive(receiver, Asked(b"HEAD"))
            opened.transport.deliver(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n\r\n")
            self.assertEqual((b"", True), (receiver.content, receiver.whole))
            self.assertEqual([opened.connection], opened.idle)

    def test_extension_methods(self) -> None:
        """Trap, httptools: a method that nobody has heard of goes out as it is."""
        self.opened.send(Asked(b"x-Purge!"))
        self.assertTrue(self.transport.value().startswith(b"x-Purge! / HTTP/1.1\r\n"))


class EndingTests(ConnectionTestCase):
    """How responses end."""

    def test_until_close(self) -> None:
        """A clean close is the end of content that has no other; a reset is none."""
        for reason, whole in ((ConnectionDone, True), (ConnectionLost, False)):
            opened = Opened.new()
            receiver = Receiver()
            opened.receive(receiver)
            opened.transport.deliver(b"HTTP/1.1 200 OK\r\n\r\nabc")
            opened.transport.lose(reason)
            self.assertEqual((b"abc", whole), (receiver.content, receiver.whole))
            self.assertEqual([], opened.idle)

    def test_until_close_after_a_failed_write(self) -> None:
        """A close is no end of content when a write had met a reset: the kernel tells of it once.

        A server that closes with an upload unread sends that reset.
        """
        for failed in (False, True):
            opened = Opened.new()
            receiver = Receiver()
            opened.receive(receiver)
            opened.transport.deliver(b"HTTP/1.1 200 OK\r\n\r\nabc")
            opened.connection._writer.failed = failed
            opened.transport.lose(ConnectionDone)
            self.assertEqual((b"abc", not failed), (receiver.content, receiver.whole))

    def test_truncated(self) -> None:
        """A close inside a response breaks it (invariant 3), clean or not."""
        for head in (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", CHUNKED_OK):
            for reason in (ConnectionDone, ConnectionLost):
                opened = Opened.new()
                receiver = Receiver()
                opened.receive(receiver)
                opened.transport.deliver(head + b"3\r\nabc")
                opened.transport.lose(reason)
                assert receiver.reason is not None
                self.assertIsNotNone(receiver.reason.check(ResponseIncomplete))

    def test_closed_before_the_head(self) -> None:
        """Whoever waits is told, and whether a part of the head had come (RFC 9209 2.3)."""
        for octets, replied, error in (
            (b"", False, ConnectionTerminated),
            (b"HTTP/1.1 20", True, ResponseIncomplete),
            (b"HTTP/1.1 200 OK\nX: y\n", True, ResponseIncomplete),
            (b"HTTP/1.1 103 Early Hints\r\n\r\n", True, ConnectionTerminated),
            (b"HTTP/1.1 103 Early Hints\r\n\r\nH", True, ResponseIncomplete),
            (ODD_HINTS, True, ConnectionTerminated),
            (ODD_HINTS + b"H", True, ResponseIncomplete),
        ):
            opened = Opened.new()
            answered = opened.send()
            if octets:
                opened.transport.deliver(octets)
            opened.transport.lose()
            self.failureResultOf(answered, error)
            self.assertEqual(replied, opened.connection.replied)

    def test_malformed(self) -> None:
        """A response that two could read differently ends the connection."""
        for octets in (
            b"ICY 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        ):
            opened = Opened.new()
            answered = opened.send()
            opened.transport.deliver(octets)
            self.failureResultOf(answered, BadResponse)
            opened.network.settle()
            self.assertIsNotNone(opened.transport.lost)

    def test_malformed_content(self) -> None:
        """A bad chunk breaks the content that had begun."""
        receiver = self.receive(CHUNKED_OK + b"3\r\nabc\r\n")
        self.transport.deliver(b"xyz\r\n")
        assert receiver.reason is not None
        self.assertIsNotNone(receiver.reason.check(BadResponse))
        self.assert_reusable(False)

    def test_malformed_content_in_the_first_read(self) -> None:
        """Content that is bad from its first octet ends the exchange as well, without a defect."""
        answered = self.send()
        self.transport.deliver(CHUNKED_OK + b"xyz\r\n")
        self.failureResultOf(answered, BadResponse)
        self.assert_reusable(False)

    def test_head_too_large(self) -> None:
        """Trap, httptools: it has no size limits; a head past its bound ends the exchange."""
        answered = self.send()
        self.transport.deliver(b"HTTP/1.1 200 OK\r\nX: " + b"a" * MAX_HEAD_BYTES)
        self.failureResultOf(answered, ResponseHeadTooLarge)

    def test_gone_behind_a_switch(self) -> None:
        """A 101 whose connection has ended since becomes no WebSocket."""
        for withdrawn in (True, False):
            opened = Opened.new()
            asked = Asked(websocket_key=KEY)
            answered = opened.send(asked)
            opened.transport.deliver(SWITCHING)
            if withdrawn:
                asked.request.withdraw()
            else:
                opened.transport.lose()
            self.assertRaises(InternalError, self.successResultOf(answered).detach)


ODD_OK = b"HTTP/1.1  200 OK\nX : a\n b\nContent-Length: 2, 2\n\nok"
ODD_CHUNKS = (
    b"HTTP/1.1 200 OK\r\nX: \x01\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"2 \r\nok\r\n0\r\nX : y\r\n\r\n"
)
ODD_HINTS = b"HTTP/1.1 103 Early  Hints\nLink : a\n\n"


class OddResponseTests(ConnectionTestCase):
    """What is read in one way only is mended (docs/upstreams.rst)."""

    # Octets, whether the connection serves another request, and how many interim responses.
    WHOLE = (
        (ODD_OK, True, 0),
        (ODD_CHUNKS, False, 0),
        (ODD_HINTS + ODD_OK, True, 1),
        (ODD_HINTS + OK, True, 1),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" + ODD_CHUNKS, False, 1),
        (ODD_HINTS + ODD_HINTS + ODD_CHUNKS, False, 2),
    )

    def noting(self) -> tuple[Opened, Manners]:
        """Open a connection to an origin of which something is known."""
        manners = Manners(ORIGIN)
        return Opened.new(manners), manners

    def test_every_split(self) -> None:
        """An odd response is read the same however the network cuts it."""
        for octets, kept, interims in self.WHOLE:
            for pieces in [(octets,), *splits(octets)]:
                for in_place in (False, True):
                    opened, manners = self.noting()
                    receiver, asked = Receiver(), Asked()
                    opened.receive(receiver, asked)
                    for piece in pieces:
                        deliver = opened.transport.deliver_in_place if in_place else None
                        (deliver or opened.transport.deliver)(piece)
                    self.assertEqual((b"ok", True), (receiver.content, receiver.whole), pieces)
                    self.assertEqual(interims, len(asked.interims), pieces)
                    self.assertEqual([opened.connection] * kept, opened.idle, pieces)
                    self.assertTrue(manners._said, pieces)

    def test_large_read(self) -> None:
        """Content behind an odd head is found at its place, however large the read."""
        length = b"HTTP/1.1  200 OK\nContent-Length: %d\n\n" % len(LONG)
        split = LONG[:100] + b"\r\n\r\n" + LONG[104:]
        for head in (length, ODD_HINTS + length, b"HTTP/1.1 103 A\r\n\r\n" + length):
            for pieces in cuts_around(head + split, len(head)):
                opened = Opened.new()
                receiver = Receiver()
                opened.receive(receiver)
                for piece in pieces:
                    opened.transport.deliver_in_place(piece)
                self.assertEqual((split, True), (receiver.content, receiver.whole))
                self.assertEqual([opened.connection], opened.idle)

    def test_next_response(self) -> None:
        """The next response is read strictly from its first octet on: nothing is remembered."""
        self.receive(ODD_OK)
        receiver = self.receive(OK)
        self.assertEqual((b"ok", True), (receiver.content, receiver.whole))

    def test_withdrawn(self) -> None:
        """A request may be withdrawn at an odd interim response."""

        class Leaving(Asked):
            def interim(self, head: ResponseHead) -> None:
                """Ask no more."""
                self.request.withdraw()

        for hints in (ODD_HINTS, b"HTTP/1.1 103 A\r\n\r\n"):
            opened = Opened.new()
            answered = opened.send(Leaving())
            opened.transport.deliver(hints + ODD_OK)
            self.assertNoResult(answered)
            opened.network.settle()
            self.assertIsNotNone(opened.transport.lost)

    def test_endless(self) -> None:
        """An odd chunk is noted when it comes: a stream may have no end, or break off."""
        chunk, plain = b"2 \r\nok\r\n", b"2\r\nok\r\n"
        for pieces in ((CHUNKED_OK + chunk,), (CHUNKED_OK, plain, chunk, chunk)):
            opened, manners = self.noting()
            opened.receive(Receiver())
            for piece in pieces:
                self.assertEqual(set(), manners._said)
                opened.transport.deliver(piece)
                if piece.endswith(chunk):
                    break
            self.assertEqual({Oddity.CHUNK_LINE}, manners._said)

    def test_switch(self) -> None:
        """A 101 may be odd as well; what comes behind it is the WebSocket's."""
        odd = SWITCHING.replace(b"Upgrade:", b"Upgrade :").replace(b"\r\n", b"\n") + b"frames"
        for pieces in [(odd,), *splits(odd)]:
            opened, manners = self.noting()
            opened.connection._make_websocket = lambda: cast(RelayedEnd, Receiver())
            answered = opened.send(Asked(websocket_key=KEY))
            for piece in pieces:
                opened.transport.deliver_in_place(piece)
            response = self.successResultOf(answered)
            self.assertEqual((101, b"frames"), (response.code, response.detach()[1]))
            self.assertEqual({Oddity.BARE_LF, Oddity.BLANK_BEFORE_COLON}, manners._said)

    def test_identity_is_not_kept(self) -> None:
        """The length beside ``identity`` counts, and nothing comes behind it (RFC 9112 6.3)."""
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 2\r\n\r\n"
        for content, whole in ((b"ok", True), (b"o", False)):
            opened = Opened.new()
            receiver = Receiver()
            opened.receive(receiver)
            opened.transport.deliver(head + content)
            opened.transport.lose()
            self.assertEqual(whole, receiver.whole)
            self.assertEqual([], opened.idle)

    def test_login_of_nobody(self) -> None:
        """Who has no client's connection uses one with a login for nothing else."""
        self.receive(b"HTTP/1.1 401 No\r\nWWW-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n")
        self.assert_reusable(False)


class UndueContentTests(ConnectionTestCase):
    """An origin is caught when content follows that was declared and not due."""

    UNDUE = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"

    def caught(self, *pieces: bytes) -> bool:
        """Tell whether a trusted origin is caught, by what follows an answer to HEAD."""
        manners = Manners(ORIGIN, known_silent=True)
        opened = Opened.new(manners)
        opened.receive(Receiver(), Asked(b"HEAD"))
        for piece in pieces:
            opened.transport.deliver(piece)
        if opened.connection.usable:
            answered = opened.send()
            opened.transport.deliver(b"content")
            self.failureResultOf(answered, BadResponse)
        return not manners.known_silent

    def test_with_the_head(self) -> None:
        """In the same read as the head."""
        self.assertTrue(self.caught(self.UNDUE + b"content"))

    def test_for_the_next_response(self) -> None:
        """Or where the next response should begin, which is no response then."""
        self.assertTrue(self.caught(self.UNDUE))

    def test_not_declared(self) -> None:
        """What no head has spoken of is another mistake."""
        nothing = b"HTTP/1.1 200 OK\r\n\r\n"
        self.assertFalse(self.caught(nothing + b"content"))
        self.assertFalse(self.caught(nothing))


class InPlaceTests(ConnectionTestCase):
    """Reads of a plain socket come as views, and their place is used again at once."""

    LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(LONG)
    HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"
    END = b"0\r\nX-Sum: 1\r\n\r\n"
    FAT = b"HTTP/1.1 200 OK\r\nX: %b\r\n" % (b"x" * FIRST_PIECE_BYTES)
    FAT += LENGTH.partition(b"\r\n")[2]

    # The octets before content or a next head, and what follows.
    WHOLE = (
        ((LENGTH,), LONG),
        ((CHUNKED_OK,), in_chunks(LONG, len(LONG)) + END),
        ((CHUNKED_OK,), in_chunks(LONG, 700) + END),
        ((HINTS, LENGTH), LONG),
        ((HINTS, HINTS, CHUNKED_OK), in_chunks(LONG, 5000) + END),
        ((FAT,), LONG),
        ((HINTS, FAT), LONG),
    )

    def receivers(self) -> tuple[Receiver, Receiver]:
        """Return one of each kind."""
        return Receiver(), ViewReceiver()

    def borders(self, heads: tuple[bytes, ...], rest: bytes) -> list[int]:
        """Return where it is interesting to cut a response."""
        ends = [sum(map(len, heads[: count + 1])) for count in range(len(heads))]
        return [*ends, ends[-1] + len(rest), FIRST_PIECE_BYTES, ends[-1] + FIRST_PIECE_BYTES]

    def test_every_border(self) -> None:
        """A response is read the same however it is cut, and nothing keeps a view."""
        for heads, rest in self.WHOLE:
            for pieces in cuts_around(b"".join(heads) + rest, *self.borders(heads, rest)):
                for receiver in self.receivers():
                    opened, asked = Opened.new(), Asked()
                    opened.receive(receiver, asked)
                    for piece in pieces:
                        self.assertFalse(opened.transport.paused)
                        opened.transport.deliver_in_place(piece)
                    context = heads, [len(piece) for piece in pieces]
                    self.assertEqual(LONG, receiver.content, context)
                    self.assertTrue(receiver.whole, context)
                    self.assertEqual([103] * (len(heads) - 1), [h.status for h in asked.interims])
                    self.assertEqual([opened.connection], opened.idle, context)

    def test_late_receiver(self) -> None:
        """What came before anybody receives was copied; one read of it waits."""
        for heads, rest in self.WHOLE:
            for pieces in cuts_around(b"".join(heads) + rest, *self.borders(heads, rest)):
                for receiver in self.receivers():
                    opened = Opened.new()
                    answered = opened.send()
                    waiting = list(pieces)
                    while waiting and not opened.transport.paused:
                        opened.transport.deliver_in_place(waiting.pop(0))
                    self.successResultOf(answered).deliverBody(receiver)
                    for piece in waiting:
                        opened.transport.deliver_in_place(piece)
                    self.assertEqual((LONG, True), (receiver.content, receiver.whole))
                    self.assertEqual([opened.connection], opened.idle)

    def test_nothing_is_copied(self) -> None:
        """Who takes views gets them, from the octets behind the head on; nobody else does."""
        plain, viewing = Receiver(), ViewReceiver()
        for receiver in (plain, viewing):
            opened = Opened.new()
            opened.receive(receiver)
            opened.transport.deliver_in_place(self.LENGTH + LONG[:5000])
            opened.transport.deliver_in_place(LONG[5000:])
            self.assertTrue(receiver.whole)
        self.assertEqual([memoryview, memoryview], viewing.kinds)

    def test_until_close(self) -> None:
        """Content that ends with the connection."""
        for receiver in self.receivers():
            opened = Opened.new()
            opened.receive(receiver)
            opened.transport.deliver_in_place(b"HTTP/1.1 200 OK\r\n\r\n" + LONG)
            opened.transport.deliver_in_place(LONG)
            opened.transport.lose()
            self.assertEqual((LONG * 2, True), (receiver.content, receiver.whole))

    def test_behind_a_response(self) -> None:
        """Octets behind a whole response would be taken for the next one: the connection ends."""
        nothing = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        for method, whole, content in (
            (b"GET", self.LENGTH + LONG, LONG),
            (b"GET", CHUNKED_OK + in_chunks(LONG, 5000) + self.END, LONG),
            (b"GET", nothing, b""),
            (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n", b""),
            (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", b""),
            (b"HEAD", self.LENGTH, b""),
            (b"HEAD", CHUNKED_OK, b""),
        ):
            for behind in (b"x", OK, LONG):
                for pieces in cuts_around(whole + behind, len(whole), reach=2):
                    opened = Opened.new()
                    receiver = ViewReceiver()
                    opened.receive(receiver, Asked(method))
                    for piece in pieces:
                        opened.transport.deliver_in_place(piece)
                    opened.network.settle()
                    self.assertEqual((content, True), (receiver.content, receiver.whole))
                    self.assertFalse(opened.connection.usable)
                    self.assertIsNotNone(opened.transport.lost)

    def test_malformed(self) -> None:
        """What is no response is refused, however large the read it comes in."""
        for octets in (
            LONG,
            b"HTTP/1.1 200 OK\r\nX y\r\n\r\n" + LONG,
            b"HTTP/1.1 200 OK\nX y\n\n" + LONG,
            CHUNKED_OK + b"xyz\r\n" + LONG,
            self.HINTS + b"ICY 200 OK\r\n\r\n" + LONG,
        ):
            opened = Opened.new()
            answered = opened.send()
            opened.transport.deliver_in_place(octets)
            self.failureResultOf(answered, BadResponse)
            self.assertTrue(opened.transport.disconnected)

    def test_head_too_large(self) -> None:
        """The bound of a head holds for one that comes in one read."""
        for head in (
            b"HTTP/1.1 200 OK\r\nX: %b\r\n\r\n" % (b"x" * MAX_HEAD_BYTES),
            b"HTTP/1.1 200 OK\r\nX: " + b"x" * MAX_HEAD_BYTES,
        ):
            opened = Opened.new()
            answered = opened.send()
            opened.transport.deliver_in_place(head)
            self.failureResultOf(answered, ResponseHeadTooLarge)

    def test_behind_a_switch(self) -> None:
        """What comes behind a 101 is the WebSocket's, octet for octet, in one read or in two."""
        for behind in (b"", b"\x81\x02hi", LONG):
            for before in (b"", self.HINTS):
                octets = before + SWITCHING + behind
                for pieces in cuts_around(octets, len(octets) - len(behind)):
                    opened = Opened.new()
                    end = RelayedEnd()
                    opened.connection._make_websocket = lambda end=end: end  # type: ignore[misc]
                    asked = Asked(websocket_key=KEY)
                    answered = opened.send(asked)
                    for piece in pieces:
                        opened.transport.deliver_in_place(piece)
                    self.assertTrue(opened.transport.paused)
                    self.assertEqual((end, behind), self.successResultOf(answered).detach())
                    self.assertFalse(opened.transport.paused)
                    self.assertIs(opened.transport, end.transport)
                    self.assertIs(end, opened.transport.protocol)

    def test_unsolicited(self) -> None:
        """Octets that nobody asked for end an idle connection, in a view as well."""
        self.transport.deliver_in_place(LONG)
        self.assertFalse(self.connection.usable)
        self.assertTrue(self.transport.disconnected)


class AcknowledgingTests(ConnectionTestCase):
    """What leaves a response unfinished is acknowledged at once: the rest may wait for that."""

    LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"
    EVENT = b"5\r\nevent\r\n"
    LINE = b"%x\r\n" % LARGE_CHUNK_BYTES
    LARGE = LINE + bytes(LARGE_CHUNK_BYTES) + b"\r\n"
    ONCE, LASTING = [False], [True]

    def told(self, *pieces: bytes) -> list[list[bool]]:
        """Let a response arrive in pieces; return what the socket was told after each."""
        opened = Opened.new()
        self.addCleanup(opened.network.close)
        opened.receive(Receiver())
        told = opened.transport.socket.told
        after = []
        for piece in pieces:
            opened.transport.deliver(piece)
            after.append(told.copy())
            told.clear()
        return after

    def test_known_length(self) -> None:
        """Each read that leaves content of a known length unfinished, and none that ends it."""
        for pieces, expected in (
            ((self.LONG + b"123456789",), [[]]),
            ((self.LONG, b"123456789"), [self.LASTING, []]),
            ((self.LONG + b"123", b"456", b"789"), [self.LASTING, self.LASTING, []]),
            ((OK,), [[]]),
        ):
            self.assertEqual(expected, self.told(*pieces), pieces)

    def test_chunks(self) -> None:
        """So it is inside a chunk, and behind large ones; the last chunk ends it."""
        half = LARGE_CHUNK_BYTES // 2
        for pieces, expected in (
            ((CHUNKED_OK + self.EVENT + b"0\r\n\r\n",), [[]]),
            ((CHUNKED_OK + b"5\r\nev", b"ent\r\n0\r\n\r\n"), [self.LASTING, []]),
            ((CHUNKED_OK + self.LARGE, b"0\r\n\r\n"), [self.LASTING, []]),
            (
                (CHUNKED_OK, self.LINE + bytes(half), bytes(half) + b"\r\n", b"0\r\n\r\n"),
                [self.ONCE, self.LASTING, [], []],
            ),
        ):
            self.assertEqual(expected, self.told(*pieces), pieces[-1])

    def test_events(self) -> None:
        """The head of a stream is, once, so that its first event comes; no event costs more."""
        for pieces in (
            (CHUNKED_OK, self.EVENT, self.EVENT * 3, self.EVENT),
            (CHUNKED_OK + self.EVENT, self.EVENT),
            (b"HTTP/1.1 200 OK\r\n\r\n", b"event", b"event"),
        ):
            expected = [self.ONCE, *[[]] * (len(pieces) - 1)]
            self.assertEqual(expected, self.told(*pieces), pieces)

    def test_heads(self) -> None:
        """A head that is not whole, and an interim one, behind which another is due."""
        early = b"HTTP/1.1 103 Early Hints\r\n\r\n"
        for pieces, expected in (
            ((OK[:9], OK[9:]), [self.LASTING, []]),
            ((early, OK), [self.LASTING, []]),
            ((early + OK[:20], OK[20:]), [self.LASTING, []]),
            ((early + OK,), [[]]),
        ):
            self.assertEqual(expected, self.told(*pieces), pieces)

    def test_not_of_an_ended_one(self) -> None:
        """A receiver that gives the content up has ended it."""
        answered = self.send()
        self.transport.deliver(self.LONG)
        self.transport.socket.told.clear()

        class Quitter(Receiver):
            def dataReceived(self, data: bytes) -> None:
                assert self.transport is not None
                self.transport.loseConnection()

        self.successResultOf(answered).deliverBody(Quitter())
        self.transport.deliver(b"123")
        self.assertEqual([], self.transport.socket.told)
