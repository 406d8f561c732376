"""By what answers to POST are found again, and which are kept."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.semantics.canonical_json import CANONICAL_BYTES
from pyproxy.semantics.fields import Field
from pyproxy.semantics.http_dates import write_date
from pyproxy.semantics.messages import ResponseHead
from pyproxy.semantics.posting import ALWAYS, is_credential, post_key, post_wishes, posted_of
from pyproxy.semantics.stored import StoredResponse
from pyproxy.semantics.wishes import NO_WISHES, Wishes
from tests.semantics import strict

PLAIN = b"space http front.test /v1/embeddings"
JSON = (b"Content-Type", b"application/json")
NOW = 1_800_000_000.0

CREDENTIALS = (
    *("Authorization", "Proxy-Authorization", "Cookie", "api-key", "api_key", "x-api-key"),
    *("x-goog-api-key", "x-goog-user-project", "x-goog-iam-authorization-token"),
    *("x-goog-iap-jwt-assertion", "x-goog-authenticated-user-email"),
    *("OpenAI-Organization", "OpenAI-Project", "Ocp-Apim-Subscription-Key", "apikey"),
    *("x-ms-client-principal", "x-ms-client-principal-id", "x-ms-token-aad-access-token"),
    *("x-amz-security-token", "x-amzn-oidc-data", "x-amzn-oidc-identity", "x-amz-signature"),
    *("x-amzn-bedrock-agentcore-runtime-session-id", "xi-api-key", "x-auth-token"),
    *("X-Auth-Request-User", "X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Groups"),
    *("X-Forwarded-Access-Token", "X-Forwarded-Preferred-Username", "Remote-User", "Remote-Name"),
    *("X-Remote-User", "X-Remote-Extra-Scopes", "X-Webauth-Name", "Tailscale-User-Login"),
    *("Cf-Access-Jwt-Assertion", "CF-Access-Client-Id", "CF-Access-Client-Secret"),
    *("cf-aig-authorization", "Helicone-Auth", "Helicone-User-Id", "x-portkey-virtual-key"),
    *("x-portkey-api-key", "x-litellm-api-key", "X-Consumer-Username", "X-Credential-Identifier"),
    *("X-Authenticated-Userid", "X-Client-Id", "X-Client-Cert", "X-SSL-Client-Verify"),
    *("X-SSL-Cert", "Client-Cert", "X-Tenant-Id", "Tenant-ID", "X-Org-Id", "X-Account-Id"),
    *("X-Watson-Learning-Opt-Out-Session-Id", "X-CSRF-Token", "Private-Token", "X-Vault-Token"),
    *("X-Workspace-Id", "X-Databricks-Org-Id", "x-goog-" + "q" * 70),
)
"""Fields of providers, gateways and proxies that log clients in."""

NONE = (
    *("User-Agent", "Host", "Content-Length", "Content-Type", "Accept", "Accept-Encoding"),
    *("Connection", "Date", "Via", "Forwarded", "X-Forwarded-For", "X-Forwarded-Proto", "Origin"),
    *("Referer", "traceparent", "tracestate", "baggage", "X-Request-Id", "X-Amzn-Trace-Id"),
    *("X-Correlation-Id", "Idempotency-Key", "X-Stainless-Retry-Count", "X-Stainless-Lang"),
    *("X-Stainless-Read-Timeout", "x-goog-api-client", "Cache-Control", "Priority", "DNT"),
    *("x-goog-request-params", "x-ms-client-request-id", "Sec-Fetch-Mode", "Sec-CH-UA"),
)
"""Fields of which many have another value in every request."""


def key(content: bytes = b"{}", *fields: Field, **terms: Any) -> bytes:
    """Return the key of a POST of JSON."""
    return post_key(PLAIN, content, [JSON, *fields], **terms)


def raw(content: bytes, *types: bytes, **terms: Any) -> bytes:
    """Return the key of a POST of content of some types."""
    return post_key(PLAIN, content, [(b"Content-Type", one) for one in types], **terms)


class KeyTests(SynchronousTestCase):
    """The same is asked by the same target, content and fields."""

    def test_form(self) -> None:
        """It begins with the key of a GET of the target, by which people find it, and is short."""
        plain, _, mine = key(b"x" * 10000).partition(b"\n")
        self.assertEqual((PLAIN, 45), (plain, len(mine)))
        self.assertNotEqual(key(), post_key(PLAIN + b"?key=other", b"{}", [JSON]))

    def test_json(self) -> None:
        """Of JSON the meaning counts."""
        for kind in (
            b"application/json",
            b"Application/JSON; charset=utf-8",
            b'application/json;charset="UTF-8"',
            b"application/json;charset=utf8 ; a=b",
            b"application/vnd.api+json",
        ):
            self.assertEqual(raw(b'{"a":1,"b":2}', kind), raw(b'{ "b":2, "a":1 }', kind), kind)
            self.assertNotEqual(raw(b'{"a":1}', kind), raw(b'{"a":2}', kind), kind)

    def test_as_it_is(self) -> None:
        """What may be no JSON, or none in UTF-8, counts octet by octet.  RFC 8259 8.1."""
        for kinds in (
            (),
            (b"text/plain",),
            (b"application/jsonl",),
            (b"application/x-ndjson",),
            (b"application/json; charset=iso-8859-1",),
            (b"application/json; charset=utf-16",),
            (b"application/json; Charset = utf-7",),
            (b"application/json; charset*=utf-8''latin-1",),
            (b"application/json; charset=utf-8; charset=latin-1",),
            (b"application/json, text/plain",),
            (b"application/json", b"text/plain"),
            (b"multipart/form-data; boundary=x",),
        ):
            self.assertNotEqual(raw(b"[1]", *kinds), raw(b"[ 1]", *kinds), kinds)
        coded = (b"Content-Encoding", b"gzip")
        self.assertNotEqual(key(b"[1]", coded), key(b"[ 1]", coded))
        self.assertNotEqual(key(b"[1]", coded), key(b"[1]"))

    def test_two_readings(self) -> None:
        """What an upstream may read differently has keys of its own."""
        contents = [
            *(b'{"n":1}', b'{"n":"1"}', b'{"n":true}', b'{"n":1,"n":2}', b'{"n":2,"n":1}'),
            *(b'{"n":1,"n":1}', b'{"n":10000000000000000001}', b'{"n":10000000000000000002}'),
            *(b'{"n":9007199254740992.0}', b'{"n":9007199254740993.0}', b'{"n":1e400}'),
            *(b'{"n":1e401}', b'{"n":NaN}', b'{"n":nan}', b'{"n":Infinity}', b'{"n":1e-400}'),
            *('{"n":"é"}'.encode(), '{"n":"e\u0301"}'.encode(), '{"n":"é"}'.encode("latin-1")),
            *(b'{"n":"\\ud800"}', b'{"n":"\xed\xa0\x80"}', b'{"n":"\xef\xbf\xbd"}'),
            *(b'\xef\xbb\xbf{"n":1}', b'\0{"n":1}', '{"n":1}'.encode("utf-16-le")),
            *('{"n":1}'.encode("utf-16"), b'{"n":1}\0', b"", b" ", b"  ", b"canonical", b"{"),
            *(b"[" * 5000, b"[" * 5001, b"[" * 5000 + b"]" * 5000, b"[" * 4999 + b"]" * 4999),
        ]
        self.assertEqual(len(contents), len({key(content) for content in contents}))

    def test_large(self) -> None:
        """Content too long for a form counts as it is."""
        one = b"[1, %b]" % (b" " * CANONICAL_BYTES)
        self.assertNotEqual(key(one), key(one + b" "))
        self.assertEqual(key(one), key(one))

    def test_multipart(self) -> None:
        """A form counts octet by octet, and so does its boundary."""
        content = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--x--\r\n'
        keys = {
            raw(content, b"multipart/form-data; boundary=x"),
            raw(content, b"multipart/form-data; boundary=y"),
            raw(content.replace(b"x", b"y"), b"multipart/form-data; boundary=y"),
        }
        self.assertEqual(3, len(keys))

    def test_fields(self) -> None:
        """Fields by which upstreams choose count always, others where they are named."""
        for name in sorted(ALWAYS - {b"content-type"}):
            self.assertNotEqual(key(b"{}", (name.title(), b"one")), key(), name)
            self.assertNotEqual(key(b"{}", (name, b"one")), key(b"{}", (name, b"two")), name)
        one, other = (b"X-One", b"1"), (b"x-one", b"2")
        self.assertEqual(key(b"{}", one), key(b"{}", other))
        self.assertNotEqual(key(b"{}", one, named=[b"x-one"]), key(b"{}", other, named=[b"X-One"]))

    def test_lists(self) -> None:
        """White space and case in what is accepted do not count."""
        self.assertEqual(
            key(b"{}", (b"Accept-Encoding", b"gzip, BR")),
            key(b"{}", (b"accept-encoding", b"gzip"), (b"Accept-Encoding", b"br")),
        )

    def test_not_moved(self) -> None:
        """No octets can be taken from one part into another."""
        keys = {
            key(b"", (b"A", b"1"), (b"B", b"2"), named=[b"a", b"b"]),
            key(b"", (b"A", b"1:b1:2"), named=[b"a", b"b"]),
            key(b"", (b"A", b"1"), (b"A", b"2"), named=[b"a", b"b"]),
            key(b"", (b"A", b"12"), named=[b"a", b"b"]),
            key(b"2", (b"A", b"1"), named=[b"a", b"b"]),
            key(b"", (b"A", b""), named=[b"a", b"b"]),
            key(b"", named=[b"a", b"b"]),
        }
        self.assertEqual(7, len(keys))

    @given(st.lists(st.tuples(st.sampled_from([b"a", b"b"]), st.binary(max_size=3)), max_size=4))
    def test_every_field(self, fields: list[Field]) -> None:
        """The order of other fields does not count, that of a field's own lines does."""
        fields.sort(key=lambda field: field[0])
        ordered = key(b"{}", *fields, named=[b"a", b"b"])
        others_first = [field for field in fields if field[0] == b"b"]
        others_first += [field for field in fields if field[0] == b"a"]
        self.assertEqual(ordered, key(b"{}", *others_first, named=[b"a", b"b"]))
        turned = key(b"{}", *reversed(fields), named=[b"a", b"b"])
        same = [field for field in reversed(fields) if field[0] == b"a"] + [
            field for field in reversed(fields) if field[0] == b"b"
        ]
        self.assertEqual(same == fields, turned == ordered)

    def test_ignored(self) -> None:
        """Members that do not count tell nothing apart; who ignores others has other keys."""
        one, other = b'{"a":1,"user":"x"}', b'{"user":"y","a":1}'
        self.assertNotEqual(key(one), key(other))
        self.assertEqual(key(one, ignore=["/user"]), key(other, ignore=["/user", "/user"]))
        self.assertEqual(key(one, ignore=["/b", "/user"]), key(one, ignore=["/user", "/b"]))
        # An answer to x would be given to whoever says nothing, once a reload ignores no more.
        self.assertNotEqual(key(one, ignore=["/user"]), key(b'{"a":1}'))
        self.assertNotEqual(key(b"{}", ignore=["/\ud800"]), key(b"{}"))

    def test_time(self) -> None:
        """As many fields as there may be, and the longest names, take no long."""
        many = [(b"x-key-%d" % number, b"v") for number in range(256)]
        long = [(b"%d" % number + b"client" * 40, b"v") for number in range(256)]
        for fields in (many, long, [(b"a" * 65000, b"v")]):
            self.assertLess(strict.cpu_seconds(key, b"{}", *fields), strict.CPU_BUDGET)


