"""Whether a stored response may be used, and what a validation makes of it."""

from __future__ import annotations

import math

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.semantics.caching import (
    Use,
    conditions,
    judge,
    matches_validated,
    merged,
    opaque,
    refreshed,
    select,
    usable_on_error,
)
from pyproxy.semantics.fields import Field
from pyproxy.semantics.http_dates import write_date
from pyproxy.semantics.stored import StoredResponse
from pyproxy.semantics.storing import Asked, stored_of
from pyproxy.semantics.wishes import NO_WISHES, Wishes, wishes_of
from tests.semantics.kit import CONTROLS, NOW, asked_for, kept, names_of, response

FRESH = (b"Cache-Control", b"max-age=60")
VARY = (b"Vary", b"Cookie")
THEN = NOW + 30

# Born at 1000, fresh until 1060.
STORED = StoredResponse(200, b"OK", (), 1000.0, 1060.0)
STALE = attrs.evolve(STORED, stale_behind=30.0, stale_on_error=30.0)

some_seconds = st.none() | st.floats(0, 200)
some_wishes = st.builds(
    Wishes,
    no_cache=st.booleans(),
    max_age=some_seconds,
    min_fresh=some_seconds,
    max_stale=some_seconds | st.just(math.inf),
    stale_if_error=some_seconds,
)


class JudgeTests(SynchronousTestCase):
    """What a stored response is good for.  RFC 9111 4.2, 4.2.4, 5.2.1."""

    def test_times(self) -> None:
        """Fresh until its lifetime is over; stale only where somebody allows it."""
        for stored, wishes, now, use in (
            (STORED, NO_WISHES, 1000, Use.FRESH),
            (STORED, NO_WISHES, 1059.9, Use.FRESH),
            (STORED, NO_WISHES, 1060, Use.VALIDATE),
            (STORED, NO_WISHES, 9999, Use.VALIDATE),
            (STORED, NO_WISHES, 900, Use.FRESH),
            (STORED, Wishes(no_cache=True), 1000, Use.VALIDATE),
            (STORED, Wishes(max_age=0), 1000, Use.FRESH),
            (STORED, Wishes(max_age=0), 1000.1, Use.VALIDATE),
            (STORED, Wishes(max_age=30), 1030, Use.FRESH),
            (STORED, Wishes(max_age=30), 1031, Use.VALIDATE),
            (STORED, Wishes(min_fresh=30), 1030, Use.FRESH),
            (STORED, Wishes(min_fresh=30), 1031, Use.VALIDATE),
            (STORED, Wishes(max_stale=10), 1070, Use.STALE),
            (STORED, Wishes(max_stale=10), 1071, Use.VALIDATE),
            (STORED, Wishes(max_stale=math.inf), 10**9, Use.STALE),
            (STORED, Wishes(max_stale=math.inf, max_age=60), 1061, Use.VALIDATE),
            (STORED, Wishes(max_stale=math.inf, min_fresh=0), 1061, Use.VALIDATE),
            (STALE, NO_WISHES, 1059, Use.FRESH),
            (STALE, NO_WISHES, 1060, Use.BEHIND),
            (STALE, NO_WISHES, 1090, Use.BEHIND),
            (STALE, NO_WISHES, 1091, Use.VALIDATE),
            (STALE, Wishes(max_stale=5), 1062, Use.STALE),
            (STALE, Wishes(max_age=70), 1062, Use.VALIDATE),
            (STALE, Wishes(min_fresh=1), 1062, Use.VALIDATE),
        ):
            with self.subTest(stored=stored, wishes=wishes, now=now):
                self.assertIs(use, judge(stored, wishes, now))

    def test_immutable(self) -> None:
        """What does not change is not asked about by a reload while it is fresh.  RFC 8246 2."""
        lasting = attrs.evolve(STALE, immutable=True)
        self.assertIs(Use.FRESH, judge(lasting, Wishes(max_age=0), 1059))
        self.assertIs(Use.VALIDATE, judge(lasting, Wishes(max_age=0), 1060))
        self.assertIs(Use.VALIDATE, judge(lasting, Wishes(no_cache=True), 1000))
        self.assertIs(Use.VALIDATE, judge(lasting, Wishes(min_fresh=60), 1001))

    def test_strict(self) -> None:
        """What is never to be used stale, or without a validation, is not.  RFC 9111 5.2.2."""
        wishes = Wishes(max_stale=math.inf)
        strict = attrs.evolve(STALE, must_revalidate=True)
        self.assertIs(Use.FRESH, judge(strict, wishes, 1000))
        self.assertIs(Use.VALIDATE, judge(strict, wishes, 1060))
        self.assertIs(Use.VALIDATE, judge(attrs.evolve(STALE, no_cache=True), wishes, 1000))

    @given(
        st.floats(0, 200),
        st.floats(0, 200),
        st.booleans(),
        st.booleans(),
        some_wishes,
        st.floats(900, 1300),
    )
    def test_never_wrongly(
        self,
        lifetime: float,
        behind: float,
        no_cache: bool,
        strict: bool,
        wishes: Wishes,
        now: float,
    ) -> None:
        """Nothing that is too old is fresh, and nothing is stale that must not be."""
        until = 1000 + lifetime
        stored = attrs.evolve(
            STORED,
            fresh_until=until,
            no_cache=no_cache,
            must_revalidate=strict,
            stale_behind=behind,
            stale_on_error=behind,
        )
        use = judge(stored, wishes, now)
        if no_cache or wishes.no_cache:
            self.assertIs(Use.VALIDATE, use)
        if use is not Use.VALIDATE:
            self.assertEqual(now < until, use is Use.FRESH)
        if now >= until and strict:
            self.assertIs(Use.VALIDATE, use)
            self.assertFalse(usable_on_error(stored, wishes, now))
        if use is Use.BEHIND:
            self.assertLessEqual(now - until, behind)
        if wishes.max_age is not None and now - 1000 > wishes.max_age:
            self.assertIs(Use.VALIDATE, use)

    @given(st.lists(st.sampled_from(CONTROLS), max_size=6).map(b"".join))
    def test_odd_requests(self, value: bytes) -> None:
        """Nothing that a request says makes a stale response fresh."""
        fields = [(b"Cache-Control", value)]
        self.assertIsNot(Use.FRESH, judge(STORED, wishes_of(fields, names_of(fields)), 1061))


