"""The accounts of one process: those that are open, and who is given the closed ones."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from pyproxy.account import Account
from pyproxy.semantics.forwarding import Hop, Network, client_of
from pyproxy.semantics.messages import RequestHead, noted_values
from pyproxy.semantics.trace_context import (
    SAMPLED,
    SPAN_ID_BYTES,
    TRACE_ID_BYTES,
    TraceContext,
    begin,
    is_sampled,
    parse,
)

Sink = Callable[[Account], None]

_log = Logger()


class Begun(Protocol):
    """A request whose head is there; ``ingress.request.ClientRequest`` is one."""

    head: RequestHead
    hop: Hop
    began_at: float
    asked_host: bytes

    @property
    def request_id(self) -> str:
        """The request's name in logs and error texts."""


class Accounts:
    """Keeps the accounts of a process.

    Attributes:
        open: those that are not closed, by their numbers.
        sinks: are given each account when it is closed.
        trusted: networks whose word of a client is believed.
        begins_traces: a request without a trace begins one.
        sample: the part of the traces begun here that is recorded, from 0 to 1; of others those are
            whose caller says so.  None where nothing is.
        on_begin: is told of each that begins, and of its head; None for nobody.
    """

    def __init__(
        self,
        clock: IReactorTime,
        sinks: tuple[Sink, ...] = (),
        trusted: tuple[Network, ...] = (),
        begins_traces: bool = False,
        sample: float | None = None,
    ) -> None:
        self.open: dict[int, Account] = {}
        self.sinks = sinks
        self.trusted = trusted
        self.begins_traces = begins_traces
        self.sample = sample
        self.on_begin: Callable[[Account, RequestHead], None] | None = None
        self._seconds = clock.seconds
        self._begun = 0

    def begin(self, request: Begun) -> Account:
        """Open the account of a request."""
        self._begun += 1
        head, hop = request.head, request.hop
        account = Account(
            self._begun,
            request.request_id,
            self._seconds,
            self.over,
            request.began_at,
            head.method,
            head.target,
            head.minor_version,
            hop.scheme,
            client_of(head.fields, hop, self.trusted),
            b", ".join(noted_values(head, b"referer")),
            b", ".join(noted_values(head, b"user-agent")),
            request.asked_host,
        )
        trace = account.trace = trace_of(head)
        if trace is None and (self.begins_traces or self.sample is not None):
            self._begin_trace(account)
        elif trace is not None and trace.sampled and self.sample is not None:
            account.span = trace.child(os.urandom(SPAN_ID_BYTES))
            account.upstream_span = trace.child(os.urandom(SPAN_ID_BYTES))
        self.open[account.number] = account
        if self.on_begin is not None:
            self.on_begin(account, head)
        return account

    def _begin_trace(self, account: Account) -> None:
        """Begin a trace for a request that has none, if it is recorded or passed on."""
        trace = begin(os.urandom(TRACE_ID_BYTES + SPAN_ID_BYTES), sampled=False)
        if self.sample is not None and is_sampled(trace.trace_id, self.sample):
            trace = attrs.evolve(trace, flags=trace.flags | SAMPLED)
            account.span = trace
            account.upstream_span = trace.child(os.urandom(SPAN_ID_BYTES))
        elif not self.begins_traces:
            return
        account.trace, account.trace_begun = trace, True

    def over(self, account: Account) -> None:
        """Give a closed account to every sink; one that fails is logged, and the others go on."""
        self.open.pop(account.number, None)
        for sink in self.sinks:
            try:
                sink(account)
            except Exception:  # noqa: BLE001 - the exchange is over; nobody else would say it
                _log.failure("a sink of accounts failed")


def trace_of(head: RequestHead) -> TraceContext | None:
    """Return the trace that a request belongs to; a malformed one is none."""
    names = head.names
    if names.count(b"traceparent") != 1:
        return None
    return parse(head.fields[names.index(b"traceparent")][1])