class CredentialTests(SynchronousTestCase):
    """Nobody gets what another's credential has brought, unless an operator says so."""

    def test_bound(self) -> None:
        """Clients share only with the same credentials, or none.  RFC 9111 3.5."""
        for name in CREDENTIALS:
            field = name.encode()
            self.assertTrue(is_credential(field.lower()), name)
            keys = {key(), key(b"{}", (field, b"one")), key(b"{}", (field, b"two"))}
            self.assertEqual(3, len(keys), name)
            keys = {key(b"{}", (field, value), shared=True) for value in (b"one", b"two")} | {
                key(shared=True)
            }
            self.assertEqual(1, len(keys), name)

    def test_others(self) -> None:
        """What many send anew each time is no credential."""
        for name in NONE:
            self.assertFalse(is_credential(name.lower().encode()), name)

    def test_named(self) -> None:
        """Where clients share, a credential that is named counts all the same."""
        one, other = (b"Authorization", b"one"), (b"Authorization", b"two")
        named = [b"authorization"]
        self.assertNotEqual(
            key(b"{}", one, shared=True, named=named), key(b"{}", other, shared=True, named=named)
        )

    def test_no_more_shared(self) -> None:
        """What was stored where clients share is found by nobody where they do not."""
        self.assertNotEqual(key(shared=True), key(shared=False))

    def test_other_places(self) -> None:
        """A credential in the target or the content counts as all of these do."""
        self.assertNotEqual(key(b'{"api_key":"one"}'), key(b'{"api_key":"two"}'))
        self.assertNotEqual(
            post_key(PLAIN + b"?key=one", b"{}", [JSON], shared=True),
            post_key(PLAIN + b"?key=two", b"{}", [JSON], shared=True),
        )