class ErrorTests(SynchronousTestCase):
    """A stale response in place of an error.  RFC 5861 4."""

    def test_window(self) -> None:
        """The origin says for how long, or the client, unless it is forbidden."""
        for stored, wishes, now, usable in (
            (STORED, NO_WISHES, 1061, False),
            (STORED, NO_WISHES, 1000, False),
            (STALE, NO_WISHES, 1090, True),
            (STALE, NO_WISHES, 1091, False),
            (STALE, Wishes(stale_if_error=0), 1090, True),
            (STORED, Wishes(stale_if_error=10), 1070, True),
            (STORED, Wishes(stale_if_error=10), 1071, False),
            (STALE, Wishes(no_cache=True), 1061, False),
            (attrs.evolve(STALE, no_cache=True), NO_WISHES, 1061, False),
            (attrs.evolve(STALE, must_revalidate=True), Wishes(stale_if_error=99), 1061, False),
        ):
            with self.subTest(stored=stored, wishes=wishes, now=now):
                self.assertIs(usable, usable_on_error(stored, wishes, now))


def variant(date: float, *varies: tuple[bytes, bytes | None]) -> StoredResponse:
    """Return a stored response of a date that varies."""
    return attrs.evolve(STORED, date=date, varies=varies)


some_values = st.sampled_from((None, b"", b"a", b"b", b"A", b"a,b", b"a, b"))
some_requests = st.dictionaries(st.sampled_from((b"Cookie", b"Accept", b"Foo")), some_values)


