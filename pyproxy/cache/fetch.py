"""A question to the upstream on behalf of the cache, and of everybody who asks the same meanwhile.

The head of the response decides: what may be kept goes to all, and into the store; anything else
goes to who asked first, and the others are sent on at once, each for itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import attrs
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from pyproxy.cache.cache import Cache
from pyproxy.cache.counts import Counts
from pyproxy.cache.delivery import Delivery
from pyproxy.cache.fill import Fill
from pyproxy.cache.lookup import Lookup
from pyproxy.cache.posting import Posting
from pyproxy.cache.replay import Recording
from pyproxy.cache.seams import Entry
from pyproxy.errors import ProxyError, ResponseIncomplete
from pyproxy.policy.cache_policy import CachePolicy
from pyproxy.policy.routing import Limits
from pyproxy.semantics import cache_status
from pyproxy.semantics.cache_status import Why
from pyproxy.semantics.caching import (
    Use,
    judge,
    matches_validated,
    refreshed,
    select,
    usable_on_error,
)
from pyproxy.semantics.fields import Octets
from pyproxy.semantics.framing import Kind
from pyproxy.semantics.messages import ResponseHead
from pyproxy.semantics.posting import posted_of
from pyproxy.semantics.stored import StoredResponse
from pyproxy.semantics.storing import Asked, is_event_stream, stored_of
from pyproxy.sides import Bond, UpstreamRequest, UpstreamResponse


class FetchingRoute(Protocol):
    """What a fetch needs of its route; ``CachingRoute`` is one."""

    cache: Cache
    policy: CachePolicy
    limits: Limits
    counts: Counts

    def serve(self, lookup: Lookup, entry: Entry, status: bytes) -> None:
        """Answer a request by a stored response."""

    def found(self, lookup: Lookup, entries: Sequence[Entry]) -> None:
        """Serve a request by what is stored, or ask the upstream."""

    def ask_alone(self, lookup: Lookup) -> None:
        """Ask the upstream for one request that waited in vain."""


class _Unread(TwistedProtocol):
    """Takes the content of a response that nobody gets."""

    takes_views = True

    def dataReceived(self, data: Octets) -> None:
        """Drop it."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Nobody waits for the end."""


