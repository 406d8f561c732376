"""An orderly end, once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial

from twisted.trial.unittest import SynchronousTestCase

from pyproxy.ending import End


class Reactor:
    """A reactor that counts how often it is stopped; calls from signals wait for its turn."""

    def __init__(self) -> None:
        self.running = False
        self.stops = 0
        self.hooks: list[Callable[[], None]] = []
        self.waiting: list[Callable[[], None]] = []

    def callWhenRunning(self, call: Callable[..., None], *arguments: object) -> None:
        """Call at once, or when the reactor runs."""
        hook = partial(call, *arguments)
        if self.running:
            hook()
        else:
            self.hooks.append(hook)

    def run(self) -> None:
        """Run until somebody asks for more."""
        self.running = True
        for hook in self.hooks:
            hook()

    def stop(self) -> None:
        """Take note."""
        self.stops += 1

    def callFromThread(self, call: Callable[[], None]) -> None:
        """Let a call wait."""
        self.waiting.append(call)


class EndTests(SynchronousTestCase):
    """SIGTERM ends the proxy in order, however often it comes."""

    def test_once(self) -> None:
        """Whoever asks, and however often: the reactor is stopped once, and that is said once."""
        reactor, said = Reactor(), ["begins"]
        end = End(reactor, lambda: said.append("ends"))
        end()
        self.assertEqual(0, reactor.stops)
        reactor.run()
        end()
        self.assertEqual((1, ["begins", "ends"]), (reactor.stops, said))

    def test_signal(self) -> None:
        """A signal is heard in the reactor's turn, and a second one does not kill."""
        before = signal.getsignal(signal.SIGTERM)
        self.addCleanup(signal.signal, signal.SIGTERM, before)
        reactor = Reactor()
        End(reactor).on_sigterm()
        self.assertIs(before, signal.getsignal(signal.SIGTERM))
        reactor.run()
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
        self.assertEqual((1, 0), (len(reactor.waiting), reactor.stops))
        # A handler would be gone at the interpreter's end, and a third one kill.
        self.assertIs(signal.SIG_IGN, signal.getsignal(signal.SIGTERM))
        self.assertNotIn(signal.SIGTERM, signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        reactor.waiting[0]()
        self.assertEqual(1, reactor.stops)