class SelectTests(SynchronousTestCase):
    """Which of the stored responses a request chooses.  RFC 9111 4.1."""

    def chosen(self, stored: list[StoredResponse], *fields: Field) -> StoredResponse | None:
        """Return the one that a request with some fields chooses."""
        return select(stored, fields, names_of(fields))

    def test_by_fields(self) -> None:
        """What a request says has to be what the other had said, or nothing as well."""
        alice, nobody = variant(1, (b"cookie", b"id=a")), variant(2, (b"cookie", None))
        both = [alice, nobody]
        for fields, expected in (
            ([(b"Cookie", b"id=a")], alice),
            ([(b"cookie", b"id=a"), (b"X", b"y")], alice),
            ([], nobody),
            ([(b"X", b"id=a")], nobody),
            ([(b"Cookie", b"id=b")], None),
            ([(b"Cookie", b"")], None),
            ([(b"Cookie", b"ID=a")], None),
            ([(b"Cookie", b"id=a"), (b"Cookie", b"id=b")], None),
        ):
            with self.subTest(fields=fields):
                self.assertIs(expected, self.chosen(both, *fields))
        self.assertIsNone(self.chosen([]))

    def test_all_fields(self) -> None:
        """One field that differs is enough."""
        stored = [variant(1, (b"accept", b"a"), (b"cookie", b"b"))]
        accept = (b"Accept", b"a")
        self.assertIsNone(self.chosen(stored, accept))
        self.assertIsNone(self.chosen(stored, accept, (b"Cookie", b"c")))
        self.assertIs(stored[0], self.chosen(stored, (b"Cookie", b"b"), accept))

    def test_latest(self) -> None:
        """Of several it is the latest; one without Vary only where there is no other."""
        plain, other = variant(9), variant(3)
        old, new = variant(1, (b"a", None)), variant(2, (b"b", None))
        self.assertIs(new, self.chosen([old, new]))
        self.assertIs(new, self.chosen([new, old]))
        self.assertIs(plain, self.chosen([other, plain]))
        self.assertIs(old, self.chosen([plain, old]))
        self.assertIs(old, self.chosen([old, plain]))
        self.assertIs(plain, self.chosen([plain, old], (b"A", b"1")))

    @given(some_requests, some_requests)
    def test_nobody_gets_another_s(
        self, one: dict[bytes, bytes | None], other: dict[bytes, bytes | None]
    ) -> None:
        """Two requests share a response only where all that it varies by is the same."""
        first, second = (
            [(name, value) for name, value in request.items() if value is not None]
            for request in (one, other)
        )
        stored = kept(FRESH, (b"Vary", b"cookie, foo"), asked=asked_for(*first))
        self.assertIs(stored, self.chosen([stored], *first))

        def said(fields: list[Field], name: bytes) -> bytes | None:
            value = dict(fields).get(name)
            return value if value is None or name == b"Cookie" else value.replace(b", ", b",")

        same = all(said(first, name) == said(second, name) for name in (b"Cookie", b"Foo"))
        self.assertEqual(stored if same else None, self.chosen([stored], *second))


