"""Twisted's asyncio reactor on uvloop, the event loop of libuv."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.main import installReactor


class UvloopReactor(AsyncioSelectorReactor):
    """A reactor on uvloop that knows where its turn ends."""

    def at_turn_end(self, call: Callable[[], None]) -> None:
        """Call something once after the events of this turn."""
        self._asyncioEventloop.call_soon(call)


def install() -> None:
    """Make it the reactor of this process.  Raises: ImportError without uvloop."""
    import uvloop

    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    installReactor(UvloopReactor(loop))
