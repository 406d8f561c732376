"""What serves in one process: a configuration becomes a resource tree and an agent, and another.

Knows no listening port; who opens those gives them ``site``.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import attrs
from twisted.internet.defer import Deferred, succeed

from pyproxy.config.schema import CacheConfig, Config, TracesConfig
from pyproxy.ingress.resource import PrefixResource
from pyproxy.ingress.seams import Terms
from pyproxy.ingress.site import ProxySite
from pyproxy.life.board import BoardAsked, ask_board
from pyproxy.life.desk import Asked, CacheDesk, Document, ask
from pyproxy.life.measuring import Measuring
from pyproxy.listeners import Place
from pyproxy.observe.access_log import AccessLog
from pyproxy.observe.accounts import Accounts, Sink
from pyproxy.observe.json_log import COMBINED, account_log
from pyproxy.observe.masking import Mask
from pyproxy.observe.twistd_log import publish_line, take_lines_everywhere
from pyproxy.plan import Plan, make_plan
from pyproxy.policy.routing import Peer
from pyproxy.relay.limits import Sweeper
from pyproxy.relay.transports import IProxyReactor
from pyproxy.semantics.forwarding import Network
from pyproxy.upstream.agent import ForwardingAgent
from pyproxy.upstream.client import ForwardingClient

if TYPE_CHECKING:
    from pyproxy.cache.cache import Cache
    from pyproxy.observe.board import Board
    from pyproxy.observe.metrics import Metrics
    from pyproxy.observe.otlp import Exporter


@attrs.frozen
class Accounting:
    """How accounts are kept.  Attributes: as ``Accounts`` has them."""

    sinks: tuple[Sink, ...]
    trusted: tuple[Network, ...]
    begins_traces: bool
    traces: TracesConfig | None
    mask: Mask


@attrs.frozen
class Prepared:
    """All that a configuration brings, made before anything of it is used."""

    plan: Plan
    terms: Terms
    waits: tuple[float, ...]
    secrets: tuple[bytes, ...]
    injects: bool
    cache: Cache | None
    bounds: CacheConfig
    accounting: Accounting | None


class Proxy:
    """Serves the connections that its site is given.

    What is not yet used, a large plan, may be made in a thread: ``prepare`` changes nothing.

    Args: the service's name in ``Via``: a request that comes back to another worker is in a loop
        too (RFC 9110 7.6.3); count is told how many connections are open, whenever that changes;
        to_file takes lines of an access log that has a file of its own.
    Attributes: site, the factory of clients' connections; cache, who answers for what is stored,
        None where nothing is; metrics, what counts exchanges, None where nothing does; board, what
        shows them, None where nothing does.
    """

    def __init__(
        self,
        config: Config,
        reactor: IProxyReactor,
        pseudonym: bytes,
        count: Callable[[int], None] | None = None,
        to_file: Callable[[str], None] = publish_line,
    ) -> None:
        self._reactor = reactor
        self._to_file = to_file
        self._exporter: Exporter | None = None
        self._pseudonym = pseudonym
        self._peers: dict[Peer, Peer] = {}
        self._secrets: tuple[bytes, ...] = ()
        self._injects = False
        self._accounts: Accounts | None = None
        self._shared: Cache | None = None
        self._bounds = config.cache
        self._close_store: Callable[[], object] = lambda: None
        self._sweeper = Sweeper.for_limits(reactor, config.waits)
        self.cache: CacheDesk | None = None
        self._agent = ForwardingAgent(reactor, self._sweeper)
        self._client = ForwardingClient(self._agent)
        self.metrics = self._metrics() if config.metrics else None
        self.board = self._keep_board() if config.admin is not None else None
        first = self.prepare(config)
        self._resource = PrefixResource(first.plan.table, self._client, self._sweeper)
        self.site = ProxySite(self._resource, reactor, self._sweeper, first.terms)
        self.site.count = count
        self.take(first)

    def open(self) -> None:
        """Open what outlives the process, once it is the user that it stays.  Raises: CannotStart.

        That is there from the start, or never: a reload does not change it.
        """
        if self._shared is not None and self._bounds.shared:
            from pyproxy.stores import open_store

            opened = open_store(self._bounds, self._reactor)
            self._shared.store, self._close_store = opened.store, opened.close

    def start(self) -> None:
        """Begin to keep time limits."""
        self._sweeper.start()
        if self.metrics is not None:
            self.metrics.lag.start()

    def _metrics(self) -> Metrics:
        """Return what counts; a reload neither begins nor ends that."""
        from pyproxy.observe.families import CLIENT_CONNECTIONS, IDLE_CONNECTIONS
        from pyproxy.observe.metrics import Metrics

        metrics = Metrics.of(self._reactor)
        metrics.opened = lambda: () if self._accounts is None else self._accounts.open.values()
        metrics.gauges[CLIENT_CONNECTIONS.name] = lambda: self.site.connections
        metrics.gauges[IDLE_CONNECTIONS.name] = lambda: self._agent.idle
        return metrics

    def _keep_board(self) -> Board:
        """Return what shows every exchange that is kept an account of; a reload does not end it."""
        from pyproxy.observe.board import Board
        from pyproxy.observe.tracing import Tracers

        if self._accounts is None:
            self._accounts = Accounts(self._reactor)
        seconds, epoch = self._reactor.seconds, secrets.randbits(52)
        board = Board(self._accounts, seconds, epoch)
        board.tracers = Tracers(self._accounts, seconds, epoch, lambda: board.mask)
        return board

    def ask_board(self, process: int, asked: BoardAsked) -> Document | None:
        """Ask the board.  Args: by which number this process is known."""
        return ask_board(self.board, process, asked)

    def answer(self, asked: Asked | Measuring) -> Deferred[Document | None]:
        """Answer a question about the cache, or what was counted; None where there is none."""
        if isinstance(asked, Measuring):
            return succeed(None if self.metrics is None else self.metrics.page(asked.start))
        return ask(self.cache, asked)

    def prepare(self, config: Config) -> Prepared:
        """Make what a configuration brings; nothing of it is used yet, and nothing changes."""
        cache = self._cache_of(config)
        plan = make_plan(config, self._pseudonym, self._peers, cache)
        terms = self._terms(config)
        return Prepared(
            plan,
            terms,
            config.waits,
            config.secrets,
            config.injects,
            cache,
            config.cache.share_of(config.workers),
            self._accounting(config) if config.needs_accounts else None,
        )

    def take(self, prepared: Prepared) -> None:
        """Serve what begins from now on by it; what is open goes on by what it began with.

        Connections to upstreams that stay the same are kept.
        """
        if prepared.terms.access_log is not None or prepared.accounting is not None:
            take_lines_everywhere()
        terms = attrs.evolve(prepared.terms, accounts=self._keep_accounts(prepared.accounting))
        self._resource.table = prepared.plan.table
        self._peers = {peer: peer for peer in prepared.plan.peers}
        if self.metrics is not None:
            self.metrics.mask = Mask.of(prepared.secrets + self._secrets)
        if self.board is not None:
            self.board.mask = Mask.of(prepared.secrets + self._secrets)
        self._secrets, self._injects = prepared.secrets, prepared.injects
        self.site.take(terms)
        self._sweeper.suit(prepared.waits)
        self._agent.keep(prepared.plan.peers)
        cache = self._shared or prepared.cache
        if cache is not None:
            self._take_cache(cache, prepared)

    def _cache_of(self, config: Config) -> Cache | None:
        """Return the cache, made if a route has come to need it; it is not open yet then."""
        cache, wanted = self._shared, config.caches or config.cache.shared
        if cache is not None or not wanted:
            return cache
        # Who caches nothing does not wait for these at the start: 30 ms.
        from pyproxy.cache.cache import Cache
        from pyproxy.stores import nothing_kept, open_store

        bounds = config.cache.share_of(config.workers)
        store = nothing_kept() if bounds.shared else open_store(bounds, self._reactor).store
        return Cache(store, self._client, self._reactor, self._sweeper)

    def _take_cache(self, cache: Cache, prepared: Prepared) -> None:
        """Have a cache from now on, or go on with it; a reload keeps what is stored."""
        from pyproxy.desk import Desk

        if self._shared is not None:
            cache.store.resize(prepared.bounds.memory, prepared.bounds.entry)
        self._shared, self._bounds = cache, prepared.bounds
        routes = prepared.plan.table.routes
        caches = any(route.step is not None for route in routes)
        self.cache = Desk(cache, routes) if caches else None

    def leave(self, gone: Iterable[Place], staying: Iterable[Place]) -> None:
        """Let the connections of places that are gone end behind their present response.

        Where a credential is added: who could reach a place that was open to all must not spend
        what only the places that stay may spend.  A place that was opened anew at the same address,
        with another certificate, is not gone.
        """
        if self._injects:
            kept = [place.port.getHost() for place in staying]
            left = [place.port.getHost() for place in gone]
            self.site.leave([address for address in left if address not in kept])

    def _terms(self, config: Config) -> Terms:
        """Return on which terms clients are served."""
        log = None
        if config.log.access == COMBINED and any(route.access_log for route in config.routes):
            log = AccessLog(
                self._reactor, self._mask(config), config.trusted, self._write_of(config)
            )
        silence = max(route.limits.idle for route in config.routes)
        return Terms(config.client_limit, config.trusted, config.trust_unix, log, silence)

    def _mask(self, config: Config) -> Mask:
        """Return what keeps secrets out of logs.

        What is open may still be logged with those of the configuration before.
        """
        return Mask.of(config.secrets + self._secrets)

    def _write_of(self, config: Config) -> Callable[[str], None]:
        """Return what takes the lines of the access log."""
        return publish_line if config.log.place is None else self._to_file

    def _accounting(self, config: Config) -> Accounting:
        """Return how accounts are kept."""
        sinks: tuple[Sink, ...] = ()
        if config.log.access != COMBINED:
            sinks = (account_log(config.log.access, self._mask(config), self._write_of(config)),)
        if self.metrics is not None:
            sinks += (self.metrics.record,)
        if self.board is not None:
            sinks += (self.board.ended,)
        return Accounting(
            sinks, config.trusted, config.log.trace, config.traces, self._mask(config)
        )

    def _keep_accounts(self, accounting: Accounting | None) -> Accounts | None:
        """Return who keeps the accounts of requests that begin from now on, None for nobody."""
        if accounting is None:
            if self._accounts is not None:
                # What is open is told to those who want to know now.
                self._accounts.sinks = ()
            return None
        if self._accounts is None:
            self._accounts = Accounts(self._reactor)
        accounts = self._accounts
        accounts.sinks, accounts.trusted = accounting.sinks, accounting.trusted
        accounts.begins_traces, accounts.sample = accounting.begins_traces, None
        if accounting.traces is not None:
            accounts.sample = accounting.traces.sample
            accounts.sinks += (self._send_spans(accounting.traces, accounting.mask),)
        return accounts

    def _send_spans(self, traces: TracesConfig, mask: Mask) -> Sink:
        """Return what makes spans of accounts and sends them."""
        # Who records nothing does not wait for these at the start.
        from pyproxy.observe.otlp import Exporter
        from pyproxy.observe.otlp_post import Destination
        from pyproxy.observe.spans import SpanSink

        destination = Destination(traces.target, traces.fields, traces.service_name)
        if self._exporter is None:
            agent = ForwardingAgent(self._reactor, self._sweeper)
            self._exporter = Exporter(self._reactor, agent, destination)
        self._exporter.aim(destination)
        return SpanSink(mask, self._exporter.take)

    def drain(self, timeout: float) -> Deferred[None]:
        """Let what is open end by itself.

        Returns: fires when no connection is left, or after so many seconds.
        """
        return self.site.drain(timeout)

    def stop(self) -> Deferred[object]:
        """End every connection."""
        return self.site.shut_down().addBoth(self._send_last).addBoth(self._stopped)

    def _send_last(self, result: object) -> object:
        """Send the spans that wait; the connections that just ended have brought the last ones."""
        if self._exporter is None:
            return result
        return self._exporter.close().addBoth(lambda _: result)

    def _stopped(self, result: object) -> object:
        if self._shared is not None:
            self._shared.close()
            self._close_store()
        if self.metrics is not None:
            self.metrics.lag.stop()
        self._sweeper.stop()
        self._agent.close()
        return result
