"""How a process of the proxy ends: in order and once, whoever asks for it and however often."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any


class End:
    """Stops the reactor once."""

    def __init__(self, reactor: Any, say: Callable[[], None] = lambda: None) -> None:
        """Prepare.  Args: say is called when it begins."""
        self._reactor = reactor
        self._say = say
        self._begun = False

    def on_sigterm(self) -> None:
        """Take SIGTERM over, once the reactor runs and its own handlers are in place."""
        self._reactor.callWhenRunning(signal.signal, signal.SIGTERM, self._by_signal)

    def __call__(self) -> None:
        """Stop.  A second signal may have come before the first could be handled."""
        if not self._begun:
            self._begun = True
            self._say()
            self._reactor.callWhenRunning(self._reactor.stop)

    def _by_signal(self, number: int, frame: object) -> None:
        """Stop in the reactor's next turn, as a signal may come at any moment."""
        # Blocked meanwhile: of a second one that comes just before it is ignored CPython complains.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        # Ignored, since a handler of ours would be gone at the interpreter's end, and a later one
        # would kill.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        self._reactor.callFromThread(self)
