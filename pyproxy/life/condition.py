"""What can be told of a running proxy: facts, kept in one place for all who tell them."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Any, Protocol

import attrs
from twisted.internet.defer import Deferred

from pyproxy.config.schema import Config
from pyproxy.life.board import BoardAsked
from pyproxy.life.desk import Asked, Document
from pyproxy.life.measuring import Measured


class Phase(Enum):
    """Where the proxy is between start and end; it only ever goes on to a later one."""

    STARTING = "starting"
    SERVING = "serving"
    LEAVING = "draining, still accepting connections"
    DRAINING = "draining"


@attrs.define(eq=False)
class Condition:
    """How the proxy is.

    Attributes:
        config: by which it serves.
        printed: the same as text of TOML, without a secret.
        generation: how many configurations it has served by; 1 from the start.
        taken_at: seconds since the epoch at which it took the present one.
        failures: what is wrong with what the last reload found; empty when it went well.
        wanted: the files that it asked for then.
        refusals: how many reloads were refused.
    """

    config: Config
    printed: str
    taken_at: float
    phase: Phase = Phase.STARTING
    generation: int = 1
    failures: tuple[str, ...] = ()
    wanted: frozenset[Path] = frozenset()
    refusals: int = 0

    @property
    def ready(self) -> bool:
        """Whether load balancers should send requests here."""
        doubted = self.failures and self.config.unready_on_failed_reload
        return self.phase is Phase.SERVING and not doubted


class Serving(Measured, Protocol):
    """What serves, in one process or in several: ``ProxyService``, ``WorkersService``."""

    def serves(self) -> Deferred[None]:
        """Return what fires when connections are accepted."""

    def take(self, config: Config) -> Deferred[None]:
        """Serve new requests by another configuration; what is open goes on by its own.

        Returns: fires when every process does; fails with CannotListenError when a listener cannot
            be opened, and nothing has changed.
        """

    def drain(self, timeout: float) -> Deferred[Any]:
        """Accept no more, and wait for what is open, so many seconds at most."""

    def streams(self) -> int:
        """Return how many requests and WebSockets are open."""

    def reopen_logs(self) -> None:
        """Open the access log's own file anew: somebody has moved it."""

    def ask_cache(self, asked: Asked) -> Deferred[Document | None]:
        """Ask the cache of every process.

        Returns: what ``desk.ask`` returns, of all together; None where nothing is cached.  It fails
            with NobodyAnswers.
        """

    def ask_board(self, asked: BoardAsked) -> Deferred[Document | None]:
        """Ask the board of every process.

        Returns: what ``board.together`` returns, with the numbers of the ``silent``; None where
            nobody keeps accounts.  It fails with NobodyAnswers.
        """
