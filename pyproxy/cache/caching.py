"""What a request passes on a route that caches: it is answered, sent, or waits for another's.

The exchange sees a step before the upstream, and then a response; it does not know where that came
from.  Spec: RFC 9111.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from twisted.logger import Logger

from pyproxy.cache.cache import Cache
from pyproxy.cache.counts import Counts
from pyproxy.cache.delivery import Delivery
from pyproxy.cache.fetch import Fetch
from pyproxy.cache.keeping import mark
from pyproxy.cache.lookup import Lookup, Passing
from pyproxy.cache.posting import Posting, may_be_kept
from pyproxy.cache.ready import Ready, ready_for
from pyproxy.cache.replay import Replay
from pyproxy.cache.seams import Entry
from pyproxy.cache.waiters import Waiters
from pyproxy.errors import InternalError, NotCached
from pyproxy.held import Held, Reading
from pyproxy.policy.cache_policy import CachePolicy
from pyproxy.policy.instead import Reply
from pyproxy.policy.routing import Limits
from pyproxy.semantics import cache_status
from pyproxy.semantics.answering import answer
from pyproxy.semantics.cache_key import key_of, plain_key
from pyproxy.semantics.cache_status import Why
from pyproxy.semantics.caching import CONDITIONAL, Use, conditions, judge, select
from pyproxy.semantics.fields import Fields, lacking
from pyproxy.semantics.forwarding import Hop
from pyproxy.semantics.invalidation import SAFE, invalidated
from pyproxy.semantics.messages import RequestHead, ResponseHead
from pyproxy.semantics.posting import post_key, post_wishes
from pyproxy.semantics.storing import Asked
from pyproxy.semantics.to_client import ResponseForwarding
from pyproxy.semantics.urls import DEFAULT_PORTS
from pyproxy.semantics.wishes import SPECIAL, wishes_of
from pyproxy.sides import UpstreamRequest, UpstreamResponse

_log = Logger()

_NOT_AT_ONCE = SPECIAL | {b"authorization", b"expect", b"upgrade"}
"""Request fields with which a request takes the long way."""


@attrs.define(eq=False)
class CachingRoute:
    """The cache's part of one route.

    Attributes:
        space: octets that tell apart what may not be shared: another origin, other fields that are
            added to requests.
        origin: of the upstream, as ``scheme://host``.
        replaced: request fields, in lower case, that the route gives a value of its own.
        name: what it is called where its counts are shown.
    """

    cache: Cache
    space: bytes
    origin: bytes
    policy: CachePolicy
    limits: Limits
    to_client: ResponseForwarding
    replaced: frozenset[bytes] = frozenset()
    name: str = "/"
    counts: Counts = attrs.Factory(Counts)

    # at once

    def reply(self, head: RequestHead, host: bytes, target: bytes, hop: Hop) -> Reply | None:
        """Answer a plain request by what is at hand; None when it has to go the long way."""
        if head.method != b"GET" or not _NOT_AT_ONCE.isdisjoint(head.names):
            return None
        entry = self.cache.store.hot.get(self._key(head, host, target, hop))
        if entry is None:
            return None
        ready = entry.ready
        if type(ready) is not Ready or ready.route is not self or not ready.suits(head):
            return None
        reply = ready.reply(self.cache.now())
        if reply is not None:
            entry.visited = True
            self.counts.hits += 1
        return reply

    # the long way

    def _key(self, head: RequestHead, host: bytes, target: bytes, hop: Hop) -> bytes:
        plain = plain_key(self.space, hop.scheme, host, target)
        return key_of(plain, head.fields, head.names, hop.trusted)

    def send(self, request: UpstreamRequest, head: RequestHead, host: bytes, hop: Hop) -> None:
        """Serve a request, or send it to the upstream."""
        method = head.method
        if request.websocket_key is not None or request.bond is not None:
            self._pass(request, Why.BYPASS)
        elif method == b"POST" and self._looks_up(request, head, host, hop):
            return
        elif method not in SAFE:
            asking = request.asking
            self._send(request, _Unsafe(asking, Why.METHOD, self, request.target, head, host, hop))
        elif method not in (b"GET", b"HEAD"):
            self._pass(request, Why.METHOD)
        elif request.content is not None:
            self._pass(request, Why.BYPASS)
        else:
            authorized = b"authorization" in head.noted and b"authorization" not in self.replaced
            # As the upstream sees it: that is what its response varies by.
            fields = request.fields
            names = [name.lower() for name, _ in fields]
            wishes = wishes_of(head.fields, head.names)
            if wishes.guarded:
                # Whether its preconditions hold, only the origin can tell.
                self._pass(request, Why.BYPASS)
                return
            asked = Asked(method, fields, names, authorized, wishes)
            key = self._key(head, host, request.target, hop)
            lookup = Lookup(request, request.asking, asked, key, host)
            lookup.wait_for(_NOBODY)
            self.cache.store.find(key, lambda entries: self.found(lookup, entries))

    def _looks_up(self, request: UpstreamRequest, head: RequestHead, host: bytes, hop: Hop) -> bool:
        """Look a POST up, where the route says so; tell whether it does."""
        policy = self.policy.post
        if policy is None or not may_be_kept(head, request, policy):
            return False
        target = request.target

        def look(octets: bytes) -> None:
            if content is not None:
                request.content = Held(octets)
            plain = self._key(head, host, target, hop)
            key = post_key(plain, octets, head.fields, policy.fields, policy.ignore, policy.shared)
            names = [name.lower() for name, _ in request.fields]
            wishes = post_wishes(wishes_of(head.fields, head.names))
            asked = Asked(b"POST", request.fields, names, False, wishes)
            lookup = Lookup(request, request.asking, asked, key, host, post)
            lookup.wait_for(_NOBODY)
            self.cache.store.find(key, lambda entries: self.found(lookup, entries))

        post = Posting(policy, lambda response: self.invalidate(target, head, host, hop, response))
        content = request.content
        if content is None:
            look(b"")
        else:
            Reading(request, look).start(content)
        return True

    def _pass(self, request: UpstreamRequest, why: Why) -> None:
        """Have nothing to do with a request but to say so."""
        self._send(request, _Marking(request.asking, why))

    def _send(self, request: UpstreamRequest, passing: Passing) -> None:
        """Send a request that the cache only looks at."""
        self.counts.passed += 1
        request.asking = passing
        request.marks = ((b"Cache-Status", cache_status.forwarded(passing.why)),)
        self.cache.upstream.send(request)

    def found(self, lookup: Lookup, entries: Sequence[Entry]) -> None:
        """Serve a request by what is stored, or ask the upstream."""
        if lookup.gone:
            return
        try:
            self._use(lookup, entries)
        except Exception:  # noqa: BLE001 - who waits for a store has nobody else to log it
            _log.failure("the cache could not handle a request")
            if not lookup.gone:
                lookup.fail(InternalError("the cache could not handle this request"))

    def _use(self, lookup: Lookup, entries: Sequence[Entry]) -> None:
        asked, now = lookup.asked, self.cache.now()
        heads = [entry.head for entry in entries]
        head = select(heads, asked.fields, asked.names) if heads else None
        if head is None:
            self._miss(lookup, Why.VARY_MISS if heads else Why.URI_MISS, entries)
            return
        entry = entries[heads.index(head)]
        use = judge(head, asked.wishes, now)
        if use is not Use.VALIDATE:
            if use is Use.FRESH:
                self.counts.hits += 1
            else:
                self.counts.stale += 1
            detail = b"" if lookup.post is None else b"post"
            self.serve(lookup, entry, cache_status.hit(head.fresh_until - now, detail))
            if use is Use.BEHIND:
                self._validate_behind(lookup, entry, entries)
        else:
            fresh = head.fresh_until > now and not head.no_cache
            self._miss(lookup, Why.REQUEST if fresh else Why.STALE, entries, entry)

    def serve(self, lookup: Lookup, entry: Entry, status: bytes) -> None:
        """Answer a request by a stored response."""
        asked, now = lookup.asked, self.cache.now()
        said = answer(entry.head, asked.method, asked.wishes, now)
        if said is None:
            lookup.wait_for(None)
            self._pass(lookup.request, Why.PARTIAL)
            return
        fields = [*said.fields, (b"Cache-Status", status)]
        head = ResponseHead(said.status, said.reason, 1, fields)
        post, reactor = lookup.post, self.cache.reactor
        if post is not None and entry.head.events:
            head = ResponseHead(said.status, said.reason, 1, lacking(fields, (b"content-length",)))
            paced = post.policy.paced
            replay = Replay.of(head, entry.content, entry.head, paced, reactor)
            entry.visited = True
            lookup.respond(replay, replay)
            return
        delivery = Delivery.whole(head, entry.content, said.span, reactor)
        if (
            post is None
            and entry.ready is not self
            and getattr(entry.ready, "route", None) is not self
            and self.cache.store.hot.get(entry.key) is entry
        ):
            entry.ready = ready_for(self, entry, lookup.host) or self
        entry.visited = True
        lookup.respond(delivery, delivery)

    # asking the upstream

    def _miss(
        self, lookup: Lookup, why: Why, entries: Sequence[Entry], entry: Entry | None = None
    ) -> None:
        """Ask the upstream, or wait for who asks already."""
        asked = lookup.asked
        wishes = asked.wishes
        if wishes.only_if_cached:
            lookup.mark(cache_status.not_cached())
            lookup.fail(NotCached("nothing is stored that may answer this"))
            return
        if asked.method == b"HEAD":
            lookup.wait_for(None)
            self._pass(lookup.request, why)
            return
        usable = _to_validate(entry, entries)
        if not usable and (wishes.conditional or wishes.range is not None):
            # Its answer may be 304 or 206, which serves nobody else.
            self._fetch(lookup, why, False, (), entries)
            return
        alone = wishes.no_cache or wishes.no_store
        fetch = self.cache.fetches.get(lookup.key)
        if fetch is not None and not alone and fetch.join(lookup):
            return
        shared = fetch is None and not alone and lookup.key not in self.cache.unshared
        self._fetch(lookup, why, shared, usable, entries)

    def ask_alone(self, lookup: Lookup, why: Why) -> None:
        """Ask the upstream for one request that waited in vain."""
        self._fetch(lookup, why, shared=False)

    def ask_anew(self, lookup: Lookup, why: Why) -> None:
        """Ask the upstream without what was stored, which is no more; others may wait for it."""
        self._miss(lookup, why, ())

    def _fetch(
        self,
        lookup: Lookup,
        why: Why,
        shared: bool,
        candidates: Sequence[Entry] = (),
        variants: Sequence[Entry] = (),
    ) -> None:
        """Begin to fetch."""
        self.counts.misses += 1
        request = self._question(lookup.request, candidates)
        fetch = Fetch(
            self,
            lookup.key,
            lookup.asked,
            request,
            why,
            Waiters(lookup),
            candidates,
            variants,
            shared,
        )
        fetch.post = lookup.post
        self.cache.begin(fetch)

    def _validate_behind(self, lookup: Lookup, entry: Entry, entries: Sequence[Entry]) -> None:
        """Validate what was served stale, with nobody waiting.  Spec: RFC 5861 3."""
        if lookup.key in self.cache.fetches:
            return
        candidates = [entry] if entry.head.has_validator else []
        request = self._question(lookup.request, candidates, behind=True)
        fetch = Fetch(
            self,
            lookup.key,
            lookup.asked,
            request,
            Why.STALE,
            Waiters(None),
            candidates,
            entries,
            shared=True,
            behind=True,
        )
        self.cache.begin(fetch)

    @staticmethod
    def _question(
        request: UpstreamRequest, candidates: Sequence[Entry], behind: bool = False
    ) -> UpstreamRequest:
        """Return a request as the cache sends it: with its own conditions, if it has any."""
        fields: Fields = request.fields
        if candidates or behind:
            fields = lacking(fields, CONDITIONAL)
            fields += conditions([entry.head for entry in candidates])
        return UpstreamRequest(
            request.asking,
            request.peer,
            request.method,
            request.target,
            fields.copy(),
            request.content,
            account=None if behind else request.account,
        )

    def invalidate(
        self, target: bytes, head: RequestHead, host: bytes, hop: Hop, response: ResponseHead
    ) -> None:
        """Forget what an unsafe request has changed.  Spec: RFC 9111 4.4."""
        for changed in invalidated(target, response, self.origin, host):
            for scheme in DEFAULT_PORTS:
                plain = plain_key(self.space, scheme, host, changed)
                for key in {plain, key_of(plain, head.fields, head.names, hop.trusted)}:
                    self.cache.invalidate(key)


def _to_validate(entry: Entry | None, entries: Sequence[Entry]) -> Sequence[Entry]:
    """Return which of the entries of a key to ask about.  Args: the one that a request chooses.

    Others only where all have entity tags: what an upstream says of a date need not be about
    what this client would get.  Spec: RFC 9111 4.3.1.
    """
    if entry is None or not entry.head.has_validator:
        return ()
    if entry.head.etag is None:
        return (entry,)
    return [one for one in entries if one.head.etag is not None]


class _Nobody:
    """What a lookup waits for while a store looks."""

    def left(self, lookup: Lookup) -> None:
        """The lookup knows it itself."""


_NOBODY = _Nobody()


@attrs.define(eq=False)
class _Marking(Passing):
    """Says in a response that the cache has let it pass."""

    def see(self, response: UpstreamResponse) -> None:
        """Mark it."""
        mark(response.head, cache_status.forwarded(self.why, response.head.status))


@attrs.define(eq=False)
class _Unsafe(Passing):
    """Forgets what an unsafe request has changed, once it was answered."""

    route: CachingRoute
    target: bytes
    head: RequestHead
    host: bytes
    hop: Hop

    def see(self, response: UpstreamResponse) -> None:
        """Forget it, and mark the response."""
        self.route.invalidate(self.target, self.head, self.host, self.hop, response.head)
        mark(response.head, cache_status.forwarded(Why.METHOD, response.head.status))