class ValidationTests(SynchronousTestCase):
    """Asking whether stored responses are still current.  RFC 9111 4.3."""

    def test_conditions(self) -> None:
        """Tags of all, and the date of one.  RFC 9111 4.3.1."""
        tagged = attrs.evolve(STORED, etag=b'"a"')
        weak = attrs.evolve(STORED, etag=b'W/"b"', modified=b"then")
        dated = attrs.evolve(STORED, modified=b"then")
        since = (b"If-Modified-Since", b"then")
        for stored, expected in (
            ([], []),
            ([STORED], []),
            ([tagged], [(b"If-None-Match", b'"a"')]),
            ([dated], [since]),
            ([weak], [(b"If-None-Match", b'W/"b"'), since]),
            ([tagged, weak, dated], [(b"If-None-Match", b'"a", W/"b"')]),
            ([dated, STORED], []),
        ):
            with self.subTest(stored=stored):
                self.assertEqual(expected, conditions(stored))

    def test_about(self) -> None:
        """Of several responses a 304 is about the one whose validator it has.  RFC 9111 4.3.4."""
        strong = attrs.evolve(STORED, etag=b'"a"', modified=b"m")
        weak = attrs.evolve(STORED, etag=b'W/"b"', modified=b"n")
        bare = STORED
        all_of_them = [strong, weak, bare]
        for fields, expected in (
            ([(b"ETag", b'"a"')], strong),
            ([(b"ETag", b'W/"a"')], strong),
            ([(b"ETag", b'W/"b"')], weak),
            ([(b"ETag", b'"b"')], None),
            ([(b"ETag", b'"c"')], None),
            ([(b"ETag", b'"c"'), (b"Last-Modified", b"m")], None),
            ([(b"Last-Modified", b"m")], strong),
            ([(b"Last-Modified", b"o")], None),
            ([], None),
        ):
            with self.subTest(fields=fields):
                head = response(*fields, status=304)
                self.assertIs(expected, matches_validated(all_of_them, head))
                self.assertIs(bare, matches_validated([bare], head))
        self.assertIsNone(matches_validated([], response(status=304)))

    def test_about_several(self) -> None:
        """One that may be about another client's response is about none."""
        alice = attrs.evolve(variant(1, (b"cookie", b"a")), etag=b'"v1"', modified=b"m")
        bob = attrs.evolve(variant(2, (b"cookie", b"b")), etag=b'"v1"', modified=b"m")
        for fields in ([(b"ETag", b'"v1"')], [(b"ETag", b'W/"v1"')], [(b"Last-Modified", b"m")]):
            with self.subTest(fields=fields):
                self.assertIsNone(matches_validated([alice, bob], response(*fields, status=304)))

    def test_weak_comparison(self) -> None:
        """A weak comparison compares what is behind the W/.  RFC 9110 8.8.3.2."""
        for etag in (b'"a"', b'W/"a"'):
            self.assertEqual(b'"a"', opaque(etag))
        self.assertEqual(b'w/"a"', opaque(b'w/"a"'))