class WishesTests(SynchronousTestCase):
    """What a POST may ask of a cache."""

    def test_left(self) -> None:
        """No part of an answer, no condition, nothing stale.  RFC 9110 9.3.3, 14.2."""
        wishes = post_wishes(
            Wishes(True, True, True, 1.0, 2.0, 3.0, 4.0, (b'"x"',), b"x", b"x", b"bytes=0-1", True)
        )
        self.assertEqual(Wishes(True, True, True, 1.0, 2.0), wishes)


def head(*fields: Field, status: int = 200) -> ResponseHead:
    """Return the head of a response."""
    return ResponseHead(status, b"OK", 1, list(fields))


class PostedTests(SynchronousTestCase):
    """What is kept of an answer to POST."""

    def posted(
        self, *fields: Field, status: int = 200, wishes: Wishes = NO_WISHES, **terms: Any
    ) -> StoredResponse | str:
        """Return what is to be stored."""
        asked = [(b"X-One", b"1")]
        return posted_of(head(*fields, status=status), asked, wishes, NOW, 60.0, **terms)

    def kept(self, *fields: Field, **terms: Any) -> StoredResponse:
        """Return what is stored."""
        stored = self.posted(*fields, **terms)
        if isinstance(stored, str):
            raise AssertionError(stored)
        return stored

    def test_lifetime(self) -> None:
        """The route's time to live stands for what the answer says of itself."""
        for fields in (
            (),
            ((b"Cache-Control", b"no-cache, must-revalidate"),),
            ((b"Cache-Control", b"max-age=5"), (b"Age", b"3")),
            ((b"Expires", b"0"), (b"ETag", b'"x"'), (b"Last-Modified", write_date(NOW - 9))),
        ):
            stored = self.kept(*fields)
            self.assertEqual((NOW, NOW + 60, NOW), (stored.born, stored.fresh_until, stored.date))
            self.assertFalse(stored.no_cache or stored.must_revalidate or stored.has_validator)
            self.assertEqual((0.0, 0.0), (stored.stale_behind, stored.stale_on_error))

    def test_not_stored(self) -> None:
        """Errors and parts, what shall not be stored, what varies by anything."""
        stream = (b"Content-Type", b"text/event-stream; charset=utf-8")
        for why, fields, settings in (
            ("status", (), {"status": 201}),
            ("status", (), {"status": 206}),
            ("status", (), {"status": 304}),
            ("status", (), {"status": 400}),
            ("status", (), {"status": 429}),
            ("status", (), {"status": 503}),
            ("no-store-asked", (), {"wishes": Wishes(no_store=True)}),
            ("no-store", ((b"Cache-Control", b"max-age=9, no-store"),), {}),
            ("no-store", ((b"CDN-Cache-Control", b"no-store"),), {}),
            ("private", ((b"Cache-Control", b"private"),), {"shared": True}),
            ("private", ((b"Cache-Control", b'private="x"'),), {"shared": True}),
            ("vary", ((b"Vary", b"*"),), {}),
            ("event-stream", (stream,), {}),
            ("event-stream", (stream,), {"until_close": True}),
            ("until-close", (stream,), {"until_close": True, "events": True}),
            ("content-encoding", (stream, (b"Content-Encoding", b"gzip")), {"events": True}),
        ):
            self.assertEqual(why, self.posted(*fields, **settings), (fields, settings))

    def test_stored(self) -> None:
        """What is for one client may be kept for the same; streams where the route says so."""
        private = (b"Cache-Control", b"private")
        stream = (b"Content-Type", b"text/event-stream")
        self.assertEqual(200, self.kept(private).status)
        self.assertEqual(200, self.kept(stream, events=True).status)
        self.assertEqual(200, self.kept(until_close=True, events=True).status)

    def test_vary(self) -> None:
        """It varies by what it says, beyond the key.  RFC 9111 4.1."""
        stored = self.kept((b"Vary", b"X-One, X-Two"))
        self.assertEqual(((b"x-one", b"1"), (b"x-two", None)), stored.varies)

    def test_tags(self) -> None:
        """It can be purged by its tags."""
        self.assertEqual((b"a", b"b"), self.kept((b"Cache-Tag", b"a, b")).tags)

    def test_fields(self) -> None:
        """No cookies, no login, nothing of the connection; a date in any case.  RFC 9111 3.1."""
        date = (b"Date", write_date(NOW - 9))
        dropped = [
            *((b"Set-Cookie", b"a=b"), (b"set-cookie", b"c=d"), (b"Set-Cookie2", b"e=f")),
            *((b"Connection", b"x-mine"), (b"X-Mine", b"1"), (b"Age", b"9"), (b"Trailer", b"x")),
            *((b"Authentication-Info", b"x"), (b"Proxy-Authentication-Info", b"x")),
            *((b"Transfer-Encoding", b"chunked"), (b"Content-Length", b"9")),
        ]
        kept = [(b"Content-Type", b"application/json"), (b"X-Request-Id", b"1"), date]
        stored = self.kept(*dropped, *kept, options=[b"x-mine"])
        self.assertEqual(tuple(kept), stored.fields)
        length = (b"Content-Length", b"2")
        self.assertEqual((length, (b"Date", write_date(NOW))), self.kept(length).fields)


class SameMeaningTests(SynchronousTestCase):
    """Keys of JSON by its meaning."""

    @given(
        st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
            st.one_of(st.integers(-999, 999), st.booleans(), st.none(), st.just("x")),
            max_size=4,
        ),
        st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
            st.one_of(st.integers(-999, 999), st.booleans(), st.none(), st.just("x")),
            max_size=4,
        ),
    )
    def test_any(self, one: dict[str, Any], other: dict[str, Any]) -> None:
        """The same meaning has the same key, another has another."""
        turned = dict(reversed(one.items()))
        mine = key(json.dumps(one).encode())
        self.assertEqual(mine, key(json.dumps(turned, indent=2, ensure_ascii=False).encode()))
        same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
        self.assertEqual(same, mine == key(json.dumps(other).encode()))
