"""The two directions of content: pause, resume, stop, refuse."""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IProtocol, IPushProducer
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseDone
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from zope.interface.verify import verifyObject

from pyproxy.errors import ClientTimeout, ContentTooLarge, ProxyError, ResponseIncomplete
from pyproxy.relay.content import RESPONSE_DONE, Download, Upload
from pyproxy.relay.pausing import Hold, Valve
from pyproxy.semantics.fields import Fields, Octets
from pyproxy.semantics.framing import CHUNKED, Framing, Kind


def spoiled(octets: bytes) -> tuple[memoryview, bytearray]:
    """Return a view of octets, and the place that it shows, to be used again."""
    place = bytearray(octets)
    return memoryview(place), place


class UploadTests(SynchronousTestCase):
    """A request's content: at most one read of it waits here."""

    def setUp(self) -> None:
        """Make an upload of ten octets between a client's transport and an upstream's."""
        self.client = StringTransport()
        self.valve = Valve(self.client)
        self.upstream = StringTransport()
        self.errors: list[ProxyError] = []
        self.upload = self.make(Framing(Kind.LENGTH, 10))

    def make(self, framing: Framing, most: int | None = None) -> Upload:
        """Make an upload whose failures are noted."""
        upload = Upload(framing, self.valve, most)
        upload.fail = self.errors.append
        return upload

    def test_interface(self) -> None:
        """It is a body producer as twisted.web and treq know them."""
        self.assertTrue(verifyObject(IBodyProducer, self.upload))
        self.assertEqual(10, self.upload.length)
        self.assertEqual(UNKNOWN_LENGTH, self.make(CHUNKED).length)

    def test_unclaimed_octets(self) -> None:
        """Until the upstream asks, one read waits and the client's socket is not read."""
        self.upload.write(b"abc")
        self.assertEqual("paused", self.client.producerState)
        self.upload.startProducing(self.upstream)
        self.assertEqual(b"abc", self.upstream.value())
        self.assertEqual("producing", self.client.producerState)

    def test_nothing_arrived_yet(self) -> None:
        """A client that has sent no content yet is not paused: its leaving has to be seen."""
        self.assertEqual("producing", self.client.producerState)
        self.upload.startProducing(self.upstream)
        self.assertEqual(b"", self.upstream.value())

    def test_every_read_is_a_write(self) -> None:
        """Octets go on at once, and the end is told."""
        done = self.upload.startProducing(self.upstream)
        self.upload.write(b"abcde")
        self.assertEqual(b"abcde", self.upstream.value())
        self.upload.write(b"fghij")
        self.assertNoResult(done)
        self.upload.finish([(b"X-Sum", b"1")])
        self.assertIsNone(self.successResultOf(done))
        self.assertEqual((10, True), (self.upload.count, self.upload.complete))
        self.assertEqual([(b"X-Sum", b"1")], self.upload.trailers)

    def test_complete_before_the_upstream_asks(self) -> None:
        """A small upload waits whole, and the client may send its next request."""
        self.upload.write(b"abcdefghij")
        self.upload.finish([])
        self.assertEqual("producing", self.client.producerState)
        self.assertIsNone(self.successResultOf(self.upload.startProducing(self.upstream)))
        self.assertEqual(b"abcdefghij", self.upstream.value())

    def test_full_upstream(self) -> None:
        """The upstream's pause is the client's."""
        self.upload.startProducing(self.upstream)
        self.upload.pauseProducing()
        self.assertEqual(("paused", True), (self.client.producerState, self.upload.paused))
        self.upload.resumeProducing()
        self.assertEqual(("producing", False), (self.client.producerState, self.upload.paused))

    def test_full_at_the_end(self) -> None:
        """FULL is let go at the end: the next request is read though the upstream is full."""
        self.upload.startProducing(self.upstream)
        self.upload.pauseProducing()
        self.upload.finish([])
        self.assertEqual("producing", self.client.producerState)
        self.upload.pauseProducing()
        self.assertEqual("producing", self.client.producerState)

    def test_other_holders_stay(self) -> None:
        """Whoever else holds the client's flow keeps it held."""
        self.valve.hold(Hold.PIPELINE)
        self.upload.startProducing(self.upstream)
        self.upload.pauseProducing()
        self.upload.finish([])
        self.assertEqual("paused", self.client.producerState)

    def test_stop(self) -> None:
        """After a stop nothing is written, nothing waits, and the client is read to its end."""
        done = self.upload.startProducing(self.upstream)
        self.upload.pauseProducing()
        self.upload.stopProducing()
        self.assertEqual("producing", self.client.producerState)
        self.upload.write(b"abc")
        self.assertEqual(b"", self.upstream.value())
        self.assertEqual("producing", self.client.producerState)
        self.assertEqual(3, self.upload.count)
        self.upload.finish([])
        self.assertNoResult(done)

    def test_stop_before_the_upstream_asks(self) -> None:
        """What waited is dropped."""
        self.upload.write(b"abc")
        self.upload.stopProducing()
        self.assertEqual("producing", self.client.producerState)
        self.upload.write(b"def")
        self.assertEqual("producing", self.client.producerState)

    def test_views(self) -> None:
        """What waits was copied: the place of a view is used again; what passes need not be."""
        for give in (self.upload.preload, self.upload.write):
            view, place = spoiled(b"abc")
            give(view)
            place[:] = b"!!!"
        self.upload.startProducing(self.upstream)
        self.assertEqual(b"abcabc", self.upstream.value())

    def test_preloaded(self) -> None:
        """What came with the head is counted and waits; nothing is paused before it stays there."""
        self.upload.preload(b"abc")
        self.assertEqual(("producing", 3), (self.client.producerState, self.upload.count))
        self.upload.await_claim()
        self.assertEqual("paused", self.client.producerState)
        self.upload.startProducing(self.upstream)
        self.assertEqual(b"abc", self.upstream.value())
        self.assertEqual("producing", self.client.producerState)

    def test_nothing_to_claim(self) -> None:
        """A client is not paused for what is complete, was claimed already, or never came."""
        whole, claimed, nothing = (self.make(Framing(Kind.LENGTH, 3)) for _ in range(3))
        whole.preload(b"abc")
        whole.finish([])
        claimed.preload(b"ab")
        claimed.startProducing(self.upstream)
        nothing.preload(b"")
        for upload in (whole, claimed, nothing):
            upload.await_claim()
            self.assertEqual("producing", self.client.producerState)

    def test_claim_of_what_is_dropped(self) -> None:
        """Nobody asks for content that was stopped: its client is read to its end."""
        self.upload.preload(b"abc")
        self.upload.stopProducing()
        self.upload.await_claim()
        self.assertEqual("producing", self.client.producerState)

    def test_take_whole(self) -> None:
        """Content that is complete is taken in one piece; any other is not touched."""
        self.upload.preload(b"abcde")
        self.assertIsNone(self.upload.take_whole())
        self.upload.write(b"fghij")
        self.assertIsNone(self.upload.take_whole())
        self.upload.finish([])
        self.assertEqual(b"abcdefghij", self.upload.take_whole())
        self.assertEqual(b"", self.upload.take_whole())

    def test_trailers(self) -> None:
        """The rules for trailers hold whenever they were bound: before the end, or after it."""

        def admit(trailers: Fields) -> Fields:
            return [field for field in trailers if field[0] == b"X-Sum"]

        for first in (True, False):
            upload = self.make(CHUNKED)
            if first:
                upload.admit_trailers = admit
            upload.finish([(b"X-Sum", b"1"), (b"Host", b"evil")])
            self.assertEqual(2 - first, len(upload.trailers))
            upload.admit_trailers = admit
            self.assertEqual([(b"X-Sum", b"1")], upload.trailers)

    def test_cancel(self) -> None:
        """Cancelling the sending stops it."""
        done = self.upload.startProducing(self.upstream)
        done.cancel()
        self.failureResultOf(done, CancelledError)
        self.upload.write(b"abc")
        self.assertEqual(b"", self.upstream.value())

    def test_bound(self) -> None:
        """Content past its bound is refused before the octet too much is written."""
        upload = self.make(CHUNKED, most=5)
        upload.startProducing(self.upstream)
        upload.write(b"abcde")
        self.assertEqual([], self.errors)
        upload.write(b"f")
        self.assertIsInstance(self.errors[0], ContentTooLarge)
        self.assertEqual(b"abcde", self.upstream.value())

    def test_bound_and_preloaded_octets(self) -> None:
        """What came with the head counts too; the text names the bound."""
        upload = self.make(CHUNKED, most=5)
        upload.preload(b"abcde")
        upload.startProducing(self.upstream)
        self.assertEqual([], self.errors)
        upload.write(b"f")
        self.assertEqual(upload.too_large().detail, self.errors[0].detail)
        self.assertIn("more than 5 bytes", self.errors[0].detail)
        self.assertEqual(b"abcde", self.upstream.value())

    def test_refuse(self) -> None:
        """A refusal stops the content and tells the exchange; without one it only stops."""
        error = ClientTimeout("slow")
        self.upload.startProducing(self.upstream)
        self.upload.refuse(error)
        self.assertEqual([error], self.errors)
        self.upload.fail = None
        self.upload.refuse(error)
        self.assertEqual([error], self.errors)


