"""The way of an exchange, step by step, as it can be shown: without a credential."""

from __future__ import annotations

import re
from typing import Any

import attrs

from pyproxy.account import Account, Noted
from pyproxy.observe.board_rows import MOST_SHOWN, how_it_ended, shown
from pyproxy.observe.book import Document
from pyproxy.observe.facts import facts_of
from pyproxy.observe.masking import Mask
from pyproxy.semantics.secrets import MASK

MOST_FIELDS = 100
"""Fields that are shown of one section."""

_is_credential = re.compile(
    rb"key|token|secret|auth|passw|cookie|credential|session|signature|jwt|assertion", re.IGNORECASE
).search

_STEPS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (
        "began",
        "head read",
        ("method", "target", "protocol", "scheme", "host", "client", "request_id", "trace_id"),
    ),
    ("passed", "gates passed", ("route",)),
    ("asked", "handed to the upstream's side", ("upstream",)),
    ("connected", "written to a connection", ("reused", "attempts")),
    ("responded", "response head", ("status", "cache")),
    ("first", "first content", ()),
    ("first_token", "first token", ("dialect", "model")),
    ("last_token", "last token", ()),
    ("last", "last content", ()),
    (
        "ended",
        "over",
        (
            *("status", "received", "sent", "messages_received", "messages_sent"),
            *("events", "comments", "output_events", "outcome"),
            *("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "cost"),
            *("attempts", "closed_by", "error", "detail"),
        ),
    ),
)
"""Milestones of an account in their order, their titles, and which facts are told with each."""

_AT_THE_END = ("last_token", "last")
"""What may still change until all is over."""

_SECTIONS = {
    "began": (("from the client", "received"),),
    "asked": (("to the upstream", "forwarded"),),
    "responded": (("from the upstream", "responded"), ("to the client", "answered")),
}
"""Fields that are told with a milestone: whose they are, and their name in ``Noted``."""


@attrs.define(eq=False)
class Steps:
    """The steps of one exchange so far; once told they stay as they are."""

    account: Account
    _steps: list[Document] = attrs.Factory(list)
    _said: set[tuple[str, float]] = attrs.Factory(set)

    def after(self, told: int, mask: Mask) -> list[Document]:
        """Return the steps behind those that were told.

        Returns: each with ``step``, its title; ``milestone``; ``at``, in seconds of the epoch;
            ``since`` the head was read; ``facts``; ``fields``, pairs by whose they are.
        """
        account = self.account
        for milestone, title, names in _STEPS:
            at = getattr(account, milestone)
            late = milestone in _AT_THE_END and account.ended is None
            # A request that is sent again is written to a connection once more.
            if at is None or late or (milestone, at) in self._said:
                continue
            self._said.add((milestone, at))
            facts = facts_of(account, mask)
            self._steps.append(
                {
                    "step": title,
                    "milestone": milestone,
                    "at": at,
                    "since": round(max(at - account.began, 0.0), 6),
                    "facts": {name: _cut(facts[name]) for name in names if name in facts},
                    "fields": _fields_of(account.noted, milestone, mask),
                }
            )
            if milestone == "ended":
                how = shown(how_it_ended(account).encode("utf-8", "replace"), mask)
                self._steps[-1]["facts"] = {"how": how, **self._steps[-1]["facts"]}
        return self._steps[told:]


def _fields_of(noted: Noted | None, milestone: str, mask: Mask) -> dict[str, list[list[str]]]:
    if noted is None:
        return {}
    sections = {whose: getattr(noted, name) for whose, name in _SECTIONS.get(milestone, ())}
    return {
        whose: [[shown(name, mask), value_of(name, value, mask)] for name, value in pairs]
        for whose, pairs in ((one, all_of[:MOST_FIELDS]) for one, all_of in sections.items())
        if pairs
    }


def value_of(name: bytes, value: bytes, mask: Mask) -> str:
    """Return a field's value as it can be shown; of one that carries credentials that is a mask."""
    return MASK.decode("ascii") if _is_credential(name) else shown(value, mask)


def _cut(value: Any) -> Any:
    return value[:MOST_SHOWN] if isinstance(value, str) else value
