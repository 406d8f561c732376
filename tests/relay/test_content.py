"""The two directions of content: pause, resume, stop, refuse."""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IPushProducer
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseDone
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from zope.interface.verify import verifyObject

from pyproxy.errors import ClientTimeout, ContentTooLarge, ProxyError, ResponseIncomplete
from pyproxy.relay.content import Download, Upload
from pyproxy.relay.pausing import Hold, Valve
from pyproxy.semantics.framing import CHUNKED, Framing, Kind


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
        self.pieces: list[bytes] = []
        self.source: IPushProducer | None = None

    def write_content(self, content: bytes) -> None:
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
        self.download = Download(self.sink)
        self.transport = StringTransport()
        self.download.makeConnection(self.transport)

    def test_every_read_is_a_write(self) -> None:
        """Nothing is collected and nothing is cut."""
        for piece in (b"a", b"bc", b"d" * 100000):
            self.download.dataReceived(piece)
            self.assertEqual(piece, self.sink.pieces[-1])
        self.assertEqual(100003, self.download.count)

    def test_the_upstream_is_the_source(self) -> None:
        """While content flows the client's transport can pause the upstream's; after it, not."""
        self.assertIs(self.transport, self.sink.source)
        self.download.connectionLost(Failure(ResponseDone()))
        self.assertIsNone(self.sink.source)

    def test_end(self) -> None:
        """The end of the content."""
        self.assertNoResult(self.download.done)
        self.download.connectionLost(Failure(ResponseDone()))
        self.assertIsNone(self.successResultOf(self.download.done))

    def test_broken_off(self) -> None:
        """A broken content is no end (invariant 3)."""
        self.download.connectionLost(Failure(ResponseIncomplete("cut")))
        self.failureResultOf(self.download.done, ResponseIncomplete)

    def test_cancel(self) -> None:
        """Cancelling closes the upstream's connection; its loss afterwards changes nothing."""
        self.download.done.cancel()
        self.assertEqual("stopped", self.transport.producerState)
        self.failureResultOf(self.download.done, CancelledError)
        self.download.connectionLost(Failure(ResponseIncomplete("cut")))

    def test_cancel_before_content(self) -> None:
        """Cancelling before there is a transport is an end too."""
        download = Download(self.sink)
        download.done.cancel()
        self.failureResultOf(download.done, CancelledError)
