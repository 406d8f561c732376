"""What a shared cache stores of a response."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.semantics.directives import MAX_SECONDS, read_directives
from pyproxy.semantics.fields import Field, Fields
from pyproxy.semantics.http_dates import write_date
from pyproxy.semantics.stored import StoredResponse
from pyproxy.semantics.storing import (
    HEURISTICALLY_CACHEABLE,
    MAX_HEURISTIC,
    MAX_TAGS,
    Asked,
    is_event_stream,
    normalised,
    stored_of,
    varies_of,
)
from tests.semantics import strict
from tests.semantics.kit import CONTROLS, NOW, asked_for, kept, names_of, response

HOUR = 3600
FRESH = (b"Cache-Control", b"max-age=3600")
PUBLIC = (b"Cache-Control", b"public")
COOKIE = (b"Set-Cookie", b"id=1")
EXPIRES = (b"Expires", write_date(NOW + HOUR))
CHANGED = (b"Last-Modified", write_date(NOW - 10 * HOUR))
ETAG = (b"ETag", b'"a"')


def control(value: bytes) -> Field:
    """Return a Cache-Control."""
    return (b"Cache-Control", value)


def why_not(
    *fields: Field, asked: Asked | None = None, status: int = 200, heuristic: bool = False
) -> str:
    """Return why a response is not stored; empty when it is."""
    head = response(*fields, status=status)
    stored = stored_of(asked or asked_for(), head, NOW, NOW, heuristic)
    return stored if isinstance(stored, str) else ""


def lifetime(*fields: Field, heuristic: bool = False) -> float:
    """Return the seconds for which a response that came now stays fresh."""
    stored = kept(*fields, heuristic=heuristic)
    return stored.fresh_until - stored.born


class PermissionTests(SynchronousTestCase):
    """Whether it may be stored.  RFC 9111 3."""

    def test_directives(self) -> None:
        """What the origin forbids is never stored.  RFC 9111 5.2.2."""
        for value, why in (
            (b"max-age=60", ""),
            (b"max-age=60, no-store", "no-store"),
            (b"NO-STORE, max-age=60", "no-store"),
            (b"public, no-store", "no-store"),
            (b"max-age=60, private", "private"),
            (b"public, max-age=60, private", "private"),
            (b"s-maxage=60, private", "private"),
            (b'max-age=60, private="set-cookie"', ""),
            (b'max-age=60, private="set-cookie", private', "private"),
            (b'max-age=60, private="set cookie"', "private"),
            (b'max-age=60, private="set-cookie', "private"),
            (b"max-age=60, private=1", "private"),
            (b"private; max-age=60", "private"),
            (b"max-age=60; no-store", "no-store"),
            (b'max-age=60, ext="no-store", a', ""),
            (b'max-age=60, ext="no-store, a', "no-store"),
        ):
            with self.subTest(value=value):
                self.assertEqual(why, why_not(control(value), EXPIRES))
        self.assertEqual("private", why_not(FRESH, control(b"private")))

    def test_must_understand(self) -> None:
        """Who understands a status code ignores no-store beside it.  RFC 9111 5.2.2.3."""
        value = control(b"must-understand, no-store, max-age=60")
        self.assertEqual("", why_not(value))
        self.assertEqual("", why_not(value, status=503))
        self.assertEqual("must-understand", why_not(value, status=299))
        self.assertEqual("private", why_not(value, control(b"private")))

    def test_request(self) -> None:
        """Who asks for nothing to be stored is heard.  RFC 9111 5.2.1.5."""
        asked = asked_for((b"Cache-Control", b"no-store"))
        self.assertEqual("no-store-asked", why_not(FRESH, PUBLIC, asked=asked))

    def test_authorization(self) -> None:
        """An answer to a credential is shared only with permission.  RFC 9111 3.5."""
        asked = asked_for((b"Authorization", b"Basic YTpi"), authorized=True)
        for value, stored in (
            (b"max-age=60", False),
            (b"max-age=60, proxy-revalidate", False),
            (b"max-age=60, no-cache", False),
            (b"max-age=60, x=public", False),
            (b'max-age=60, x="public"', False),
            (b"max-age=60, public;", False),
            (b"max-age=60; must-revalidate", False),
            (b"max-age=60, s-maxage = 60", False),
            (b"max-age=60, public", True),
            (b"max-age=60, must-revalidate", True),
            (b"s-maxage=60", True),
            (b"public, private", None),
        ):
            with self.subTest(value=value):
                why = {True: "", False: "authorization", None: "private"}[stored]
                self.assertEqual(why, why_not(control(value), ETAG, asked=asked))
        self.assertEqual("authorization", why_not(EXPIRES, asked=asked))
        self.assertEqual("authorization", why_not(CHANGED, asked=asked, heuristic=True))

    def test_status(self) -> None:
        """What says something of one request only is for nobody else.  RFC 6585 3 to 6."""
        for status in (100, 101, 103, 206, 304, 412, 416, 417, 428, 429, 431, 511):
            with self.subTest(status=status):
                self.assertEqual("status", why_not(FRESH, PUBLIC, status=status))
        for status in (200, 204, 299, 301, 302, 307, 404, 410, 500, 503, 599):
            with self.subTest(status=status):
                self.assertEqual("", why_not(FRESH, status=status))

    def test_errors_of_a_range(self) -> None:
        """An error for who asks for a part may be about that: one request would deny the page."""
        asked = asked_for((b"Range", b"bytes=9-"))
        for status in (400, 403, 404, 500):
            with self.subTest(status=status):
                self.assertEqual("status", why_not(FRESH, status=status, asked=asked))
        self.assertEqual("", why_not(FRESH, asked=asked))

    def test_event_streams(self) -> None:
        """An event stream has no end."""
        for value, stream in (
            (b"text/event-stream", True),
            (b"Text/Event-Stream ; charset=utf-8", True),
            (b"text/event-stream2", False),
            (b"", False),
        ):
            with self.subTest(value=value):
                fields = [(b"Content-Type", value)]
                self.assertEqual(stream, is_event_stream(fields, names_of(fields)))
                self.assertEqual("event-stream" if stream else "", why_not(FRESH, *fields))

    def test_without_lifetime(self) -> None:
        """Without a lifetime it needs another ground.  RFC 9111 3."""
        for fields, status, heuristic, why in (
            ([], 200, False, "no-lifetime"),
            ([CHANGED, ETAG], 200, False, "no-lifetime"),
            ([CHANGED], 200, True, ""),
            ([CHANGED], 302, True, "no-lifetime"),
            ([CHANGED, PUBLIC], 302, True, ""),
            ([ETAG], 200, True, "no-lifetime"),
            ([PUBLIC], 302, False, ""),
            ([control(b"no-cache")], 200, False, "no-lifetime"),
            ([control(b"no-cache"), ETAG], 200, False, ""),
            ([control(b"no-cache"), CHANGED], 404, False, ""),
            ([control(b"no-cache"), ETAG], 500, False, "no-lifetime"),
            ([control(b'no-cache="a"'), ETAG], 200, False, "no-lifetime"),
            ([control(b"must-revalidate"), ETAG], 200, False, "no-lifetime"),
            ([EXPIRES], 500, False, ""),
        ):
            with self.subTest(fields=fields, status=status, heuristic=heuristic):
                self.assertEqual(why, why_not(*fields, status=status, heuristic=heuristic))

    def test_cookies(self) -> None:
        """A cookie is shared only where the origin gave a lifetime or spoke to shared caches."""
        for fields, heuristic, why in (
            ([FRESH], False, ""),
            ([EXPIRES], False, ""),
            ([control(b"no-cache"), ETAG], False, "set-cookie"),
            ([control(b"no-cache, max-age=60"), ETAG], False, "set-cookie"),
            ([control(b"max-age=0, must-revalidate"), ETAG], False, "set-cookie"),
            ([(b"Expires", b"0"), ETAG], False, "set-cookie"),
            ([CHANGED], True, "set-cookie"),
            ([PUBLIC, CHANGED], True, ""),
            ([control(b"s-maxage=0"), ETAG], False, ""),
            ([(b"CDN-Cache-Control", b"max-age=0")], False, ""),
            ([control(b'no-cache="set-cookie", max-age=0')], False, ""),
            ([control(b'private="Set-Cookie", max-age=0')], False, ""),
        ):
            with self.subTest(fields=fields):
                self.assertEqual(why, why_not(*fields, COOKIE, heuristic=heuristic))

    def test_targeted(self) -> None:
        """A targeted field stands for Cache-Control and Expires.  RFC 9213 2.2."""
        cdn, own = b"CDN-Cache-Control", b"Pyproxy-Cache-Control"
        for fields, why in (
            ([(cdn, b"max-age=60"), control(b"no-store")], ""),
            ([(cdn, b"no-store"), FRESH], "no-store"),
            ([(cdn, b"private"), FRESH], "private"),
            ([(cdn, b"none"), EXPIRES], "no-lifetime"),
            ([(cdn, b"no-store"), (own, b"max-age=60")], ""),
            ([(cdn, b"max-age=60"), (own, b"no-store")], "no-store"),
            ([(cdn, b"max-age=60,"), control(b"no-store")], "no-store"),
            ([(cdn, b""), control(b"private")], "private"),
            ([(cdn, b"max-age=60"), (own, b"Max-Age"), control(b"private")], ""),
            ([(b"Surrogate-Control", b"max-age=60")], "no-lifetime"),
        ):
            with self.subTest(fields=fields):
                self.assertEqual(why, why_not(*fields))

    @given(
        st.lists(st.sampled_from(CONTROLS), max_size=8).map(b"".join),
        st.sampled_from((200, 301, 404, 500)),
        st.booleans(),
        st.booleans(),
    )
    def test_what_is_forbidden(
        self, value: bytes, status: int, authorized: bool, heuristic: bool
    ) -> None:
        """Whatever else stands there, what is forbidden is not stored.  RFC 9111 3, 3.5."""
        asked = asked_for(authorized=authorized)
        said = read_directives([value])
        fields = (control(value), EXPIRES, CHANGED)
        why = why_not(*fields, asked=asked, status=status, heuristic=heuristic)
        allowed = b"public" in said or b"must-revalidate" in said or b"s-maxage" in said
        if (b"no-store" in said and b"must-understand" not in said) or said.everything(b"private"):
            self.assertTrue(why, value)
        if authorized and not allowed:
            self.assertTrue(why, value)


class LifetimeTests(SynchronousTestCase):
    """How long it is fresh.  RFC 9111 4.2."""

    def test_explicit(self) -> None:
        """s-maxage before max-age before Expires; what cannot be read is stale.  RFC 9111 4.2.1."""
        for fields, seconds in (
            ([FRESH], HOUR),
            ([FRESH, control(b"s-maxage=5")], 5),
            ([control(b"max-age=5, s-maxage=60")], 60),
            ([control(b"s-maxage=x, max-age=60")], 0),
            ([control(b"max-age=5"), EXPIRES], 5),
            ([control(b"max-age=x"), EXPIRES], 0),
            ([control(b"max-age =5"), EXPIRES], 0),
            ([control(b"max-age=99999999999")], MAX_SECONDS),
            ([control(b"max-age=00000000000")], 0),
            ([EXPIRES], HOUR),
            ([EXPIRES, (b"Date", write_date(NOW - 60))], HOUR + 60),
            ([EXPIRES, (b"Date", b"x")], HOUR),
            ([(b"Expires", write_date(NOW - 1))], 0),
            ([(b"Expires", b"0"), EXPIRES], 0),
            ([(b"Expires", EXPIRES[1].replace(b"GMT", b"EST"))], 0),
            ([(b"CDN-Cache-Control", b"max-age=5"), FRESH, EXPIRES], 5),
        ):
            with self.subTest(fields=fields):
                self.assertEqual(seconds, lifetime(*fields))

    def test_heuristic(self) -> None:
        """A tenth of the time since the last change, a day at most.  RFC 9111 4.2.2."""
        for changed, seconds in (
            (NOW - 10 * HOUR, HOUR),
            (NOW, 0),
            (NOW - 10**9, MAX_HEURISTIC),
        ):
            with self.subTest(changed=changed):
                fields = ((b"Last-Modified", write_date(changed)), (b"Date", write_date(NOW)))
                self.assertEqual(seconds, lifetime(*fields, heuristic=True))
        for value in (b"", b"yesterday", write_date(NOW + 60)):
            with self.subTest(value=value):
                fields = ((b"Last-Modified", value), PUBLIC)
                self.assertEqual(0, lifetime(*fields, heuristic=True))
        self.assertIn(200, HEURISTICALLY_CACHEABLE)

    def test_age(self) -> None:
        """The greater of what Date and Age say, and the time that it took.  RFC 9111 4.2.3."""
        for date, age, delay, expected in (
            (None, None, 0, 0),
            (None, None, 5, 5),
            (NOW, b"10", 0, 10),
            (NOW, b"10", 5, 15),
            (NOW - 60, b"10", 5, 60),
            (NOW - 60, None, 5, 60),
            (NOW + 60, None, 0, 0),
            (NOW + 60, b"10", 0, 10),
            (None, b"0", -5, 0),
        ):
            with self.subTest(date=date, age=age, delay=delay):
                fields: Fields = [FRESH]
                fields += [(b"Date", write_date(date))] if date is not None else []
                fields += [(b"Age", age)] if age is not None else []
                stored = kept(*fields, sent_at=NOW - delay)
                self.assertEqual(expected, NOW - stored.born)
                self.assertEqual(stored.born + HOUR, stored.fresh_until)

    def test_odd_ages(self) -> None:
        """What may be any age is too old for every lifetime.  RFC 9111 5.1, 1.2.2."""
        for age, expected in (
            (b"7200", 7200),
            (b"007200", 7200),
            (b"7200,0", 7200),
            (b"2147483649", MAX_SECONDS),
            (b"9" * 18, MAX_SECONDS),
            (b"9" * 19, MAX_SECONDS),
            (b"9" * 9999, MAX_SECONDS),
            (b"-1", MAX_SECONDS),
            (b"1.5", MAX_SECONDS),
            (b"", MAX_SECONDS),
            (b"x", MAX_SECONDS),
        ):
            with self.subTest(age=age[:20]):
                stored = kept(FRESH, (b"Age", age))
                self.assertEqual(expected, NOW - stored.born)
        stored = kept(FRESH, (b"Age", b"0"), (b"Age", b"0"))
        self.assertLess(stored.fresh_until, NOW)

    @given(
        st.lists(st.sampled_from(CONTROLS), max_size=8).map(b"".join),
        st.none() | st.sampled_from((b"0", b"59", b"x", b"-1", b"99999999999999999999")),
        st.integers(-100, 100),
        st.integers(0, 100),
    )
    def test_never_longer(self, value: bytes, age: bytes | None, date: int, delay: int) -> None:
        """Nothing is fresh for longer than its origin said, whatever it is written like."""
        fields = [control(value), control(b"max-age=60"), (b"Date", write_date(NOW - date))]
        fields += [(b"Age", age)] if age is not None else []
        stored = stored_of(asked_for(), response(*fields), NOW - delay, NOW)
        if not isinstance(stored, str):
            longest = 600 if b"s-maxage" in read_directives([value]) else 60
            self.assertLessEqual(stored.fresh_until, NOW + longest - max(date, delay, 0))
            self.assertLessEqual(stored.born, NOW)

    def test_immutable(self) -> None:
        """It is taken note of.  RFC 8246 2."""
        self.assertTrue(kept(control(b"max-age=60, immutable")).immutable)
        self.assertFalse(kept(control(b"max-age=60")).immutable)

    def test_stale(self) -> None:
        """How long it may be used stale, and that it may not.  RFC 5861, RFC 9111 4.2.4."""
        value = b"max-age=1, stale-while-revalidate=5, stale-if-error=9"
        stored = kept(control(value))
        self.assertEqual((5, 9, False), _staleness(stored))
        for more in (b"must-revalidate", b"proxy-revalidate", b"s-maxage=1", b"must-revalidate;"):
            with self.subTest(more=more):
                self.assertTrue(kept(control(value), control(more)).must_revalidate)
        stored = kept(control(b"max-age=1, stale-while-revalidate, stale-if-error=x"))
        self.assertEqual((0, 0, False), _staleness(stored))

    def test_no_cache(self) -> None:
        """no-cache asks for a validation each time, unless it names fields.  RFC 9111 5.2.2.4."""
        for value, no_cache in (
            (b"max-age=1", False),
            (b"max-age=1, no-cache", True),
            (b"max-age=1, no-cache=x", True),
            (b'max-age=1, no-cache="x"', False),
            (b'max-age=1, no-cache="x y"', True),
            (b"max-age=1; no-cache", True),
        ):
            with self.subTest(value=value):
                self.assertEqual(no_cache, kept(control(value)).no_cache)


def _staleness(stored: StoredResponse) -> tuple[float, float, bool]:
    return (stored.stale_behind, stored.stale_on_error, stored.must_revalidate)


class FieldsTests(SynchronousTestCase):
    """What is stored.  RFC 9111 3.1."""

    def fields(self, *fields: Field, options: tuple[bytes, ...] = ()) -> Fields:
        """Return the fields that are stored, but for Cache-Control and Date."""
        stored = stored_of(asked_for(), response(FRESH, *fields), NOW, NOW, False, options)
        assert not isinstance(stored, str)
        return [field for field in stored.fields if field[0] not in (b"Cache-Control", b"Date")]

    def test_kept(self) -> None:
        """All fields in their order, also those nobody knows, twice or empty."""
        fields = [(b"X-A", b"1"), COOKIE, (b"x-a", b"2"), (b"Content-Length", b"5"), (b"X-B", b"")]
        self.assertEqual(fields, self.fields(*fields))
        stored = kept(FRESH, status=404)
        self.assertEqual((404, b"Reason", None), (stored.status, stored.reason, stored.length))

    def test_dropped(self) -> None:
        """What belongs to a connection, or to one client, is not kept.  RFC 9111 3.1."""
        for name in (
            *(b"Connection", b"Keep-Alive", b"Transfer-Encoding", b"Upgrade", b"TE", b"Trailer"),
            *(b"Proxy-Authenticate", b"Proxy-Authentication-Info", b"Proxy-Connection", b"Age"),
        ):
            with self.subTest(name=name):
                self.assertEqual([], self.fields((name, b"0")))
        self.assertEqual([], self.fields((b"X-Hop", b"1"), options=(b"close", b"x-hop")))
        length = (b"Content-Length", b"5")
        self.assertEqual([], self.fields(length, (b"Transfer-Encoding", b"chunked")))

    def test_fields_of_one_client(self) -> None:
        """Fields that private or no-cache name are for one client.  RFC 9111 5.2.2.4, 5.2.2.7."""
        other = (b"X-B", b"2")
        for value in (
            b'private="set-cookie"',
            b'private="x, Set-Cookie"',
            b'no-cache="SET-COOKIE"',
            b'private="x", private="set-cookie"',
        ):
            with self.subTest(value=value):
                stored = kept(FRESH, control(value), COOKIE, other)
                self.assertNotIn(b"set-cookie", names_of(stored.fields))
                self.assertIn(other, stored.fields)
        stored = kept((b"CDN-Cache-Control", b'max-age=60, private="set-cookie"'), COOKIE, other)
        self.assertNotIn(b"set-cookie", names_of(stored.fields))
        self.assertIn(other, stored.fields)

    def test_date(self) -> None:
        """Without a Date it gets that of its arrival.  RFC 9110 6.6.1."""
        self.assertEqual([write_date(NOW)], [v for n, v in kept(FRESH).fields if n == b"Date"])
        date = (b"date", write_date(NOW - 5))
        stored = kept(FRESH, date)
        self.assertEqual((NOW - 5, 1), (stored.date, names_of(stored.fields).count(b"date")))

    def test_validators(self) -> None:
        """What could stand for any tag, or for several, is no entity tag.  RFC 9110 8.8.3."""
        for value, etag in (
            (b'"a"', b'"a"'),
            (b'W/"a"', b'W/"a"'),
            (b'"a,b"', b'"a,b"'),
            (b'""', b'""'),
            (b"abc", b"abc"),
            (b"*", None),
            (b'"*"', b'"*"'),
            (b'"a", "b"', None),
            (b"a,b", None),
            (b'"a', None),
            (b'a"', None),
            (b'w/"a"', None),
            (b"a b", None),
            (b"", None),
        ):
            with self.subTest(value=value):
                self.assertEqual(etag, kept(FRESH, (b"ETag", value)).etag)
        self.assertEqual(CHANGED[1], kept(FRESH, CHANGED).modified)

    def test_tags(self) -> None:
        """Tags are a list, up to a bound."""
        self.assertEqual((), kept(FRESH).tags)
        stored = kept(FRESH, (b"Cache-Tag", b"a, b,,c"), (b"cache-tag", b"d"))
        self.assertEqual((b"a", b"b", b"c", b"d"), stored.tags)
        many = b",".join(b"%d" % number for number in range(MAX_TAGS + 9))
        self.assertEqual(MAX_TAGS, len(kept(FRESH, (b"Cache-Tag", many)).tags))


class VariesTests(SynchronousTestCase):
    """By what it was chosen.  RFC 9110 12.5.5."""

    def varies(self, vary: bytes, *fields: Field) -> object:
        """Return what a request has said of what Vary names."""
        said = [(b"Vary", vary)]
        return varies_of(said, names_of(said), fields)

    def test_names(self) -> None:
        """Each name once, in one order, with what the request said, or that it said nothing."""
        self.assertEqual((), varies_of([], [], [(b"A", b"1")]))
        for vary, varies in (
            (b"", ()),
            (b"Cookie", ((b"cookie", None),)),
            (b"X-B, x-a", ((b"x-a", b"1"), (b"x-b", b""))),
            (b"X-A, x-a,,", ((b"x-a", b"1"),)),
        ):
            with self.subTest(vary=vary):
                self.assertEqual(varies, self.varies(vary, (b"X-A", b"1"), (b"X-B", b"")))

    def test_anything(self) -> None:
        """What varies by everything, or by what is no field, is not stored."""
        for vary in (
            *(b"*", b"Accept, *", b"*,*", b"Cookie;", b"Accept Cookie", b'"cookie"', b'"x, Cookie'),
            *(b"Cookie: a", b"(cookie)", b"Accept,\xe9"),
        ):
            with self.subTest(vary=vary):
                self.assertIsNone(self.varies(vary))
                self.assertEqual("vary", why_not(FRESH, (b"Vary", vary)))
        self.assertEqual("vary", why_not(FRESH, (b"Vary", b"Accept"), (b"Vary", b"*")))

    def test_other_spellings(self) -> None:
        """Nobody poisons what varies by a field with another spelling of its name."""
        self.assertIsNone(self.varies(b"Accept-Language", (b"Accept_Language", b"xx")))
        self.assertIsNone(self.varies(b"A, X-User-Id", (b"x-user_id", b"1")))
        self.assertIsNotNone(self.varies(b"Accept-Language", (b"X_User", b"xx")))
        self.assertEqual(((b"x_user", b"1"),), self.varies(b"X_User", (b"X_User", b"1")))

    def test_normalised(self) -> None:
        """Equal meanings are equal, and no others.  RFC 9111 4.1."""
        for name, one, other in (
            (b"foo", [b"1,  2"], [b"1", b"2"]),
            (b"foo", [b"1,,2 "], [b"1,2"]),
            (b"accept-language", [b"EN, de ;q=0.5"], [b"en,de;q=0.5"]),
            (b"accept-encoding", [b"GZIP"], [b"gzip"]),
            (b"accept", [b"text/html; q=0.5"], [b"text/html;q=0.5"]),
            (b"cookie", [b"a=1", b"b=2"], [b"a=1; b=2"]),
        ):
            with self.subTest(name=name, one=one):
                self.assertEqual(normalised(name, one), normalised(name, other))
        for name, one, other in (
            (b"foo", [], [b""]),
            (b"foo", [b"a"], [b"A"]),
            (b"foo", [b"a b"], [b"ab"]),
            (b"foo", [b'"a, b"'], [b'"a,b"']),
            (b"cookie", [b"a=1, b=2"], [b"a=1,b=2"]),
            (b"cookie", [b"a=1"], [b"a=1", b"a=2"]),
            (b"authorization", [b"Bearer a"], [b"Bearer A"]),
            (b"accept", [b"a/b;profile=X"], [b"a/b;profile=x"]),
            (b"accept", [b'a/b;profile="x y"'], [b'a/b;profile="xy"']),
            (b"accept-language", [b"en"], [b"de"]),
        ):
            with self.subTest(name=name, one=one):
                self.assertNotEqual(normalised(name, one), normalised(name, other))

    def test_hostile_values_are_linear(self) -> None:
        """No value makes it slow."""
        for part in (b"a,", b'"', b"_", b"a_,", b" ", b"*"):
            value = part * (strict.CROWD // len(part))
            for fields in ([(b"Vary", value)], [(b"ETag", value)], [(b"Age", value)]):
                taken = strict.cpu_seconds(why_not, FRESH, *fields)
                self.assertLess(taken, strict.CPU_BUDGET, part)
