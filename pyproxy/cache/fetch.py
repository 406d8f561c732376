"""A question to the upstream on behalf of the cache, and of everybody who asks the same meanwhile.

The head of the response decides: what may be kept goes to all, and into the store; anything else
goes to who asked first, and the others are sent on at once, each for itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import attrs
from twisted.logger import Logger

from pyproxy.cache.delivery import Delivery
from pyproxy.cache.fetching import NOBODY, FetchingRoute, Unread
from pyproxy.cache.fill import Fill
from pyproxy.cache.keeping import kept_of, mark, updated
from pyproxy.cache.lookup import Lookup
from pyproxy.cache.posting import Posting
from pyproxy.cache.replay import Recording
from pyproxy.cache.seams import Chosen, Entry
from pyproxy.cache.waiters import Waiters, attempt
from pyproxy.errors import FirstByteTimeout, InternalError, ProxyError, ResponseIncomplete
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
from pyproxy.semantics.framing import UNTIL_CLOSE, Kind
from pyproxy.semantics.messages import ResponseHead
from pyproxy.semantics.stored import StoredResponse
from pyproxy.semantics.storing import Asked, is_event_stream
from pyproxy.semantics.wishes import NO_WISHES
from pyproxy.sides import Bond, UpstreamRequest, UpstreamResponse

ERRORS = frozenset({500, 502, 503, 504})
"""What a stale response may stand in for.  Spec: RFC 5861 4."""

SOONER = 0.9
"""The part of its clients' limit for which a fetch waits that has a stale response to fall back on.

