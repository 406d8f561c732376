"""What the parent says to a worker that runs, through a real socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import Any

from twisted.internet.interfaces import IReadDescriptor, IWriteDescriptor
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from pyproxy.config.schema import Listen
from pyproxy.workers.handover import Bound, Draining, Order, Taking
from pyproxy.workers.orders import MOST_SOCKETS, OrderLine, OrderReader, octets_of
from tests.configs import one_route

LONG = 4 * 1024 * 1024
"""Octets that no socket takes at once."""

DRAINING = Draining(30.0)


def taking(*numbers: int, generation: int = 2, size: int = 0) -> Taking:
    """Return an order with places, and a secret of some size."""
    places = tuple(Bound(number, Listen(), "AF_INET") for number in numbers)
    return Taking(generation, one_route(secrets=(b"s" * size,)), places)


class OrdersTestCase(SynchronousTestCase):
    """A case with both ends of a line.

    Attributes:
        obeyed: the orders, each with the inodes of the sockets that it took.
        ended: how often the worker was told that it has no parent any more.
    """

    def setUp(self) -> None:
        """Connect a parent and a worker."""
        self.reactor = MemoryReactorClock()
        self.line = OrderLine(self.reactor)
        self.addCleanup(self.close)
        self.obeyed: list[tuple[Order, list[int]]] = []
        self.ended = 0
        self.reader = OrderReader(os.dup(self.line.for_child.fileno()), self.obey, self.end)
        self.addCleanup(self.reader._socket.close)
        self.assertTrue(verifyObject(IWriteDescriptor, self.line))
        self.assertTrue(verifyObject(IReadDescriptor, self.reader))

    def close(self) -> None:
        """Close the parent's end, and the worker's where it is still there."""
        self.line.child_has_it()
        self.line.close()

    def obey(self, order: Order, descriptors: list[int]) -> None:
        """Take as many sockets as an order has places."""
        count = len(order.places) if isinstance(order, Taking) else 0
        self.obeyed.append((order, [self.close_socket(descriptors.pop(0)) for _ in range(count)]))

    def close_socket(self, descriptor: int) -> int:
        """Close a socket; return its inode."""
        inode = os.fstat(descriptor).st_ino
        os.close(descriptor)
        return inode

    def end(self) -> None:
        """Have no parent any more."""
        self.ended += 1

    def read(self) -> None:
        """Let the worker read what is there, as its reactor does."""
        for _ in range(1000):
            before = len(self.obeyed), self.reader._kept
            reason = self.reader.doRead()
            if reason is not None:
                self.reader.connectionLost(Failure(reason))
                return
            if before == (len(self.obeyed), self.reader._kept):
                return
        self.fail("the worker reads for ever")

    def sockets(self, count: int) -> list[socket.socket]:
        """Make some sockets."""
        made = [socket.socket() for _ in range(count)]
        for one in made:
            self.addCleanup(one.close)
        return made

    def inodes(self, sockets: Sequence[socket.socket]) -> list[int]:
        """Return what tells sockets apart in whatever process."""
        return [os.fstat(one.fileno()).st_ino for one in sockets]

    def send(self, order: Order, sockets: Sequence[socket.socket] = ()) -> None:
        """Give an order."""
        self.line.write(octets_of(order), [one.fileno() for one in sockets])

    @property
    def waits(self) -> bool:
        """Whether the parent waits until the socket takes more."""
        return self.line in self.reactor.getWriters()


class OrderLineTests(OrdersTestCase):
    """From the parent's end to the worker's."""

    def test_without_sockets(self) -> None:
        """An order is obeyed once, whole, as it was given; the next after it."""
        orders: list[Order] = [taking(), DRAINING, taking(generation=3)]
        for order in orders:
            self.send(order)
        self.read()
        self.assertEqual([(order, []) for order in orders], self.obeyed)
        self.assertFalse(self.waits)

    def test_sockets(self) -> None:
        """Sockets come with their order, in order, however many: what goes with an octet is few."""
        for count in (1, MOST_SOCKETS, MOST_SOCKETS + 50, 3 * MOST_SOCKETS):
            sockets = self.sockets(count)
            order = taking(*range(count))
            self.send(order, sockets)
            expected = self.inodes(sockets)
            for one in sockets:
                # The parent may close its own at once.
                one.close()
            self.read()
            self.assertEqual((order, expected), self.obeyed.pop())
            # The worker has closed them too: nobody else has one.
            self.assertFalse({f"socket:[{inode}]" for inode in expected} & links())

    def test_each_its_own(self) -> None:
        """Each order finds the sockets that came with it, though several orders come at once."""
        one, two, three = self.sockets(3)
        self.send(taking(1), [one])
        self.send(DRAINING)
        self.send(taking(2, 3), [two, three])
        self.read()
        self.assertEqual(
            [self.inodes([one]), [], self.inodes([two, three])], [each for _, each in self.obeyed]
        )

    def test_bare_octets(self) -> None:
        """What a worker reads before there is a reader, the handover, comes before all orders.

        It reads just that, so that no socket of a later order is lost.
        """
        (one,) = self.sockets(1)
        self.line.write(b"handover")
        self.send(taking(1), [one])
        self.assertEqual(b"handover", os.read(self.reader.fileno(), 8))
        self.read()
        self.assertEqual([(taking(1), self.inodes([one]))], self.obeyed)

    def test_nobody_reads(self) -> None:
        """A worker that does not read holds nobody up; all comes once it does, in order."""
        sockets = self.sockets(3)
        orders = [taking(*range(count), size=LONG) for count in (1, 0, 2)]
        self.send(orders[0], sockets[:1])
        self.assertTrue(self.waits)
        self.send(orders[1])
        self.send(orders[2], sockets[1:])
        self.read()
        self.assertEqual([], self.obeyed)
        while self.waits:
            self.line.doWrite()
            self.read()
        inodes = self.inodes(sockets)
        self.assertEqual(
            [(orders[0], inodes[:1]), (orders[1], []), (orders[2], inodes[1:])], self.obeyed
        )

    def test_waits_once(self) -> None:
        """The reactor is asked to tell of room once, and no more when nothing waits."""
        self.send(taking(size=LONG))
        self.send(DRAINING)
        self.assertEqual([self.line], list(self.reactor.getWriters()))
        while self.waits:
            self.read()
            self.line.doWrite()
        self.read()
        self.assertEqual(2, len(self.obeyed))
        self.send(DRAINING)
        self.assertFalse(self.waits)


class EndTests(OrdersTestCase):
    """One end is no more."""

    def setUp(self) -> None:
        """Let the worker alone have its end."""
        super().setUp()
        self.line.child_has_it()

    def test_parent_ends(self) -> None:
        """The worker obeys what was said, and is told that there is no parent any more."""
        self.send(DRAINING)
        self.line.close()
        while not self.ended:
            self.read()
        self.assertEqual(([(DRAINING, [])], 1), (self.obeyed, self.ended))

    def test_parent_ends_inside(self) -> None:
        """Half an order is none."""
        self.send(taking(size=LONG))
        self.line.close()
        self.assertFalse(self.waits)
        while not self.ended:
            self.read()
        self.assertEqual([], self.obeyed)

    def test_parent_is_killed(self) -> None:
        """An end with orders of the worker's unread is an end too."""
        os.write(self.reader.fileno(), b"unasked")
        self.line.close()
        while not self.ended:
            self.read()
        self.assertEqual(1, self.ended)

    def test_worker_ends(self) -> None:
        """What is said to a worker that is no more is dropped, and keeps no socket open."""
        self.reader._socket.close()
        self.assert_all_closed(lambda sockets: self.send(taking(*range(250)), sockets))
        self.assertFalse(self.waits)
        self.send(DRAINING)

    def test_worker_ends_inside(self) -> None:
        """The same for what waited for it to read."""
        self.send(taking(size=LONG))

        def end(sockets: list[socket.socket]) -> None:
            self.send(taking(*range(250)), sockets)
            self.assertTrue(self.waits)
            self.reader._socket.close()
            self.line.doWrite()

        self.assert_all_closed(end)
        self.assertFalse(self.waits)

    def test_line_closes(self) -> None:
        """A line that is closed keeps no socket open, and can be closed again."""
        self.send(taking(size=LONG))

        def close(sockets: list[socket.socket]) -> None:
            self.send(taking(*range(250)), sockets)
            self.line.connectionLost(Failure(ConnectionResetError()))
            self.line.close()

        self.assert_all_closed(close)
        self.assertFalse(self.waits)

    def assert_all_closed(self, act: Any) -> None:
        """Fail unless sockets are closed with the last who has them in the test's hand."""
        sockets = self.sockets(250)
        inodes = {f"socket:[{inode}]" for inode in self.inodes(sockets)}
        act(sockets)
        for one in sockets:
            one.close()
        self.assertFalse(inodes & links())


