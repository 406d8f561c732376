"""SIEVE: who leaves, and that every call takes constant time."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.cache.eviction import Sieve


class Queue:
    """A sieve whose entries have names: who moves to another place is known by it."""

    def __init__(self, count: int = 0) -> None:
        self.sieve = Sieve()
        self.names = [-1]
        for name in range(count):
            self.add(name)

    def add(self, name: int) -> None:
        """Let an entry come."""
        self.names.append(name)
        assert self.sieve.add() == self.names.index(name)

    def visit(self, *names: int) -> None:
        """Ask for entries."""
        for name in names:
            self.sieve.visited[self.names.index(name)] = True

    def remove(self, name: int) -> None:
        """Take an entry out."""
        place = self.names.index(name)
        self.sieve.remove(place)
        last = self.names.pop()
        if last != name:
            self.names[place] = last

    def victim(self) -> int | None:
        """Return the name of who has to go."""
        place = self.sieve.victim()
        return self.names[place] if place else None

    def evict(self) -> int:
        """Let one leave; return its name."""
        name = self.victim()
        assert name is not None
        self.remove(name)
        return name


class Counted(bytearray):
    """Marks of visits that count who looks at them."""

    looks = 0

    def __getitem__(self, place: Any) -> Any:
        self.looks += 1
        return super().__getitem__(place)


class Model:
    """The same on a list, as the paper has it in words: the oldest first, and a hand."""

    def __init__(self) -> None:
        self.queue: list[int] = []
        self.hand: int | None = None

    def remove(self, name: int) -> None:
        """Take one out; the hand goes on to the next newer one."""
        place = self.queue.index(name)
        if self.hand == name:
            self.hand = self.queue[place + 1] if place + 1 < len(self.queue) else None
        del self.queue[place]

    def victim(self, visited: set[int]) -> int | None:
        """Find who has to go."""
        if not self.queue:
            return None
        place = 0 if self.hand is None else self.queue.index(self.hand)
        while self.queue[place] in visited:
            visited.discard(self.queue[place])
            place = (place + 1) % len(self.queue)
        self.hand = self.queue[place]
        return self.hand


class SieveTests(SynchronousTestCase):
    """The queue and its hand."""

    def test_empty(self) -> None:
        """Nobody leaves an empty queue."""
        queue = Queue()
        self.assertIsNone(queue.victim())
        queue.add(1)
        queue.remove(1)
        self.assertIsNone(queue.victim())

    def test_oldest_first(self) -> None:
        """Who was never asked for leaves in the order of coming."""
        queue = Queue(5)
        self.assertEqual([queue.evict() for _ in range(5)], [0, 1, 2, 3, 4])

    def test_as_in_the_paper(self) -> None:
        """Who was asked for is spared once, where it stands; the hand stays.  SIEVE, figure 1."""
        queue = Queue(7)
        queue.visit(0, 1, 6)
        self.assertEqual(queue.evict(), 2)
        queue.add(7)
        queue.visit(0)
        self.assertEqual([queue.evict() for _ in range(3)], [3, 4, 5])
        # 6 was asked for, 7 was not; then the hand begins again, and 0 was asked for meanwhile.
        self.assertEqual([queue.evict() for _ in range(4)], [7, 1, 6, 0])

    def test_victim_stays(self) -> None:
        """Who has to go is named, and named again until it is removed."""
        queue = Queue(2)
        self.assertEqual(queue.victim(), 0)
        self.assertEqual(queue.victim(), 0)
        queue.remove(1)
        self.assertEqual(queue.victim(), 0)

    def test_all_asked_for(self) -> None:
        """When all were asked for, one leaves after one round."""
        queue = Queue(1000)
        queue.visit(*range(1000))
        marks = queue.sieve.visited = Counted(queue.sieve.visited)
        self.assertEqual(queue.victim(), 0)
        self.assertEqual(marks.looks, 1001)

    def test_no_long_walks(self) -> None:
        """A look is paid for by a visit or by an eviction: there are no more than both."""
        queue = Queue(500)
        marks = queue.sieve.visited = Counted(queue.sieve.visited)
        looks = visits = 0
        for turn in range(3000):
            place = (turn * 7919) % 500 + 1
            visits += not marks[place]
            marks[place] = True
            marks.looks = 0
            name = queue.victim()
            looks += marks.looks
            assert name is not None
            queue.remove(name)
            queue.add(turn + 500)
        self.assertLessEqual(looks, visits + 3000)

    def test_trimmed(self) -> None:
        """What holds no more memory than it needs does the same."""
        queue = Queue(50)
        queue.visit(0, 20)
        for name in range(30, 50):
            queue.remove(name)
        queue.sieve.trim()
        self.assertEqual([queue.evict() for _ in range(30)], [*range(1, 20), *range(21, 30), 0, 20])

    @given(st.lists(st.tuples(st.sampled_from("avre"), st.integers(0, 30)), max_size=200))
    def test_model(self, script: list[tuple[str, int]]) -> None:
        """Whatever is added, asked for, removed and evicted, it does what the words say."""
        queue = Queue()
        model = Model()
        visited: set[int] = set()
        for name, (what, which) in enumerate(script):
            if what == "a":
                queue.add(name)
                model.queue.append(name)
            elif not model.queue:
                self.assertIsNone(queue.victim())
            elif what == "e":
                victim = queue.victim()
                assert victim is not None
                self.assertEqual(victim, model.victim(visited))
                queue.remove(victim)
                model.remove(victim)
            else:
                one = model.queue[which % len(model.queue)]
                if what == "v":
                    queue.visit(one)
                    visited.add(one)
                else:
                    queue.remove(one)
                    model.remove(one)
                    visited.discard(one)
