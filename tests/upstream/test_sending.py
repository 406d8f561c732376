"""A request's content on its way to the upstream's connection."""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IConsumer
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from pyproxy.relay.content import Upload
from pyproxy.relay.pausing import Valve
from pyproxy.semantics.fields import Octets
from pyproxy.semantics.framing import CHUNKED, Framing, Kind
from pyproxy.upstream.sending import Sending, send_whole
from tests.upstream.kit import Content

SUM = [(b"X-Sum", b"1")]


def upload(framing: Framing, *pieces: bytes, whole: bool = True) -> Upload:
    """Return an upload of which pieces came with the head."""
    content = Upload(framing, Valve(StringTransport()))
    for piece in pieces:
        content.preload(piece)
    if whole:
        content.finish(SUM)
    return content


class WholeTests(SynchronousTestCase):
    """Content that is here already needs nobody to wait for it."""

    def test_table(self) -> None:
        """One write, framed; nothing at all for empty content with a length."""
        for framing, pieces, written in (
            (Framing(Kind.LENGTH, 6), (b"abc", b"def"), [b"abcdef"]),
            (Framing(Kind.LENGTH, 0), (), []),
            (CHUNKED, (b"abc", b"def"), [b"6\r\nabcdef\r\n0\r\nX-Sum: 1\r\n\r\n"]),
            (CHUNKED, (), [b"0\r\nX-Sum: 1\r\n\r\n"]),
        ):
            seen: list[Octets] = []
            self.assertTrue(send_whole(upload(framing, *pieces), seen.append))
            self.assertEqual(written, seen)

    def test_not_whole(self) -> None:
        """Content of which some is still to come is not touched."""
        seen: list[Octets] = []
        content = upload(Framing(Kind.LENGTH, 6), b"abc", whole=False)
        self.assertFalse(send_whole(content, seen.append))
        self.assertEqual([], seen)
        content.startProducing(transport := StringTransport())
        self.assertEqual(b"abc", transport.value())


class SendingTests(SynchronousTestCase):
    """Content that is still being sent."""

    def setUp(self) -> None:
        """Begin to send content in chunks."""
        self.written: list[Octets] = []
        self.broken = 0
        self.content, self.sending = self.begin(Content())

    def begin(self, content: Content) -> tuple[Content, Sending]:
        """Begin to send content."""
        sending = Sending(content, self.written.append, self.break_off)
        sending.start()
        return content, sending

    def break_off(self) -> None:
        """Take note that the content cannot be produced."""
        self.broken += 1

    def test_interface(self) -> None:
        """It is what content is written to, and has one producer only."""
        self.assertTrue(verifyObject(IConsumer, self.sending))
        self.assertIs(self.sending, self.content.consumer)
        self.assertRaises(NotImplementedError, self.sending.registerProducer, self, True)
        self.assertRaises(NotImplementedError, self.sending.unregisterProducer)

    def test_chunks(self) -> None:
        """Each write is a chunk, views too; the end is written when it is told."""
        self.sending.write(b"abc")
        self.sending.write(memoryview(b"de"))
        self.assertFalse(self.sending.done)
        self.content.done.callback(None)
        self.assertTrue(self.sending.done)
        self.assertEqual([b"3\r\nabc\r\n", b"2\r\nde\r\n", b"0\r\n\r\n"], self.written)

    def test_length(self) -> None:
        """Content with a length is written as it comes, a view as the view that it is."""
        content, sending = self.begin(Content(5))
        view = memoryview(b"abcde")
        sending.write(view)
        content.done.callback(None)
        self.assertEqual(([view], True), (self.written, sending.done))

    def test_pauses(self) -> None:
        """The content is paused while there is some."""
        self.sending.pause()
        self.assertEqual("paused", self.content.state)
        self.sending.resume()
        self.assertEqual("producing", self.content.state)
        self.content.done.callback(None)
        self.sending.pause()
        self.assertEqual("producing", self.content.state)
        self.sending.stop()
        self.assertEqual("producing", self.content.state)

    def test_stopped(self) -> None:
        """After a stop no end is written: half of the content must not be taken for all of it."""
        self.sending.write(b"abc")
        self.sending.stop()
        self.assertEqual("stopped", self.content.state)
        self.content.done.callback(None)
        self.assertEqual([b"3\r\nabc\r\n"], self.written)

    def test_broken(self) -> None:
        """Content that cannot be produced is told and logged; a cancelled one is only told."""
        self.content.done.errback(OSError("a disk broke"))
        self.assertEqual((1, 1), (self.broken, len(self.flushLoggedErrors(OSError))))
        content, _ = self.begin(Content())
        content.done.errback(CancelledError())
        self.assertEqual((2, []), (self.broken, self.flushLoggedErrors()))
        self.assertEqual([], self.written)
