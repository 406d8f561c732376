"""A response out of the cache, as an exchange reads it."""

from __future__ import annotations

from typing import cast

import attrs
from twisted.internet.base import DelayedCall
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from pyproxy.cache.blocks import Blocks
from pyproxy.cache.delivery import TURN_BYTES, Delivery
from pyproxy.cache.seams import BLOCK_BYTES
from pyproxy.errors import InternalError, ResponseIncomplete
from pyproxy.relay.content import RESPONSE_DONE
from pyproxy.semantics.framing import NO_CONTENT, Framing, Kind
from pyproxy.semantics.messages import ResponseHead
from tests.memory import LONG


@attrs.define(eq=False)
class Receiver:
    """Who gets a content.

    Attributes:
        room: octets after which it pauses what it reads from.
    """

    room: int | None = None
    octets: bytes = b""
    reason: Failure | None = None
    source: Delivery | None = None

    def makeConnection(self, transport: Delivery) -> None:
        """Know what to pause."""
        self.source = transport

    def dataReceived(self, data: bytes) -> None:
        """Take octets."""
        if self.reason is not None:
            raise AssertionError("octets after the end")
        self.octets += data
        if self.room is not None and self.source is not None and len(self.octets) >= self.room:
            self.source.pauseProducing()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Take note of the end."""
        if self.reason is not None:
            raise AssertionError("two ends")
        self.reason = reason


class Held(Blocks):
    """Octets that know how many readers hold them."""

    holds = 0

    def hold(self) -> None:
        """Have a reader more."""
        self.holds += 1

    def release(self) -> None:
        """Have a reader less."""
        self.holds -= 1


class WholeTests(SynchronousTestCase):
    """What is stored is given as far as it is taken."""

    def setUp(self) -> None:
        """Have a content of many blocks."""
        self.clock = Clock()
        self.octets = LONG * 200
        self.content = Held(self.octets)

    def deliver(
        self, span: tuple[int, int] | None, room: int | None = None
    ) -> tuple[Delivery, Receiver]:
        """Begin to deliver a part."""
        head = ResponseHead(200, b"OK", 1, [])
        delivery = Delivery.whole(head, self.content, span, self.clock)
        receiver = Receiver(room)
        delivery.deliverBody(receiver)  # type: ignore[arg-type]
        return delivery, receiver

    def test_producer(self) -> None:
        """It is what a client's transport pauses."""
        verifyObject(IPushProducer, self.deliver((0, 1))[0])

    def test_parts(self) -> None:
        """Any part, whatever the blocks are."""
        for start, end in (
            (0, 0),
            (0, 1),
            (0, BLOCK_BYTES),
            (1, BLOCK_BYTES + 1),
            (BLOCK_BYTES - 1, 2 * BLOCK_BYTES + 5),
            (len(self.octets) - 1, len(self.octets)),
        ):
            delivery, receiver = self.deliver((start, end))
            self.assertEqual(self.octets[start:end], receiver.octets)
            self.assertIs(RESPONSE_DONE, receiver.reason)
            self.assertEqual(Framing(Kind.LENGTH, end - start), delivery.framing)
            self.assertEqual(0, self.content.holds)

    def test_none(self) -> None:
        """No content at all."""
        delivery, receiver = self.deliver(None)
        self.assertEqual((b"", NO_CONTENT), (receiver.octets, delivery.framing))
        self.assertIs(RESPONSE_DONE, receiver.reason)

    def test_turns(self) -> None:
        """A client that takes everything at once lets others have their turns."""
        _, receiver = self.deliver((0, len(self.octets)))
        for turn in range(1, 3):
            self.assertEqual(turn * TURN_BYTES, len(receiver.octets))
            (call,) = self.clock.getDelayedCalls()
            again = cast(DelayedCall, call).func
            call.cancel()
            again()
        self.assertEqual(self.octets, receiver.octets)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_pauses(self) -> None:
        """One that takes little gets little, and holds what it reads from."""
        delivery, receiver = self.deliver((0, len(self.octets)), room=1)
        self.assertEqual((BLOCK_BYTES, 1), (len(receiver.octets), self.content.holds))
        for number in range(2, 5):
            delivery.resumeProducing()
            self.assertEqual(number * BLOCK_BYTES, len(receiver.octets))

    def test_leaves(self) -> None:
        """One that leaves gets nothing more, in the middle of a turn too."""
        for room in (1, None):
            delivery, receiver = self.deliver((0, len(self.octets)), room)
            before = receiver.octets
            delivery.abort()
            self.assertEqual(0, self.content.holds)
            delivery.resumeProducing()
            self.clock.advance(0)
            delivery.abort()
            self.assertEqual((before, None), (receiver.octets, receiver.reason))
            self.assertEqual([], self.clock.getDelayedCalls())

    def test_leaves_before(self) -> None:
        """So does one that left before anything was read."""
        head = ResponseHead(200, b"OK", 1, [])
        delivery = Delivery.whole(head, self.content, (0, 5), self.clock)
        delivery.abort()
        receiver = Receiver()
        delivery.deliverBody(receiver)  # type: ignore[arg-type]
        self.assertEqual((b"", None, 0), (receiver.octets, receiver.reason, self.content.holds))

    def test_shorter(self) -> None:
        """A content that is shorter than it was is not whole."""
        _, receiver = self.deliver((len(self.octets) - 3, len(self.octets) + 3))
        self.assertEqual(self.octets[-3:], receiver.octets)
        self.assertEqual(0, self.content.holds)

    def test_given_up(self) -> None:
        """What is given up is told once."""
        delivery, receiver = self.deliver((0, len(self.octets)), room=1)
        delivery.give_up(ResponseIncomplete("enough"))
        assert receiver.reason is not None
        receiver.reason.trap(ResponseIncomplete)
        delivery.give_up(ResponseIncomplete("enough"))
        delivery.resumeProducing()
        self.assertEqual((BLOCK_BYTES, 0), (len(receiver.octets), self.content.holds))

    def test_no_websocket(self) -> None:
        """It is nobody's WebSocket."""
        delivery, _ = self.deliver((0, 1))
        self.assertRaises(InternalError, delivery.detach)
        self.assertEqual((0, 0), (delivery.unsent(), delivery.overhead))
        self.assertIs(delivery, delivery.source)
        delivery.look()