class Sink:
    """A client's side that notes what it gets."""

    def __init__(self) -> None:
        self.pieces: list[Octets] = []
        self.source: IPushProducer | None = None

    def write_content(self, content: Octets) -> None:
        """Note octets."""
        self.pieces.append(content)

    def flow_from(self, source: IPushProducer | None) -> None:
        """Note who has to pause."""
        self.source = source


class DownloadTests(SynchronousTestCase):
    """A response's content."""

    def setUp(self) -> None:
        """Connect a download to an upstream's transport."""
        self.sink = Sink()
        self.ended: list[BaseException | None] = []
        self.download = Download(self.sink, self.ended.append)
        self.transport = StringTransport()
        self.download.makeConnection(self.transport)

    def test_interface(self) -> None:
        """It is what a response's content is delivered to, and says that it takes views."""
        self.assertTrue(verifyObject(IProtocol, self.download))
        self.assertTrue(self.download.takes_views)

    def test_every_read_is_a_write(self) -> None:
        """Nothing is collected and nothing is cut."""
        for piece in (b"a", b"bc", b"d" * 100000, memoryview(b"")):
            self.download.dataReceived(piece)
            # The same object: a view is not copied here.
            self.assertIs(piece, self.sink.pieces[-1])
        self.assertEqual(100003, self.download.count)

    def test_the_upstream_is_the_source(self) -> None:
        """While content flows the client's transport can pause the upstream's; after it, not."""
        self.assertIs(self.transport, self.sink.source)
        self.download.connectionLost(RESPONSE_DONE)
        self.assertIsNone(self.sink.source)

    def test_end(self) -> None:
        """The end of the content."""
        self.assertEqual([], self.ended)
        self.assertIsNotNone(RESPONSE_DONE.check(ResponseDone))
        self.download.connectionLost(RESPONSE_DONE)
        self.assertEqual([None], self.ended)

    def test_broken_off(self) -> None:
        """A broken content is no end (invariant 3)."""
        error = ResponseIncomplete("cut")
        self.download.connectionLost(Failure(error))
        self.assertEqual([error], self.ended)

    def test_broken_off_by_twisted(self) -> None:
        """Only the one end is an end: a lost connection without a word is none."""
        self.download.connectionLost()
        self.assertIsInstance(self.ended[0], ConnectionDone)

    def test_source_at_the_end(self) -> None:
        """Who is told of the end may write already: the source is forgotten before."""
        download = Download(self.sink, lambda _: self.assertIsNone(self.sink.source))
        download.makeConnection(self.transport)
        self.assertIs(self.transport, self.sink.source)
        download.connectionLost(RESPONSE_DONE)
