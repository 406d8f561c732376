"""A response's content on its way to a client, with somebody who takes note of it.

Nobody who looks on can alter or delay it: the client's writer has the octets before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from pyproxy.account import Account
from pyproxy.relay.content import RESPONSE_DONE, ContentSink, Download
from pyproxy.semantics.fields import Octets
from pyproxy.semantics.framing import UNTIL_CLOSE, Framing, Kind

_log = Logger()


class Watcher(Protocol):
    """Looks at the content of one response."""

    def feed(self, octets: Octets, now: float) -> bool:
        """Look at octets, whose place may be used again; tell whether more are worth a look.

        Who says no is not asked again, and has said all.
        Args: now, in seconds of the epoch.
        """

    def close(self, whole: bool, left: bool) -> None:
        """Say in the account what was seen.

        Args: whether the content came to its end; whether it did not because the client left.
        """


def uncoded(framing: Framing) -> Framing:
    """Return how content is delimited that did not stay in its chunks."""
    return UNTIL_CLOSE if framing.kind is Kind.CHUNKED else framing


class Followed(Download):
    """A download that keeps an account of when octets moved."""

    __slots__ = ("_account", "_clock")

    def __init__(
        self,
        sink: ContentSink,
        ended: Callable[[BaseException | None], None],
        account: Account,
    ) -> None:
        """Begin.  Args: as ``Download`` has them."""
        super().__init__(sink, ended)
        self._account = account
        self._clock = account.clock

    def dataReceived(self, data: Octets) -> None:
        """Pass on octets as they were read, and take note of when."""
        self.count = count = self.count + len(data)
        self._write(data)
        account = self._account
        account.sent = count
        account.last = now = self._clock()
        if account.first is None:
            account.first = now

    def close(self, whole: bool, left: bool = False) -> None:
        """Take note of the end; called more than once."""


class Watched(Followed):
    """A download whose content is watched, in no coding of the transfer.

    A watcher that fails is logged, and ends; the content goes on.
    """

    __slots__ = ("_watcher",)

    def __init__(
        self,
        sink: ContentSink,
        ended: Callable[[BaseException | None], None],
        account: Account,
        watcher: Watcher,
    ) -> None:
        """Begin.  Args: as ``Download`` has them."""
        super().__init__(sink, ended, account)
        self._watcher: Watcher | None = watcher

    def dataReceived(self, data: Octets) -> None:
        """Pass on octets as they were read, and have them watched then."""
        self.count = count = self.count + len(data)
        self._write(data)
        account = self._account
        account.sent = count
        account.last = now = self._clock()
        if account.first is None:
            account.first = now
        watcher = self._watcher
        if watcher is None:
            return
        try:
            if not watcher.feed(data, now):
                self._watcher = None
        except Exception:  # noqa: BLE001 - a watcher must not end a stream
            self._failed()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell how the content ended, the watcher first."""
        self.close(whole=reason is RESPONSE_DONE)
        super().connectionLost(reason)

    def close(self, whole: bool, left: bool = False) -> None:
        """Let the watcher say what it saw; called more than once, it says it once."""
        watcher, self._watcher = self._watcher, None
        if watcher is None:
            return
        try:
            watcher.close(whole, left)
        except Exception:  # noqa: BLE001 - a watcher must not end a stream
            self._failed()

    def _failed(self) -> None:
        self._watcher = None
        _log.failure(
            "the watcher of request {id} failed; its stream goes on", id=self._account.request_id
        )
