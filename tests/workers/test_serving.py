"""A worker in this process: real sockets, a real pipe to its parent, which is the test."""

from __future__ import annotations

import json
import os
import socket
import sys
from typing import Any

import attrs
from twisted.internet.task import Clock

from pyproxy.config.schema import Config, Listen
from pyproxy.ending import End
from pyproxy.life.desk import CacheQuestion, Counting, Looking, Purging
from pyproxy.life.measuring import Measuring
from pyproxy.observe.metrics import Metrics
from pyproxy.policy.instead import FixedAnswer
from pyproxy.semantics.urls import parse_target
from pyproxy.workers.handover import Asking, Bound, Draining, Handover, Question, Taking
from pyproxy.workers.logpipe import LogPipe
from pyproxy.workers.questions import answer_of
from pyproxy.workers.records import ANSWER, READY, STREAMS, TAKEN, RecordReader
from pyproxy.workers.serving import Worker
from pyproxy.workers.tally import ABSENT, Tally, make_board
from tests.cache_desk import desk_of
from tests.configs import one_route
from tests.memory import request
from tests.observe.ended import over
from tests.turning import PATIENCE, TurningTestCase, descriptors

FAMILY = "AF_INET"


def answering(text: bytes) -> Config:
    """Return a configuration that answers with a text by itself."""
    return one_route(target=None, instead=FixedAnswer(200, (), text), workers=2)


class FakeEnd:
    """Counts how often the worker asks for its end."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self) -> None:
        self.asked += 1


class WorkerTestCase(TurningTestCase):
    """A case with a worker at one place.

    Attributes: places, the sockets as the parent has them, by their numbers.
    """

    def setUp(self) -> None:
        """Start a worker."""
        super().setUp()
        self.places: dict[int, socket.socket] = {}
        self.read_end, write_end = os.pipe()
        os.set_blocking(self.read_end, False)
        board = make_board(2)
        for descriptor in (self.read_end, write_end, board):
            self.addCleanup(os.close, descriptor)
        self.records = RecordReader()
        self.board = board
        self.pipe = LogPipe(self.reactor, write_end)
        self.addCleanup(self.pipe._close)
        self.end = FakeEnd()
        end: Any = self.end
        self.worker = self.make(self.taking(b"first", 1, generation=1), end)
        self.worker.start()
        self.addCleanup(self.stop)

    def make(self, first: Taking, end: End) -> Worker:
        """Make a worker with its first places."""
        handover = Handover(b"pyproxy-test", "", 2, Taking(first.generation, first.config, ()))
        worker = Worker(handover, self.reactor, Tally(self.board, 2, 1), self.pipe, end)
        worker._seen = frozenset(bound.number for bound in first.places)
        # Not from FIRST_SOCKET on: what stands there is this process's own.
        for bound in first.places:
            worker._adopt(bound, self.descriptor(bound.number))
        return worker

    def stop(self) -> None:
        """Stop it, as its reactor does."""
        stopped = self.worker.stop()
        self.turn_until(lambda: stopped.called)
        self.successResultOf(stopped)

    def take(self, order: Taking, descriptors: list[int]) -> None:
        """Give an order, and wait until it is obeyed."""
        self.worker.obey(order, descriptors)
        expected = (TAKEN, str(order.generation))
        self.turn_until(lambda: expected in self.hears())

    def taking(self, text: bytes, *numbers: int, generation: int) -> Taking:
        """Return an order to answer with a text, at places that are bound if they are new."""
        for number in numbers:
            if number not in self.places:
                self.places[number] = socket.create_server(("127.0.0.1", 0))
                self.places[number].setblocking(False)
                self.addCleanup(self.places[number].close)
        places = tuple(Bound(number, Listen(port=number), FAMILY) for number in numbers)
        return Taking(generation, answering(text), places)

    def descriptor(self, number: int) -> int:
        """Return a copy of a place's socket, as it comes from the parent."""
        return os.dup(self.places[number].fileno())

    def address(self, number: int) -> Any:
        """Return where a place is."""
        return self.places[number].getsockname()

    def ask(self, client: socket.socket) -> bytes:
        """Ask; return the content of the answer."""
        client.send(request())
        return self.hear(client).partition(b"\r\n\r\n")[2]

    def hears(self) -> list[tuple[int, str]]:
        """Return what the parent was told since this was asked last, without lines of a log."""
        try:
            records = list(self.records.feed(os.read(self.read_end, 65536)))
        except BlockingIOError:
            return []
        told = (READY, TAKEN, STREAMS, ANSWER)
        return [(one.level, one.text) for one in records if one.level in told]

    def seat(self) -> bytes:
        """Return what the worker writes of itself where all see it."""
        return os.pread(self.board, 4, 0)