class RefreshTests(SynchronousTestCase):
    """A stored response after a 304.  RFC 9111 3.2, 4.3.4."""

    stored = attrs.evolve(
        kept(FRESH, (b"ETag", b'"a"'), (b"X-A", b"1"), (b"Date", write_date(NOW - 50))), length=5
    )

    def refresh(
        self, *fields: Field, stored: StoredResponse | None = None, asked: Asked | None = None
    ) -> StoredResponse | str:
        """Return what is stored after a 304."""
        head = response(*fields, status=304)
        return refreshed(stored or self.stored, asked or asked_for(), head, THEN, THEN)

    def refreshed(self, *fields: Field, asked: Asked | None = None) -> StoredResponse:
        """Return what is stored after a 304 that leaves something."""
        fresh = self.refresh(*fields, asked=asked)
        assert not isinstance(fresh, str)
        return fresh

    def test_times(self) -> None:
        """It is as old as the 304 is."""
        for fields, born in (
            ([], THEN),
            ([(b"Date", write_date(THEN - 3))], THEN - 3),
            ([(b"Age", b"7")], THEN - 7),
        ):
            with self.subTest(fields=fields):
                fresh = self.refreshed(*fields)
                self.assertEqual((born, born + 60), (fresh.born, fresh.fresh_until))
                self.assertEqual(1, names_of(fresh.fields).count(b"date"))
        self.assertEqual(THEN + 5, self.refreshed((b"Cache-Control", b"max-age=5")).fresh_until)

    def test_content(self) -> None:
        """Status, reason, length and tag stay what they were."""
        fresh = self.refreshed((b"Content-Length", b"9"), (b"ETag", b'"b"'))
        old = self.stored
        self.assertEqual(
            (old.status, old.reason, old.length, old.etag),
            (fresh.status, fresh.reason, fresh.length, fresh.etag),
        )

    def test_forbidden(self) -> None:
        """A 304 may take back what was allowed."""
        for fields, why in (
            ([(b"Cache-Control", b"private, max-age=60")], "private"),
            ([(b"Cache-Control", b"no-store")], "no-store"),
            ([(b"Cache-Control", b"ext")], "no-lifetime"),
            ([(b"Vary", b"*")], "vary"),
        ):
            with self.subTest(fields=fields):
                self.assertEqual(why, self.refresh(*fields))

    def test_for_the_request_s_sake(self) -> None:
        """What a request asks for itself takes nothing from others."""
        varied = kept(FRESH, (b"Vary", b"Accept-Language"))
        for stored, asked in (
            (self.stored, asked_for((b"Cache-Control", b"no-cache, no-store"))),
            (self.stored, asked_for(authorized=True)),
            (varied, asked_for((b"Accept_Language", b"x"))),
        ):
            with self.subTest(asked=asked):
                self.assertIs(stored, self.refresh((b"X-A", b"2"), stored=stored, asked=asked))
                private = self.refresh(
                    (b"Cache-Control", b"private"), stored=stored, asked=asked_for()
                )
                self.assertEqual("private", private)
        public = kept((b"Cache-Control", b"public, max-age=60"), asked=asked_for(authorized=True))
        asked = asked_for(authorized=True)
        self.assertEqual("authorization", self.refresh(FRESH, stored=public, asked=asked))

    def test_varies(self) -> None:
        """It varies as before, unless the 304 says otherwise; nothing makes it vary less."""
        alice = asked_for((b"Cookie", b"a"))
        for stored in (
            kept(FRESH, VARY, asked=alice),
            kept((b"Cache-Control", b'max-age=60, private="vary"'), VARY, asked=alice),
        ):
            with self.subTest(stored=stored):
                fresh = self.refresh(stored=stored, asked=alice)
                assert not isinstance(fresh, str)
                self.assertEqual(((b"cookie", b"a"),), fresh.varies)
        self.assertEqual(((b"cookie", b"a"),), self.refreshed(VARY, asked=alice).varies)

    def test_merged(self) -> None:
        """Each field of the 304 takes the place of those of its name.  RFC 9111 3.2."""
        old = [(b"X-A", b"1"), (b"X-B", b"2"), (b"x-a", b"3"), (b"Content-Encoding", b"gzip")]
        for new, expected in (
            ([], old),
            ([(b"x-A", b"4"), (b"X-a", b"5")], [old[1], old[3], (b"x-A", b"4"), (b"X-a", b"5")]),
            ([(b"Content-Encoding", b"br"), (b"Content-Length", b"0")], old),
            ([(b"Content-Range", b"x"), (b"Transfer-Encoding", b"chunked")], old),
            ([(b"Connection", b"close, X-A"), (b"X-A", b"hop"), (b"Keep-Alive", b"5")], old),
        ):
            with self.subTest(new=new):
                self.assertEqual(expected, merged(old, response(*new, status=304)))

    @given(
        st.lists(st.sampled_from(CONTROLS), max_size=6).map(b"".join),
        st.lists(st.sampled_from(CONTROLS), max_size=6).map(b"".join),
        st.booleans(),
    )
    def test_no_more_than_a_response(self, old: bytes, new: bytes, authorized: bool) -> None:
        """What may not be stored of a response may not be stored because of a 304 either."""
        asked = asked_for(authorized=authorized)
        stored = stored_of(asked, response((b"Cache-Control", old)), NOW, NOW)
        if isinstance(stored, str):
            return
        control = (b"Cache-Control", new)
        whole = stored_of(asked, response(control), THEN, THEN)
        self.assertEqual(
            isinstance(whole, str),
            isinstance(self.refresh(control, stored=stored, asked=asked), str),
        )
