"""A thread of one's own, for what must not wait behind others, nor be waited for at the end.

The reactor's threads look up names: a slow name server keeps all ten of them, and the reactor
waits for them when it ends.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


def in_own_thread(reactor: Any, call: Callable[..., T], *arguments: Any) -> Deferred[T]:
    """Call something in a thread that ends with the process, should it never return."""
    done: Deferred[T] = Deferred()

    def tell(result: T | Failure) -> None:
        if not done.called:
            done.callback(result)

    def run() -> None:
        result: T | Failure
        try:
            result = call(*arguments)
        except Exception:  # noqa: BLE001 - whoever waits gets it
            result = Failure()
        reactor.callFromThread(tell, result)

    Thread(target=run, name="pyproxy", daemon=True).start()
    return done