class TakeTests(WorkerTestCase):
    """What a parent says is taken whole."""

    def test_start(self) -> None:
        """It tells that it serves, and takes part."""
        self.assertEqual([(READY, "")], self.hears())
        self.assertEqual(bytes(4), self.seat())
        self.assertEqual(b"first", self.ask(self.connect(self.address(1))))

    def test_take(self) -> None:
        """New requests are answered by the new routes, at the new places; the parent is told."""
        kept = self.connect(self.address(1))
        self.assertEqual(b"first", self.ask(kept))
        taking = self.taking(b"second", 1, 2, 3, generation=7)
        others = [-1]
        descriptors = [self.descriptor(2), self.descriptor(3), *others]
        self.take(taking, descriptors)
        self.assertEqual(others, descriptors)
        for client in (kept, *(self.connect(self.address(number)) for number in (1, 2, 3))):
            self.assertEqual(b"second", self.ask(client))
        self.assertEqual(0, self.end.asked)

    def test_gone(self) -> None:
        """A place that is named no more is left; who waits there is served."""
        # Not seen yet, however long the plan takes.
        self.worker._places[1].port.stopReading()
        waiting = self.connect(self.address(1))
        self.take(self.taking(b"second", 2, generation=2), [self.descriptor(2)])
        self.assertEqual(b"second", self.ask(waiting))
        self.assertEqual(b"second", self.ask(self.connect(self.address(2))))
        self.turn()
        # The parent's own is the only one that is left.
        inode = os.fstat(self.places[1].fileno()).st_ino
        left = [one for one in descriptors() if one.endswith(f" socket:[{inode}]")]
        self.assertEqual(1, len(left))

    def test_in_order(self) -> None:
        """Several orders are obeyed one after the other, each with its own sockets."""
        orders = [
            (self.taking(b"second", 1, 2, generation=2), [self.descriptor(2)]),
            (self.taking(b"third", 2, 3, generation=3), [self.descriptor(3)]),
        ]
        descriptors = [one for _, sockets in orders for one in sockets]
        for order, _ in orders:
            self.worker.obey(order, descriptors)
        told: list[tuple[int, str]] = []
        while told[-1:] != [(TAKEN, "3")]:
            told += self.turn_until(self.hears)
        self.assertEqual([(READY, ""), (TAKEN, "2"), (TAKEN, "3")], told)
        for number in (2, 3):
            self.assertEqual(b"third", self.ask(self.connect(self.address(number))))

    def test_cannot_obey(self) -> None:
        """Who cannot do as it is told accepts no more and ends: another starts in its place."""
        self.hears()
        order = self.taking(b"second", 1, 2, generation=2)
        broken = attrs.evolve(order.places[1], listen=Listen("nonsense:1"))
        order = attrs.evolve(order, places=(order.places[0], broken))
        self.worker.obey(order, [self.descriptor(2)])
        self.turn_until(lambda: self.end.asked)
        self.assertEqual((1, []), (self.end.asked, self.hears()))
        self.assertEqual({}, self.worker._places)
        self.assertEqual(1, len(self.flushLoggedErrors(ValueError)))

    def test_end_meanwhile(self) -> None:
        """A configuration whose plan is ready when the end has begun is not taken any more."""
        self.hears()
        order = self.taking(b"second", 1, 2, generation=2)
        given = self.descriptor(2)
        self.worker.obey(order, [given])
        self.stop()
        self.turn_until(lambda: not self.worker._in_turn.locked)
        self.assertEqual((0, []), (self.end.asked, self.hears()))
        self.assertEqual({}, self.worker._places)
        self.assertRaises(OSError, os.fstat, given)
        self.assertEqual([], self.flushLoggedErrors())

    def test_streams(self) -> None:
        """What is open is told now and then, when it has changed."""
        with socket.create_server(("127.0.0.1", 0)) as upstream:
            target = parse_target(f"http://127.0.0.1:{upstream.getsockname()[1]}")
            places = self.taking(b"", 1, generation=2).places
            self.take(Taking(2, one_route(target=target), places), [])
            client = self.connect(self.address(1))
            client.send(request())
            self.turn_until(lambda: (STREAMS, "1") in self.hears())
            client.close()
            self.turn_until(lambda: (STREAMS, "0") in self.hears())
            self.turn(5)
            self.assertEqual([], self.hears())


