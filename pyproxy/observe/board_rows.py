"""What the board shows of an exchange: one row, from its account and from those who carry it.

Octets of clients and upstreams are masked and cut here, before anybody sees them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from pyproxy.account import Account
from pyproxy.carrier import Flow
from pyproxy.observe.book import Document
from pyproxy.observe.masking import Mask

MOVING = (
    "state",
    "slow",
    "peer",
    "model",
    "status",
    "websocket",
    "first",
    "events",
    "tokens",
    "received",
    "sent",
    "to_client",
    "to_upstream",
)
"""What of a row may change."""

MOST_SHOWN = 200
"""Characters that are shown of anything that a client or an upstream has said."""

MOST_SAID = 4
"""Texts of an exchange that are remembered as they are shown."""

PATIENCE = 2.0
"""Seconds of silence after which an upstream is called slow."""

QUEUED = 1.0
"""Seconds for which octets have to wait for one side until that is called slow."""

CLIENT, UPSTREAM = "client", "upstream"


@attrs.define(eq=False)
class Lookout:
    """What is remembered of an open exchange from one look to the next.

    Attributes: to_client, to_upstream: since when octets have waited for that side at every look;
        None when none did. sent: octets that had been sent, moved: when that changed.
    """

    to_client: float | None = None
    to_upstream: float | None = None
    sent: int = 0
    moved: float = 0.0
    _said: dict[str, str] = attrs.Factory(dict)

    def shown(self, text: str, mask: Mask) -> str:
        """Return a text that can be shown; to mask it at every look is most of what a row costs."""
        known = self._said.get(text)
        if known is None:
            if len(self._said) >= MOST_SAID:
                self._said.clear()
            self._said[text] = known = shown_text(text, mask)
        return known

    def look(self, flow: Flow, now: float) -> None:
        """Take note of how it flows now."""
        self.to_client = (self.to_client or now) if flow.to_client else None
        self.to_upstream = (self.to_upstream or now) if flow.to_upstream else None
        if flow.sent != self.sent:
            self.sent, self.moved = flow.sent, now


def fixed_of(account: Account, mask: Mask) -> Document:
    """Return what does not change of an open exchange."""
    return {
        "number": account.number,
        "request": account.request_id,
        "route": shown_text(account.route, mask),
        "method": shown(account.method, mask),
        "target": shown(account.target, mask),
        "host": shown(account.host, mask),
        "client": shown(account.client, mask) or "local",
        "began": account.began,
    }


def moving_of(account: Account, flow: Flow, lookout: Lookout, now: float, mask: Mask) -> list[Any]:
    """Return what may change of an open exchange, in the order of MOVING."""
    slow = slow_side(account, lookout, now)
    return [
        state_of(account, lookout, slow, now),
        slow,
        *_answer(account, lambda text: lookout.shown(text, mask), flow.messages),
        account.received or flow.received,
        flow.sent,
        flow.to_client,
        flow.to_upstream,
    ]


def _answer(account: Account, write: Callable[[str], str], messages: int = 0) -> list[Any]:
    messages = messages or account.messages_received + account.messages_sent
    return [
        write(account.peer),
        None if account.model is None else write(account.model),
        account.status,
        account.websocket,
        _since(account, account.first_token or account.first),
        messages if account.websocket else account.events,
        tokens_of(account),
    ]


def ended_of(account: Account, mask: Mask) -> Document:
    """Return the row of an exchange that is over."""
    names = ("peer", "model", "status", "websocket", "first", "events", "tokens")
    return {
        **fixed_of(account, mask),
        **dict(zip(names, _answer(account, lambda text: shown_text(text, mask)), strict=True)),
        "received": account.received,
        "sent": account.sent,
        "duration": _since(account, account.ended) or 0.0,
        "good": is_good(account),
        "how": shown_text(how_it_ended(account), mask),
        "closed_by": account.closed_by,
        "milestones": {
            name: _since(account, getattr(account, name))
            for name in ("passed", "asked", "connected", "responded", "first", "last", "ended")
        },
    }


def slow_side(account: Account, lookout: Lookout, now: float) -> str:
    """Return who keeps the other one waiting: the client, the upstream, or nobody (empty)."""
    if lookout.to_client is not None and now - lookout.to_client >= QUEUED:
        return CLIENT
    if lookout.to_upstream is not None and now - lookout.to_upstream >= QUEUED:
        return UPSTREAM
    if account.websocket or account.asked is None or lookout.to_client is not None:
        return ""
    heard = max(account.responded or account.asked, lookout.moved)
    return UPSTREAM if now - heard >= PATIENCE else ""


def state_of(account: Account, lookout: Lookout, slow: str, now: float) -> str:
    """Return what an open exchange does, or waits for."""
    if account.websocket:
        return "waiting for the client" if slow == CLIENT else "open"
    for milestone, state in (
        (account.passed, "being judged"),
        (account.asked, "being prepared"),
        (account.connected, "waiting for a connection"),
        (account.responded, "waiting for the answer"),
    ):
        if milestone is None:
            if slow == UPSTREAM and lookout.to_upstream is not None:
                return "waiting for the upstream to read"
            return state
    if slow == CLIENT:
        return "waiting for the client"
    if not lookout.sent:
        return "waiting for the content"
    return "waiting for more" if slow == UPSTREAM else "streaming"


def is_good(account: Account) -> bool:
    """Tell whether an exchange ended well, quiet failures of its stream counted."""
    ended_well = not account.closed_by and not account.error
    return ended_well and account.outcome in ("", "ended") and account.status < 500


def how_it_ended(account: Account) -> str:
    """Return how an exchange ended, in a few words."""
    if account.closed_by == "operator":
        return "stopped here"
    if account.error:
        return f"{account.closed_by or 'proxy'}: {account.error}"
    if account.closed_by:
        return f"the {account.closed_by} left"
    if account.status >= 500:
        return f"answered {account.status}"
    return account.outcome or "ended"


def tokens_of(account: Account) -> int | None:
    """Return the tokens of an answer: as they were counted, or else the pieces so far."""
    usage = account.usage
    if usage is not None and usage.output_tokens is not None:
        return usage.output_tokens
    return account.output_events or None


def _since(account: Account, moment: float | None) -> float | None:
    """Return the seconds from the head to a moment, to the millisecond."""
    return None if moment is None else round(max(moment - account.began, 0.0), 3)


def shown_text(text: str, mask: Mask) -> str:
    """Return a text as it can be shown."""
    return shown(text[: 4 * MOST_SHOWN].encode("utf-8", "replace"), mask)


def shown(octets: bytes, mask: Mask) -> str:
    """Return octets as text that can be shown."""
    text = mask.apply(octets[: 4 * MOST_SHOWN]).decode("utf-8", "replace")
    return text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN - 1]}…"
