"""Tests of the cache."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from pyproxy.semantics.stored import StoredResponse, Varies

NOW = 1_700_000_000.0
"""When everything was born."""


def head_of(
    content: bytes = b"", varies: Varies = (), tags: Sequence[bytes] = (), status: int = 200
) -> StoredResponse:
    """Make the head of a content, as an upstream sends it with eight fields."""
    return StoredResponse(
        status,
        b"OK",
        (
            (b"Server", b"nginx"),
            (b"Date", b"Wed, 01 Jan 2025 12:00:00 GMT"),
            (b"Content-Type", b"text/plain"),
            (b"Content-Length", b"%d" % len(content)),
            (b"Cache-Control", b"max-age=60"),
            (b"ETag", b'"abc"'),
            (b"Vary", b", ".join(name for name, _ in varies) or b"Accept-Encoding"),
            (b"X-Request-Id", b"0123456789abcdef"),
        ),
        NOW,
        NOW + 60,
        varies,
        len(content),
        b'"abc"',
        tags=tuple(tags),
    )


_LINE = st.binary(max_size=40).filter(lambda octets: not set(octets) & set(b"\r\n\0"))
_TOKEN = st.text("abcXYZ-019!~", min_size=1, max_size=12).map(str.encode)
_TIME = st.floats(allow_nan=False)

HEADS = st.builds(
    StoredResponse,
    status=st.integers(100, 999),
    reason=_LINE,
    fields=st.lists(st.tuples(_TOKEN, _LINE), max_size=12).map(tuple),
    born=_TIME,
    fresh_until=_TIME,
    varies=st.lists(st.tuples(_TOKEN, st.none() | st.binary(max_size=20)), max_size=3).map(tuple),
    length=st.none() | st.integers(0, 2**63 - 1),
    etag=st.none() | _LINE,
    modified=st.none() | _LINE,
    date=_TIME,
    no_cache=st.booleans(),
    must_revalidate=st.booleans(),
    immutable=st.booleans(),
    stale_behind=_TIME,
    stale_on_error=_TIME,
    tags=st.lists(st.binary(max_size=20), max_size=3).map(tuple),
    events=st.integers(0, 5).flatmap(
        lambda count: st.binary(min_size=12 * count, max_size=12 * count)
    ),
)
"""Heads of every kind."""
