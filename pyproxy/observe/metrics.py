"""What one process counts of its exchanges, and how it tells the process that is asked for it.

Must not know how it is written for Prometheus, nor what other processes counted.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs
from twisted.internet.interfaces import IReactorTime

from pyproxy.account import Account
from pyproxy.observe.families import (
    CACHE_RESULTS,
    CONNECTIONS,
    DETAILS,
    DIRECTIONS,
    FAMILIES,
    METHODS,
    NO_STATUS,
    OTHER,
    OTHER_METHOD,
    QUIET,
    TOKENS,
    WHO_ENDS,
    Histogram,
)
from pyproxy.observe.lag import LoopLag
from pyproxy.observe.masking import Mask
from pyproxy.observe.rows import Names, Numbers, Rows
from pyproxy.semantics.dialects.reading import Usage

ROWS_AT_ONCE = 100
"""Rows in one answer: about 1 ms to write, and to read."""

_AT = {family.name: family.at for family in FAMILIES}
_HISTOGRAMS = {one.name: one for one in FAMILIES if isinstance(one, Histogram)}

_DURATION = _HISTOGRAMS["http_server_request_duration_seconds"]
_FIRST_BYTE = _HISTOGRAMS["pyproxy_time_to_first_byte_seconds"]
_FIRST_TOKEN = _HISTOGRAMS["gen_ai_server_time_to_first_token_seconds"]
_PER_TOKEN = _HISTOGRAMS["gen_ai_server_time_per_output_token_seconds"]


def _places(name: str, values: tuple[str, ...]) -> Mapping[str, int]:
    return {value: _AT[name] + number for number, value in enumerate(values)}


_TOKENS = _places("pyproxy_tokens_total", TOKENS)
_DETAILS = _places("pyproxy_token_details_total", DETAILS)
_STREAMS = _AT["pyproxy_event_streams_total"]
_QUIET = _places("pyproxy_quiet_failures_total", QUIET)
_ENDS = _places("pyproxy_ended_early_total", WHO_ENDS)
_OCTETS = _places("pyproxy_content_bytes_total", DIRECTIONS)
_MESSAGES = _places("pyproxy_websocket_messages_total", DIRECTIONS)
_REQUESTS = _places("pyproxy_upstream_requests_total", CONNECTIONS)
_RETRIES = _AT["pyproxy_upstream_retries_total"]
_CACHE = _places("pyproxy_cache_results_total", CACHE_RESULTS)

_CLASSES = {number: f"{number}xx" for number in range(1, 6)}

_TOKENS_OF_USAGE = (
    (_TOKENS["input"], "input_tokens"),
    (_TOKENS["output"], "output_tokens"),
    (_DETAILS["cached"], "cached_tokens"),
    (_DETAILS["cache_write"], "cache_write_tokens"),
    (_DETAILS["reasoning"], "reasoning_tokens"),
)


@attrs.define(eq=False)
class Metrics:
    """Counts exchanges that are over: ``record`` is one of their sinks.

    Attributes:
        mask: takes credentials out of what an upstream says.
        opened: returns the exchanges that are open now.
        gauges: return what else is measured when somebody asks, by the names of families.
        lag: of the event loop.
    """

    lag: LoopLag
    mask: Mask = attrs.Factory(Mask)
    opened: Callable[[], Iterable[Account]] = tuple
    gauges: dict[str, Callable[[], float]] = attrs.Factory(dict)
    _name: str = attrs.Factory(lambda: f"{os.getpid()}-{os.urandom(4).hex()}")
    _rows: Rows = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._rows = Rows(Names(self._shown))

    @classmethod
    def of(cls, clock: IReactorTime) -> Metrics:
        """Make what counts nothing yet."""
        return cls(LoopLag(clock))

    def record(self, account: Account) -> None:
        """Count an exchange that is over."""
        numbers = self._row_of(account)
        began = account.began
        if account.ended is not None:
            observe(numbers, _DURATION, account.ended - began)
        if account.responded is not None:
            observe(numbers, _FIRST_BYTE, account.responded - began)
        if account.connected is not None:
            numbers[_REQUESTS["reused" if account.reused else "new"]] += 1
            numbers[_RETRIES] += account.attempts - 1
        numbers[_OCTETS["received"]] += account.received
        numbers[_OCTETS["sent"]] += account.sent
        if account.closed_by in _ENDS:
            numbers[_ENDS[account.closed_by]] += 1
        if account.outcome:
            numbers[_STREAMS] += 1
            if account.outcome in _QUIET:
                numbers[_QUIET[account.outcome]] += 1
        if account.websocket:
            numbers[_MESSAGES["received"]] += account.messages_received
            numbers[_MESSAGES["sent"]] += account.messages_sent
        if account.cache:
            numbers[_CACHE[account.cache if account.cache in _CACHE else OTHER]] += 1
        if account.first_token is not None:
            observe(numbers, _FIRST_TOKEN, account.first_token - began)
        if account.usage is not None:
            _count_tokens(numbers, account, account.usage)

    def _row_of(self, account: Account) -> Numbers:
        method = account.method.decode("latin-1")
        # Here too, as what a client makes up must not be looked at for long.
        method = method if method in METHODS else OTHER_METHOD
        status = _CLASSES.get(account.status // 100, NO_STATUS)
        return self._rows.row((account.route, method, status, account.model or ""))

    def _shown(self, model: str) -> str:
        """Return a model's name without a credential; a lone surrogate could not be written."""
        return self.mask.apply(model.encode("utf-8", "replace")).decode("utf-8", "replace")

    def page(self, start: int) -> dict[str, Any]:
        """Return some of the rows, as JSON can hold them, and how things are now.

        Args: start, how many rows are known already.
        Returns: ``process``, a name that no other process has; ``rows``, each a key and its
            numbers; whether there are ``more``; ``lag``; ``gauges`` by their names; ``open``,
            by the routes, how many requests and how many WebSockets.
        """
        rows = self._rows.order
        end = start + ROWS_AT_ONCE
        return {
            "process": self._name,
            "start": start,
            "rows": rows[start:end],
            "more": end < len(rows),
            "lag": self.lag.numbers,
            "gauges": {name: measure() for name, measure in self.gauges.items()},
            "open": self._open() if start == 0 else {},
        }

    def _open(self) -> dict[str, list[int]]:
        counts: dict[str, list[int]] = {}
        for one in self.opened():
            counts.setdefault(one.route, [0, 0])[one.websocket] += 1
        return counts


def observe(numbers: Numbers, histogram: Histogram, seconds: float) -> None:
    """Count how long something took; a clock that was set back counts as nothing."""
    seconds = max(0.0, seconds)
    at = histogram.at
    numbers[at + bisect_left(histogram.bounds, seconds)] += 1
    numbers[at + len(histogram.bounds) + 1] += seconds


def _count_tokens(numbers: Numbers, account: Account, usage: Usage) -> None:
    for at, name in _TOKENS_OF_USAGE:
        numbers[at] += getattr(usage, name) or 0
    first, last, output = account.first_token, account.last_token, usage.output_tokens or 0
    ended_well = not account.closed_by and account.outcome in ("", "ended")
    if ended_well and first is not None and last is not None and output > 1:
        observe(numbers, _PER_TOKEN, (last - first) / (output - 1))
