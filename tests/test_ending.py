"""An orderly end, once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial

from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
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
        """Take note.  Raises: ReactorNotRunning the second time, as a real one does."""
        self.stops += 1
        if self.stops > 1:
            raise ReactorNotRunning

    def callFromThread(self, call: Callable[[], None]) -> None:
        """Let a call wait."""
        self.waiting.append(call)

    def turn(self) -> int:
        """Make the calls that wait; return how many there were."""
        waiting, self.waiting = self.waiting, []
        for call in waiting:
            call()
        return len(waiting)


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


class LingerTests(SynchronousTestCase):
    """What is open has its time, unless somebody is in a hurry."""

    def setUp(self) -> None:
        """Run a reactor, with an end that waits."""
        before = signal.getsignal(signal.SIGTERM)
        self.addCleanup(signal.signal, signal.SIGTERM, before)
        self.reactor = Reactor()
        self.said: list[str] = []
        self.waits: Deferred[None] = Deferred()
        self.end = End(self.reactor, partial(self.said.append, "ends"), self.linger)
        self.end.on_sigterm()
        self.reactor.run()

    def linger(self) -> Deferred[None]:
        """Begin to wait."""
        self.said.append("waits")
        return self.waits

    def term(self) -> None:
        """Send this process SIGTERM, and let the reactor have its turn."""
        os.kill(os.getpid(), signal.SIGTERM)
        self.assertEqual(1, self.reactor.turn())

    def assert_deaf(self) -> None:
        """Fail unless SIGTERM is ignored: a handler would be gone at the interpreter's end."""
        self.assertIs(signal.SIG_IGN, signal.getsignal(signal.SIGTERM))
        self.assertNotIn(signal.SIGTERM, signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        os.kill(os.getpid(), signal.SIGTERM)
        self.assertEqual(0, self.reactor.turn())

    def test_waits(self) -> None:
        """It is said, then waited for; the end comes when that is over, once."""
        self.end()
        self.assertEqual((["ends", "waits"], 0), (self.said, self.reactor.stops))
        self.waits.callback(None)
        self.assertEqual((["ends", "waits"], 1), (self.said, self.reactor.stops))
        self.end()
        self.assertEqual((["ends", "waits"], 1), (self.said, self.reactor.stops))

    def test_nothing_to_wait_for(self) -> None:
        """What is over at once is no wait."""
        self.waits.callback(None)
        self.end()
        self.assertEqual(1, self.reactor.stops)

    def test_second(self) -> None:
        """Who asks a second time gets the end at once; the wait says nothing more to that."""
        self.end()
        self.end()
        self.assertEqual((["ends", "waits"], 1), (self.said, self.reactor.stops))
        self.waits.callback(None)
        self.assertEqual(1, self.reactor.stops)

    def test_fails(self) -> None:
        """A wait that fails is over, and the log has why."""
        self.end()
        self.waits.errback(ZeroDivisionError("a defect"))
        self.assertEqual(1, self.reactor.stops)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_signals(self) -> None:
        """The first signal begins, the second ends; those that follow kill nobody."""
        self.term()
        self.assertEqual((["ends", "waits"], 0), (self.said, self.reactor.stops))
        self.term()
        self.assertEqual(1, self.reactor.stops)
        self.assert_deaf()

    def test_two_in_one_turn(self) -> None:
        """Two signals before the reactor has its turn are two."""
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
        self.assertEqual(0, self.reactor.stops)
        self.assertEqual(2, self.reactor.turn())
        self.assertEqual((["ends", "waits"], 1), (self.said, self.reactor.stops))
        self.assert_deaf()

    def test_signal_and_end(self) -> None:
        """A second signal that comes when the wait is over just now kills nobody either."""
        self.term()
        self.waits.callback(None)
        self.assertEqual(1, self.reactor.stops)
        self.assert_deaf()

    def test_ctrl_c(self) -> None:
        """Somebody else stops the reactor meanwhile: that was the end, and the wait adds none."""
        self.term()
        self.reactor.stop()
        self.waits.callback(None)
        self.assertEqual([], self.flushLoggedErrors())
        self.assert_deaf()

    def test_ctrl_c_and_signal(self) -> None:
        """A signal after that is no other."""
        self.term()
        self.reactor.stop()
        self.term()
        self.assertEqual([], self.flushLoggedErrors())
        self.assert_deaf()