def links() -> set[str]:
    """Return what the descriptors of this process lead to."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:
            # That of the listing.
            continue
    return found


class OrderReaderTests(OrdersTestCase):
    """From whatever pieces a socket brings."""

    def octets(self, order: Order) -> bytes:
        """Return an order as it is on the wire."""
        self.send(order)
        return os.read(self.reader.fileno(), 1024 * 1024)

    def test_cut_anywhere(self) -> None:
        """An order is obeyed when its last octet has come, wherever the pieces are cut."""
        octets = self.octets(DRAINING)
        for cut in range(len(octets)):
            self.line.write(octets[:cut])
            self.read()
            self.assertEqual([], self.obeyed)
            self.line.write(octets[cut:])
            self.read()
            self.assertEqual([(DRAINING, [])], self.obeyed)
            self.obeyed.clear()

    def test_octet_by_octet(self) -> None:
        """One octet at a time is no other; the sockets come with the first."""
        sockets = self.sockets(2)
        order = taking(1, 2)
        octets = self.octets(order)
        self.line.write(octets[:1], [one.fileno() for one in sockets])
        for place in range(1, len(octets)):
            self.read()
            self.assertEqual([], self.obeyed)
            self.line.write(octets[place : place + 1])
        self.read()
        self.assertEqual([(order, self.inodes(sockets))], self.obeyed)

    def test_together(self) -> None:
        """Two orders and a half in one read are two, and then the third."""
        octets = self.octets(DRAINING)
        self.line.write(octets * 2 + octets[:5])
        self.read()
        self.assertEqual(2, len(self.obeyed))
        self.line.write(octets[5:])
        self.read()
        self.assertEqual(3, len(self.obeyed))

    def test_nothing_there(self) -> None:
        """A reader that is woken for nothing goes on."""
        self.assertIsNone(self.reader.doRead())