Their exchanges would end first, with 504.
"""

_log = Logger()


@attrs.define(eq=False)
class Fetch:
    """One request to the upstream, and all who wait for its response.

    Attributes:
        asked: the request that it goes out for, as the rules see it.
        why: it was not answered from the store.
        waiters: who gets the answer, as long as there is none.
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
    waiters: Waiters
    candidates: Sequence[Entry] = ()
    variants: Sequence[Entry] = ()
    shared: bool = False
    behind: bool = False
    fill: Fill | None = None
    post: Posting | None = None
    _kept: StoredResponse | None = None
    _spoiled: bool = False
    _joined: bool = True
    _over: bool = False
    _sent_at: float = 0.0
    _purges: list[Chosen] = attrs.Factory(list)
    _seen: int = -1
    _since: float = 0.0

    # beginning

    def start(self) -> None:
        """Send the request."""
        self._sent_at = self.route.cache.now()
        self.request.asking = self
        leader = self.waiters.leader
        if leader is not None:
            leader.wait_for(self)
            leader.mark(cache_status.forwarded(self.why))
        if leader is None or self._stale_for(leader) is not None:
            self._watch()
        try:
            self.route.cache.upstream.send(self.request)
        except Exception:  # noqa: BLE001 - others wait too, and more would
            self._fail()

    def join(self, lookup: Lookup) -> bool:
        """Serve another request, if that can be; tell whether it can."""
        if not self.shared or not self._joined:
            return False
        if self.fill is None:
            self.waiters.others.append(lookup)
            lookup.wait_for(self)
            lookup.mark(cache_status.forwarded(self.why, collapsed=True))
            return True
        if not self._suits(lookup):
            return False
        self._attach(lookup)
        return True

    # from the upstream

    def interim(self, head: ResponseHead) -> None:
        """Pass an interim response to who asked first."""
        leader = self.waiters.leader
        if leader is not None:
            leader.asking.interim(head)

    def bind(self) -> Bond | None:
        """Return the bond of the client's connection."""
        leader = self.waiters.leader
        return None if leader is None else leader.asking.bind()

    def responded(self, response: UpstreamResponse) -> None:
        """Decide by the head who gets the response."""
        try:
            self._decide(response)
        except Exception:  # noqa: BLE001 - nobody else would tell who waits
            self._fail()

    def _decide(self, response: UpstreamResponse) -> None:
        head = response.head
        if self.candidates and head.status == 304:
            self._validated(response)
            return
        if head.status in ERRORS and self._serve_stale(head.status, None):
            self._drop(response)
            return
        route = self.route
        now = route.cache.now()
        if self.post is not None:
            self.post.answered(head)
        kept = kept_of(response, self.asked, self.post, route.policy.heuristic, self._sent_at, now)
        if isinstance(kept, str):
            self._pass(response, kept)
            return
        framing = response.framing
        length = None if framing.kind in (Kind.CHUNKED, Kind.UNTIL_CLOSE) else framing.length
        if any(chosen(self.key, kept) for chosen in self._purges):
            self._spoiled = True
        filling = None
        if not self._spoiled:
            filling = route.cache.store.fill(self.key, kept, length)
        if filling is None:
            self._pass(response, "no-room")
            return
        self._make_room(kept)
        self._kept = kept
        self._learn(kept)
        self.fill = Fill(
            kept, response, filling, self._filled, self._unattended, route.cache.now, length
        )
        if self.post is not None and is_event_stream(head.fields, head.names):
            self.fill.recording = Recording(now)
        self._serve(response, length)

    def _learn(self, kept: StoredResponse) -> None:
        """Know whether others may wait for who asks: not for what serves only one request."""
        cache = self.route.cache
        if judge(kept, NO_WISHES, cache.now()) is Use.VALIDATE:
            cache.unshared.add(self.key)
        else:
            cache.unshared.discard(self.key)

    def _make_room(self, kept: StoredResponse) -> None:
        """Let the oldest variants go where there are too many: clients choose their number."""
        others = [entry for entry in self.variants if entry.head.varies != kept.varies]
        most = self.route.policy.max_variants - 1
        if len(others) > most:
            others.sort(key=lambda entry: entry.head.date)
            for entry in others[: len(others) - most]:
                self.route.cache.store.remove(entry)

    def _serve(self, response: UpstreamResponse, length: int | None) -> None:
        """Give a response that is kept to all whom it suits."""
        fill = self.fill
        if fill is None:
            return
        alone: deque[Lookup] = deque()

        def lead(leader: Lookup) -> None:
            status = cache_status.forwarded(
                self.why, response.head.status, stored=True, detail="post" if self.post else ""
            )
            fields = [*response.head.fields, (b"Cache-Status", status)]
            head = ResponseHead(response.head.status, response.head.reason, 1, fields)
            delivery = Delivery.growing(head, fill, length, self.route.cache.reactor)
            delivery.options = response.options
            leader.respond(delivery, delivery)

        def follow(lookup: Lookup) -> None:
            if self._suits(lookup):
                self._attach(lookup)
            else:
                alone.append(lookup)

        leader = self.waiters.lead()
        if leader is not None:
            attempt(leader, lead)
        self.waiters.each(follow)
        self.waiters.others = alone
        if not fill.over:
            response.deliverBody(fill)  # type: ignore[arg-type]
        self.waiters.each(self._send_on)
        self._unattended()

    def _suits(self, lookup: Lookup) -> bool:
        """Tell whether a request may be answered by what is being kept."""
        kept, fill = self._kept, self.fill
        if kept is None or fill is None or fill.over or fill.overflowed:
            return False
        return self._answers(kept, lookup)

    def _answers(self, kept: StoredResponse, lookup: Lookup) -> bool:
        """Tell whether what one request has brought may answer another."""
        asked = lookup.asked
        if select([kept], asked.fields, asked.names) is None:
            return False
        return judge(kept, asked.wishes, self.route.cache.now()) is not Use.VALIDATE

    def _attach(self, lookup: Lookup) -> None:
        """Serve a request from what is being kept."""
        kept, fill = self._kept, self.fill
        if kept is None or fill is None:
            return
        self.route.counts.collapsed += 1
        now = self.route.cache.now()
        status = cache_status.forwarded(self.why, kept.status, collapsed=True)
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
        self._closed()
        if self.shared and why != "no-store-asked":
            self.route.cache.unshared.add(self.key)

        def lead(leader: Lookup) -> None:
            if response.framing.kind is Kind.CHUNKED:
                # Its content comes out of its chunks, since it might have been stored.
                response.framing = UNTIL_CLOSE
            status = cache_status.forwarded(self.why, response.head.status, detail=why)
            mark(response.head, status)
            leader.respond(response, self.request.connection)

        leader = self.waiters.lead()
        if leader is None:
            self.request.withdraw()
        else:
            attempt(leader, lead)
        self._part()
        self.waiters.each(self._send_on)

    def _send_on(self, lookup: Lookup) -> None:
        """Let one ask for itself."""
        self.route.ask_alone(lookup, self.why)

    def _drop(self, response: UpstreamResponse) -> None:
        """Let nobody have a response's content; nobody waits for one that has not come yet."""
        unread = Unread()
        response.deliverBody(unread)  # type: ignore[arg-type]
        if not unread.over:
            self.request.withdraw()
        self._part()

    # validation

    def _validated(self, response: UpstreamResponse) -> None:
        """Serve the stored response that a 304 is about.  Spec: RFC 9111 4.3.3, 4.3.4."""
        self._drop(response)
        self._closed()
        heads = [entry.head for entry in self.candidates]
        about = matches_validated(heads, response.head)
        entry = None if about is None else self.candidates[heads.index(about)]
        if about is None or entry is None or not entry.live:
            # Ask without conditions: it was about nothing that is stored any more.
            self.waiters.each(lambda lookup: self.route.ask_anew(lookup, self.why))
            return
        cache = self.route.cache
        fresh = refreshed(
            about,
            self.asked,
            response.head,
            self._sent_at,
            cache.now(),
            self.route.policy.heuristic,
        )
        kept = not isinstance(fresh, str)
        if isinstance(fresh, str):
            # It is for nobody else any more.
            cache.store.remove(entry)
            entry.head = updated(about, response)
        else:
            self._learn(fresh)
            cache.store.refresh(entry, fresh)
            entry.head = fresh
        self.route.counts.validated += 1
        self._serve_validated(entry, kept)

    def _serve_validated(self, entry: Entry, kept: bool) -> None:
        """Give a stored response to all whom it suits.  Args: it is still stored."""
        status = cache_status.forwarded(self.why, 304, stored=kept)
        collapsed = cache_status.forwarded(self.why, 304, collapsed=True)

        def follow(lookup: Lookup) -> None:
            if kept and self._answers(entry.head, lookup):
                self.route.counts.collapsed += 1
                self.route.serve(lookup, entry, collapsed)
            else:
                self._send_on(lookup)

        leader = self.waiters.lead()
        if leader is not None:
            attempt(leader, lambda lookup: self.route.serve(lookup, entry, status))
        self.waiters.each(follow)

    def _stale_for(self, lookup: Lookup) -> Entry | None:
        """Return what may answer a request in place of an error."""
        asked, entries = lookup.asked, [entry for entry in self.variants if entry.live]
        heads = [entry.head for entry in entries]
        found = select(heads, asked.fields, asked.names)
        if found is None or not usable_on_error(found, asked.wishes, self.route.cache.now()):
            return None
        return entries[heads.index(found)]

    def _serve_stale(self, status: int | None, error: ProxyError | None) -> bool:
        """Serve what is stale in place of an error, where that is allowed.  Spec: RFC 5861 4.

        Args: the status that came, or why none did.
        Returns: False when who asked first has to get the error.
        """
        leader = self.waiters.leader
        if not self.variants or (leader is not None and self._stale_for(leader) is None):
            return False
        self._closed()

        def serve(lookup: Lookup) -> None:
            entry = self._stale_for(lookup)
            if entry is not None:
                self.route.counts.stale += 1
                collapsed = lookup is not leader
                said = cache_status.forwarded(
                    self.why, status, collapsed=collapsed, detail="stale-if-error"
                )
                self.route.serve(lookup, entry, said)
            elif error is not None:
                lookup.fail(error)
            else:
                self._send_on(lookup)

        self.waiters.each(serve)
        return True

    def unanswered(self, error: ProxyError) -> None:
        """Serve what is stale, or tell all that there is no response."""
        try:
            if not self._serve_stale(None, error):
                self._tell(error)
        except Exception:  # noqa: BLE001 - nobody else would tell who waits
            self._fail()

    def _tell(self, error: ProxyError) -> None:
        """Tell all who wait that there is no response."""
        self._closed()
        self.waiters.each(lambda lookup: lookup.fail(error))

    # ending

    def _fail(self) -> None:
        """End because of a defect, the exception at hand."""
        _log.failure("a fetch has failed")
        self.abandon(InternalError("the cache could not handle this exchange"))

    def purge(self, chosen: Chosen) -> None:
        """Keep nothing of it if it is chosen, as far as can be told once there is a head."""
        if self._kept is None:
            self._purges.append(chosen)
        elif chosen(self.key, self._kept):
            self.spoil()

    def spoil(self) -> None:
        """Keep nothing of it: what is stored for its key was invalidated meanwhile."""
        self._spoiled = True
        self.shared = False
        if self.fill is not None:
            self.fill.spoil()
        self.route.cache.forget(self)
        self._unattended()

    def _closed(self) -> None:
        """Let nobody join any more; what becomes of the upstream's response is known."""
        self._over = True
        self._alone()

    def _alone(self) -> None:
        """Let nobody join any more."""
        self._joined = False
        self.route.cache.forget(self)

    def _filled(self) -> None:
        """Let nobody join any more: the content has ended, or will not be stored."""
        fill = self.fill
        if fill is not None and fill.stored:
            self.route.counts.stored += 1
        if fill is not None and fill.over:
            self._over = True
            self._part()
        self._alone()

    def _part(self) -> None:
        """Have nothing more to do with the upstream: its connection is the pool's, or another's.

        What refers to this fetch would be a cycle.
        """
        self.request.connection = None
        self.request.asking = NOBODY
        self.fill = None

    def left(self, lookup: Lookup) -> None:
        """Take note that a client is gone."""
        self.waiters.leave(lookup)
        self._unattended()

    def _unattended(self) -> None:
        """End it when nobody wants the response, unless it is to be finished anyway."""
        fill = self.fill
        if self._over or self.waiters or (fill is not None and (fill.readers or fill.over)):
            return
        storing = not self._spoiled and (fill is None or not fill.overflowed)
        if storing and (self.behind or self.route.policy.finish):
            self._watch()
        else:
            self.abandon()

    def abandon(self, error: ProxyError | None = None) -> None:
        """End it at once.  Args: what those are told who wait."""
        self._closed()
        self.request.withdraw()
        if self.fill is not None:
            self.fill.abandon()
        self._part()
        self._tell(error or ResponseIncomplete("the fetch was given up"))

    def _watch(self) -> None:
        """Keep the route's limits, which nobody's exchange keeps for it."""
        self._since = self.route.cache.now()
        self.route.cache.watch(self)

    def check(self, now: float) -> float:
        """End it when nothing has moved for too long; return when to be asked again."""
        limits, fill = self.route.limits, self.fill
        if fill is not None and fill.readers:
            # Their exchanges keep the limits.
            return now + limits.idle / 4
        seen = -1 if fill is None else fill.count
        if seen != self._seen:
            self._seen, self._since = seen, now
        waited = fill is None and self.waiters.leader is not None
        limit = limits.first_byte if fill is None else limits.idle
        if waited:
            limit *= SOONER
        if now - self._since < limit:
            return min(self._since + limit, now + limits.idle / 4)
        if waited:
            self.request.withdraw()
            self.unanswered(FirstByteTimeout(f"no response came within {limit:g} s"))
        else:
            self.abandon()
        return now + limits.idle
