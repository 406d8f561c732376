"""SIEVE: what leaves a full cache, in constant time.

New entries stand at the head of a queue; a hand goes from its tail to its head and takes the first
entry that was not asked for since it last came by.  An entry that was is spared once, where it
stands.  Source: Zhang et al., "SIEVE is Simpler than LRU", NSDI 2024, which has its hit rates on
1,559 traces; ``benchmarks/eviction.py`` has ours.
"""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar


class Queued(Protocol):
    """What stands in the queue.

    Attributes:
        newer, older: its neighbours; the queue's own.
    """

    newer: object | None
    older: object | None

    def spare(self) -> bool:
        """Tell whether it was asked for since this was last called."""


Node = TypeVar("Node", bound=Queued)


class Sieve(Generic[Node]):
    """A queue with a hand.  Every call takes constant time, ``victim`` on average."""

    __slots__ = ("_hand", "_newest", "_oldest")

    def __init__(self) -> None:
        self._newest: Node | None = None
        self._oldest: Node | None = None
        self._hand: Node | None = None

    def add(self, node: Node) -> None:
        """Let a new node stand at the head."""
        node.newer = None
        node.older = self._newest
        if self._newest is None:
            self._oldest = node
        else:
            self._newest.newer = node
        self._newest = node

    def remove(self, node: Node) -> None:
        """Take a node out, wherever it stands."""
        newer, older = node.newer, node.older
        if self._hand is node:
            self._hand = newer  # type: ignore[assignment]
        if newer is None:
            self._newest = older  # type: ignore[assignment]
        else:
            newer.older = older  # type: ignore[attr-defined]
        if older is None:
            self._oldest = newer  # type: ignore[assignment]
        else:
            older.newer = newer  # type: ignore[attr-defined]
        node.newer = node.older = None

    def victim(self) -> Node | None:
        """Return who has to go, who stays in the queue; None when it is empty."""
        node = self._hand or self._oldest
        while node is not None and node.spare():
            node = node.newer or self._oldest  # type: ignore[assignment]
        self._hand = node
        return node
