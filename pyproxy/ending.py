"""How a process of the proxy ends: in order and once, whoever asks for it and however often."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger

_log = Logger("pyproxy")


class End:
    """Stops the reactor once: at once, or when what is open has had its time.

    Args: say is called when it begins; linger then, and what it returns is waited for unless
        somebody asks a second time.
    """

    def __init__(
        self,
        reactor: Any,
        say: Callable[[], None] = lambda: None,
        linger: Callable[[], Deferred[Any]] | None = None,
    ) -> None:
        self._reactor = reactor
        self._say = say
        self._linger = linger
        self._asked = 0
        self._signals = 0
        self._over = False

    def on_sigterm(self) -> None:
        """Take SIGTERM over, once the reactor runs and its own handlers are in place."""
        self._reactor.callWhenRunning(signal.signal, signal.SIGTERM, self._by_signal)

    def __call__(self) -> None:
        """Begin to end; the second time, end."""
        self._asked += 1
        if self._asked == 1:
            self._say()
            if self._linger is not None:
                waiting = self._linger()
                waiting.addErrback(lambda failure: _log.failure("the drain failed", failure))
                waiting.addBoth(lambda _: self._stop())
                return
        self._stop()

    def _stop(self) -> None:
        if not self._over:
            self._over = True
            if self._signals:
                _ignore()
            self._reactor.callWhenRunning(self._stop_reactor)

    def _stop_reactor(self) -> None:
        try:
            self._reactor.stop()
        except ReactorNotRunning:
            # Somebody else, with Ctrl-C, was first.
            pass

    def _by_signal(self, number: int, frame: object) -> None:
        """Go on in the reactor's next turn, as a signal may come at any moment."""
        self._signals += 1
        if self._linger is None or self._signals > 1:
            _ignore()
        self._reactor.callFromThread(self)


def _ignore() -> None:
    """Heed no SIGTERM any more: a handler of ours is gone at the interpreter's end."""
    # Blocked meanwhile: of a second one that comes just before it is ignored CPython complains.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