@attrs.define(eq=False)
class Fetch:
    """One request to the upstream, and all who wait for its response.

    Attributes:
        asked: the request that it goes out for, as the rules see it.
        why: it was not answered from the store.
        leader: who asked first; None when nobody does, or not any more.
        waiting: the others, as long as there is no head.
        candidates: what is to be validated.
        variants: what was stored under the key.
        shared: others may join.
        behind: it validates while the stale response is served.
        post: what is peculiar to a POST.
        fill: the content on its way, once the head has said that it may be kept.
    """

    route: FetchingRoute
    key: bytes
    asked: Asked
    request: UpstreamRequest
    why: Why
    leader: Lookup | None
    candidates: Sequence[Entry] = ()
    variants: Sequence[Entry] = ()
    shared: bool = False
    behind: bool = False
    waiting: list[Lookup] = attrs.Factory(list)
    fill: Fill | None = None
    post: Posting | None = None
    _kept: StoredResponse | None = None
    _spoiled: bool = False
    _over: bool = False
    _sent_at: float = 0.0
    _seen: int = -1
    _since: float = 0.0

    # beginning

    def start(self) -> None:
        """Send the request."""
        self._sent_at = self.route.cache.now()
        self.request.asking = self
        if self.leader is not None:
            self.leader.wait_for(self)
        else:
            self._watch()
        self.route.cache.upstream.send(self.request)

    def join(self, lookup: Lookup) -> bool:
        """Serve another request, if that can be; tell whether it can."""
        if not self.shared or self._over:
            return False
        if self.fill is None:
            self.waiting.append(lookup)
            lookup.wait_for(self)
            return True
        if not self._suits(lookup):
            return False
        self._attach(lookup, collapsed=True)
        return True

    # from the upstream

    def interim(self, head: ResponseHead) -> None:
        """Pass an interim response to who asked first."""
        if self.leader is not None:
            self.leader.asking.interim(head)

    def bind(self) -> Bond | None:
        """Return the bond of the client's connection."""
        return self.leader.asking.bind() if self.leader is not None else None

    def responded(self, response: UpstreamResponse) -> None:
        """Decide by the head who gets the response."""
        head = response.head
        if self.candidates and head.status == 304:
            self._validated(response)
            return
        if self.candidates and head.status >= 500 and self._serve_stale(None):
            response.deliverBody(_Unread())  # type: ignore[arg-type]
            return
        route = self.route
        now = route.cache.now()
        if self.post is not None:
            self.post.answered(head)
        kept = self._stored_of(response, now)
        if isinstance(kept, str):
            self._pass(response, kept)
            return
        framing = response.framing
        length = None if framing.kind in (Kind.CHUNKED, Kind.UNTIL_CLOSE) else framing.length
        filling = None
        if not self._spoiled:
            filling = route.cache.store.fill(self.key, kept, length)
        if filling is None:
            self._pass(response, "no-room")
            return
        self._make_room(kept)
        self._kept = kept
        self.fill = Fill(
            kept, response, filling, self._closed, self._unattended, route.cache.now, length
        )
        if self.post is not None and is_event_stream(head.fields, head.names):
            self.fill.recording = Recording(now)
        self._serve(response, length)

    def _stored_of(self, response: UpstreamResponse, now: float) -> StoredResponse | str:
        """Return what is to be stored of a response, or why nothing is."""
        head, options, asked, post = response.head, response.options, self.asked, self.post
        if post is None:
            heuristic = self.route.policy.heuristic
            return stored_of(asked, head, self._sent_at, now, heuristic, options)
        terms = post.policy
        return posted_of(
            head,
            asked.fields,
            asked.wishes,
            now,
            terms.ttl,
            terms.shared,
            terms.events,
            options,
        )

    def _make_room(self, kept: StoredResponse) -> None:
        """Let the oldest variants go where there are too many: clients choose how many there are."""
        others = [entry for entry in self.variants if entry.head.varies != kept.varies]
        most = self.route.policy.max_variants - 1
        if len(others) > most:
            others.sort(key=lambda entry: entry.head.date)
            for entry in others[: len(others) - most]:
                self.route.cache.store.remove(entry)

    def _serve(self, response: UpstreamResponse, length: int | None) -> None:
        """Give a response that is kept to all whom it suits."""
        fill, leader = self.fill, self.leader
        if fill is None:
            return
        self.route.counts.stored += 1
        if leader is not None:
            status = cache_status.forwarded(
                self.why, response.head.status, stored=True, detail="post" if self.post else ""
            )
            fields = [*response.head.fields, (b"Cache-Status", status)]
            head = ResponseHead(response.head.status, response.head.reason, 1, fields)
            delivery = Delivery.growing(head, fill, length, self.route.cache.reactor)
            delivery.options = response.options
            self.leader = None
            leader.respond(delivery, delivery)
        waiting, self.waiting = self.waiting, []
        alone = [lookup for lookup in waiting if not self._suits(lookup)]
        for lookup in waiting:
            if not lookup.gone and lookup not in alone:
                self._attach(lookup, collapsed=True)
        response.deliverBody(fill)  # type: ignore[arg-type]
        self._send_on(alone)
        self._unattended()

    def _suits(self, lookup: Lookup) -> bool:
        """Tell whether a request may be answered by what is being kept."""
        kept, asked = self._kept, lookup.asked
        if kept is None or self.fill is None or self.fill.overflowed:
            return False
        if select([kept], asked.fields, asked.names) is None:
            return False
        return judge(kept, asked.wishes, self.route.cache.now()) is not Use.VALIDATE

    def _attach(self, lookup: Lookup, collapsed: bool) -> None:
        """Serve a request from what is being kept."""
        kept, fill = self._kept, self.fill
        if kept is None or fill is None:
            return
        self.route.counts.collapsed += 1
        now = self.route.cache.now()
        status = cache_status.forwarded(self.why, kept.status, stored=False, collapsed=collapsed)
        fields = [
            *kept.fields,
            (b"Age", b"%d" % kept.age(now)),
            (b"Cache-Status", status),
        ]
        head = ResponseHead(kept.status, kept.reason, 1, fields)
        length = fill.length
        delivery = Delivery.growing(head, fill, length, self.route.cache.reactor)
        lookup.respond(delivery, delivery)

    def _pass(self, response: UpstreamResponse, why: str) -> None:
        """Give a response that is not kept to who asked first; send the others on."""
        route, leader = self.route, self.leader
        self._closed()
        self.leader = None
        if self.shared and why != "no-store-asked":
            route.cache.unshared.add(self.key)
        if leader is None:
            self.request.withdraw()
        else:
            status = cache_status.forwarded(
                self.why, response.head.status, stored=False, detail=why
            )
            mark(response.head, status)
            leader.respond(response, self.request.connection)
        waiting, self.waiting = self.waiting, []
        self._send_on(waiting)

    def _send_on(self, lookups: Sequence[Lookup]) -> None:
        """Let others ask, each for itself."""
        for lookup in lookups:
            if not lookup.gone:
                self.route.ask_alone(lookup)

    # validation

    def _validated(self, response: UpstreamResponse) -> None:
        """Serve the stored response that a 304 is about.  Spec: RFC 9111 4.3.3, 4.3.4."""
        response.deliverBody(_Unread())  # type: ignore[arg-type]
        self._closed()
        heads = [entry.head for entry in self.candidates]
        about = matches_validated(heads, response.head)
        if about is None:
            self._ask_anew()
            return
        entry = self.candidates[heads.index(about)]
        cache = self.route.cache
        fresh = refreshed(
            about,
            self.asked,
            response.head,
            self._sent_at,
            cache.now(),
            self.route.policy.heuristic,
        )
        leader, self.leader = self.leader, None
        waiting, self.waiting = self.waiting, []
        if isinstance(fresh, str):
            # It is for nobody else any more.
            cache.store.remove(entry)
        else:
            cache.store.refresh(entry, fresh)
            entry.head = fresh
        self.route.counts.validated += 1
        if leader is not None:
            status = cache_status.forwarded(self.why, 304, stored=not isinstance(fresh, str))
            self.route.serve(leader, entry, status)
        if isinstance(fresh, str):
            self._send_on(waiting)
            return
        for lookup in waiting:
            if not lookup.gone:
                self.route.found(lookup, [entry])

    def _ask_anew(self) -> None:
        """Ask without conditions: the 304 was about nothing that is stored."""
        leader, self.leader = self.leader, None
        waiting, self.waiting = self.waiting, []
        for lookup in [*waiting, leader]:
            if lookup is not None and not lookup.gone:
                self.route.ask_alone(lookup)

    def _serve_stale(self, error: ProxyError | None) -> bool:
        """Serve what is stale in place of an error, where that is allowed.  Spec: RFC 5861 4.

        Returns: False when who asked first has to get the error.
        """
        now = self.route.cache.now()

        def stale_for(lookup: Lookup) -> Entry | None:
            asked = lookup.asked
            heads = [entry.head for entry in self.candidates]
            found = select(heads, asked.fields, asked.names)
            if found is None or not usable_on_error(found, asked.wishes, now):
                return None
            return self.candidates[heads.index(found)]

        leader = self.leader
        if leader is not None and stale_for(leader) is None:
            return False
        self._closed()
        self.leader = None
        waiting, self.waiting = self.waiting, []
        for lookup in waiting if leader is None else [leader, *waiting]:
            if lookup.gone:
                continue
            entry = stale_for(lookup)
            if entry is not None:
                self.route.counts.stale += 1
                status = cache_status.hit(entry.head.fresh_until - now)
                self.route.serve(lookup, entry, status)
            elif error is not None:
                lookup.fail(error, self.why)
            else:
                self.route.ask_alone(lookup)
        return True

    def unanswered(self, error: ProxyError) -> None:
        """Serve what is stale, or tell all that there is no response."""
        if self.candidates and self._serve_stale(error):
            return
        self._closed()
        leader, self.leader = self.leader, None
        waiting, self.waiting = self.waiting, []
        for lookup in [leader, *waiting]:
            if lookup is not None and not lookup.gone:
                lookup.fail(error, self.why)

    # ending

    def spoil(self) -> None:
        """Keep nothing of it: what is stored for its key was invalidated meanwhile."""
        self._spoiled = True
        self.shared = False
        if self.fill is not None:
            self.fill.spoil()
        self.route.cache.forget(self)
        self._unattended()

    def _closed(self) -> None:
        """Let nobody join any more."""
        self._over = True
        self.route.cache.forget(self)

    def left(self, lookup: Lookup) -> None:
        """Take note that a client is gone."""
        if lookup is self.leader:
            self.leader = None
        elif lookup in self.waiting:
            self.waiting.remove(lookup)
        self._unattended()

    def _unattended(self) -> None:
        """End it when nobody wants the response, unless it is to be finished anyway."""
        fill = self.fill
        if self.leader is not None or self.waiting or (fill is not None and fill.readers):
            return
        if fill is not None and fill.over:
            return
        storing = not self._spoiled and (fill is None or not fill.overflowed)
        if storing and (self.behind or self.route.policy.finish):
            self._watch()
        else:
            self.abandon()

    def abandon(self) -> None:
        """End it at once."""
        self._closed()
        self.request.withdraw()
        if self.fill is not None:
            self.fill.abandon()
        leader, self.leader = self.leader, None
        waiting, self.waiting = self.waiting, []
        for lookup in [leader, *waiting]:
            if lookup is not None and not lookup.gone:
                lookup.fail(ResponseIncomplete("the fetch was given up"), self.why)

    def _watch(self) -> None:
        """Keep the route's limits, which nobody's exchange keeps for it."""
        self._since = self.route.cache.now()
        self.route.cache.watch(self)

    def check(self, now: float) -> float:
        """End it when nothing has moved for too long; return when to be asked again."""
        limits, fill = self.route.limits, self.fill
        seen = -1 if fill is None else fill.count
        if seen != self._seen:
            self._seen, self._since = seen, now
        limit = limits.first_byte if fill is None else limits.idle
        if now - self._since >= limit:
            self.abandon()
        return min(self._since + limit, now + limits.idle / 4)


def mark(head: ResponseHead, status: bytes) -> None:
    """Say in a response what the cache has done.  Spec: RFC 9211 2."""
    head.fields.append((b"Cache-Status", status))
    head.names.append(b"cache-status")
