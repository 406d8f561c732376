"""SIEVE: who leaves, and that every call takes constant time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.cache.eviction import Sieve


class Queued:
    """An entry that stands in the queue."""

    def __init__(self, name: int) -> None:
        self.name = name
        self.visited = False
        self.looks = 0
        self.newer: object | None = None
        self.older: object | None = None

    def spare(self) -> bool:
        """Tell whether it was asked for, and forget that."""
        self.looks += 1
        visited, self.visited = self.visited, False
        return visited


class Model:
    """The same on a list, as the paper has it in words: the oldest first, and a hand."""

    def __init__(self) -> None:
        self.queue: list[Queued] = []
        self.hand: Queued | None = None

    def remove(self, node: Queued) -> None:
        """Take one out; the hand goes on to the next newer one."""
        place = self.queue.index(node)
        if self.hand is node:
            self.hand = self.queue[place + 1] if place + 1 < len(self.queue) else None
        del self.queue[place]

    def victim(self, visited: set[int]) -> Queued | None:
        """Find who has to go."""
        if not self.queue:
            return None
        place = 0 if self.hand is None else self.queue.index(self.hand)
        while self.queue[place].name in visited:
            visited.discard(self.queue[place].name)
            place = (place + 1) % len(self.queue)
        self.hand = self.queue[place]
        return self.hand


class SieveTests(SynchronousTestCase):
    """The queue and its hand."""

    def evict(self, sieve: Sieve[Queued]) -> int:
        """Let one leave; return its name."""
        node = sieve.victim()
        assert node is not None
        sieve.remove(node)
        return node.name

    def test_empty(self) -> None:
        """Nobody leaves an empty queue."""
        sieve: Sieve[Queued] = Sieve()
        self.assertIsNone(sieve.victim())
        node = Queued(1)
        sieve.add(node)
        sieve.remove(node)
        self.assertIsNone(sieve.victim())
        self.assertEqual((node.newer, node.older), (None, None))

    def test_oldest_first(self) -> None:
        """Who was never asked for leaves in the order of coming."""
        sieve: Sieve[Queued] = Sieve()
        for name in range(5):
            sieve.add(Queued(name))
        self.assertEqual([self.evict(sieve) for _ in range(5)], [0, 1, 2, 3, 4])

    def test_as_in_the_paper(self) -> None:
        """Who was asked for is spared once, where it stands; the hand stays.  SIEVE, figure 1."""
        sieve: Sieve[Queued] = Sieve()
        nodes = {name: Queued(name) for name in range(7)}
        for node in nodes.values():
            sieve.add(node)
        for name in (0, 1, 6):
            nodes[name].visited = True
        self.assertEqual(self.evict(sieve), 2)
        sieve.add(Queued(7))
        nodes[3].visited = False
        nodes[0].visited = True
        self.assertEqual([self.evict(sieve) for _ in range(3)], [3, 4, 5])
        # 6 was asked for, 7 was not; then the hand begins again, and 0 was asked for meanwhile.
        self.assertEqual([self.evict(sieve) for _ in range(4)], [7, 1, 6, 0])

    def test_victim_stays(self) -> None:
        """Who has to go is named, and named again until it is removed."""
        sieve: Sieve[Queued] = Sieve()
        first, second = Queued(1), Queued(2)
        sieve.add(first)
        sieve.add(second)
        self.assertIs(sieve.victim(), first)
        self.assertIs(sieve.victim(), first)
        sieve.remove(second)
        self.assertIs(sieve.victim(), first)

    def test_all_asked_for(self) -> None:
        """When all were asked for, one leaves after one round."""
        sieve: Sieve[Queued] = Sieve()
        nodes = [Queued(name) for name in range(1000)]
        for node in nodes:
            node.visited = True
            sieve.add(node)
        self.assertIs(sieve.victim(), nodes[0])
        self.assertEqual(sum(node.looks for node in nodes), 1001)

    def test_no_long_walks(self) -> None:
        """A look is paid for by a visit or by an eviction: there are no more than both."""
        sieve: Sieve[Queued] = Sieve()
        nodes = [Queued(name) for name in range(500)]
        for node in nodes:
            sieve.add(node)
        looks = visits = 0
        for turn in range(3000):
            node = nodes[(turn * 7919) % len(nodes)]
            visits += not node.visited
            node.visited = True
            victim = sieve.victim()
            assert victim is not None
            sieve.remove(victim)
            looks += victim.looks
            nodes.remove(victim)
            nodes.append(Queued(turn + 500))
            sieve.add(nodes[-1])
        looks += sum(node.looks for node in nodes)
        self.assertLessEqual(looks, visits + 3000)

    @given(st.lists(st.tuples(st.sampled_from("avre"), st.integers(0, 30)), max_size=200))
    def test_model(self, script: list[tuple[str, int]]) -> None:
        """Whatever is added, asked for, removed and evicted, it does what the words say."""
        sieve: Sieve[Queued] = Sieve()
        model = Model()
        visited: set[int] = set()
        for name, (what, which) in enumerate(script):
            if what == "a":
                node = Queued(name)
                sieve.add(node)
                model.queue.append(node)
            elif not model.queue:
                self.assertIsNone(sieve.victim())
            elif what == "e":
                victim = sieve.victim()
                self.assertIs(victim, model.victim(visited))
                assert victim is not None
                sieve.remove(victim)
                model.remove(victim)
            else:
                node = model.queue[which % len(model.queue)]
                if what == "v":
                    node.visited = True
                    visited.add(node.name)
                else:
                    sieve.remove(node)
                    model.remove(node)
                    visited.discard(node.name)