class AskingTests(WorkerTestCase):
    """A worker answers questions about its cache."""

    def answer(self, number: int, asked: Question) -> Any:
        """Return what the parent is told."""
        self.hears()
        self.worker.obey(Asking(number, asked), [])
        ((level, text),) = self.turn_until(self.hears)
        self.assertEqual(ANSWER, level)
        return json.loads(text)

    def test_no_cache(self) -> None:
        """Without a cache it says so."""
        self.assertEqual({"number": 7, "answer": None}, self.answer(7, Counting()))

    def test_answer(self) -> None:
        """It answers what its desk does, also while it takes a configuration."""
        desk = desk_of("http://h/a", "http://h/b")
        self.worker._proxy.cache = desk
        self.assertEqual({"number": 1, "answer": desk.counts()}, self.answer(1, Counting()))
        found = self.answer(2, Looking(CacheQuestion(tag=b"a")))["answer"]
        self.assertEqual(["http://h/a"], [entry["url"] for entry in found["entries"]])
        self.worker.obey(self.taking(b"second", 1, generation=2), [])
        asked = Purging(CacheQuestion(prefix=b"http://h/"))
        self.worker.obey(Asking(3, asked), [])
        told: list[tuple[int, str]] = []
        while (TAKEN, "2") not in told:
            told += self.turn_until(self.hears)
        self.assertIn((ANSWER, answer_of(3, {"purged": 2})), told)

    def test_metrics(self) -> None:
        """It tells what it has counted; nothing where nothing is."""
        self.assertEqual({"number": 5, "answer": None}, self.answer(5, Measuring()))
        metrics = self.worker._proxy.metrics = Metrics.of(Clock())
        metrics.record(over(route="/a"))
        (row,) = self.answer(6, Measuring())["answer"]["rows"]
        self.assertEqual(["/a", "GET", "2xx", ""], row[0])
        # It was never started.
        self.worker._proxy.metrics = None

    def test_failure(self) -> None:
        """A question that has no answer is told too, and why stands in the log."""
        self.worker._proxy.cache = desk_of(error=KeyError("a"))
        self.assertEqual({"number": 4}, self.answer(4, Purging(CacheQuestion(tag=b"a"))))
        self.assertEqual(1, len(self.flushLoggedErrors(KeyError)))


class DrainTests(WorkerTestCase):
    """A worker that is told to drain ends by itself."""

    def test_nobody(self) -> None:
        """With nothing open it ends at once, and takes part no more."""
        self.worker.obey(Draining(PATIENCE), [])
        self.assertEqual(1, self.end.asked)
        self.assertEqual(ABSENT.to_bytes(4, sys.byteorder), self.seat())

    def test_open(self) -> None:
        """Who is there has one more request, who waits too; nobody new; then it ends."""
        kept = self.connect(self.address(1))
        self.assertEqual(b"first", self.ask(kept))
        waiting = self.connect(self.address(1))
        self.worker.obey(Draining(PATIENCE), [])
        self.assertEqual(ABSENT.to_bytes(4, sys.byteorder), self.seat())
        late = self.connect(self.address(1))
        for client in (kept, waiting):
            self.assertEqual(0, self.end.asked)
            self.assertEqual(b"first", self.ask(client))
            self.assertEqual(b"", self.hear(client))
        self.turn_until(lambda: self.end.asked)
        self.assertRaises(BlockingIOError, late.recv, 1)

    def test_stop_meanwhile(self) -> None:
        """Told to end meanwhile it does, with a word to who waits; it asks for its end no less."""
        with socket.create_server(("127.0.0.1", 0)) as upstream:
            target = parse_target(f"http://127.0.0.1:{upstream.getsockname()[1]}")
            places = self.taking(b"", 1, generation=2).places
            self.take(Taking(2, one_route(target=target), places), [])
            client = self.connect(self.address(1))
            client.send(request())
            upstream.settimeout(PATIENCE)
            self.turn_until(lambda: self.worker._proxy.site.streams)
            self.worker.obey(Draining(PATIENCE), [])
            self.assertEqual(0, self.end.asked)
            self.stop()
        self.assertEqual(b"HTTP/1.1 503", self.hear(client)[:12])
        self.assertEqual(1, self.end.asked)
