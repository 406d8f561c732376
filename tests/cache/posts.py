"""POSTs and their answers, for tests of a route that keeps these."""

from __future__ import annotations

from typing import Any

from pyproxy.policy.cache_policy import CachePolicy, PostPolicy
from tests.cache.kit import CacheTestCase, Told, answer, read
from tests.memory import MemoryTransport, request, response

JSON = b"Content-Type: application/json"
ASKED = b'{"model":"m","input":"x"}'
"""What is asked."""

HIT = b"hit; ttl=60; detail=post"
STORED = b"fwd=uri-miss; fwd-status=200; stored; detail=post"

EVENTS = (b"data: 1\n\n", b": ping\n\n", b"event: x\r\ndata: 2\r\n\r\n", b"data: [DONE]\n\n")
STREAM = b"".join(EVENTS)
CHUNKED = response(b"Content-Type: text/event-stream", b"Transfer-Encoding: chunked")
"""The head of a stream."""


def keeping(ttl: float = 60.0, **terms: Any) -> CachePolicy:
    """Return the policy of a route that keeps answers to POST."""
    return CachePolicy(post=PostPolicy(ttl, **terms))


def post(content: bytes = ASKED, *fields: bytes, target: bytes = b"/", kind: bytes = JSON) -> bytes:
    """Return the octets of a POST with its length."""
    length = b"Content-Length: %d" % len(content)
    return request(b"POST %b HTTP/1.1" % target, kind, *fields, length, content=content)


def chunk(octets: bytes) -> bytes:
    """Return octets as one chunk."""
    return b"%x\r\n%b\r\n" % (len(octets), octets)


def chunks_of(octets: bytes) -> list[bytes]:
    """Return the chunks of content, the last one as an empty one."""
    chunks = []
    while octets:
        size, _, octets = octets.partition(b"\r\n")
        length = int(size, 16)
        chunks.append(octets[:length])
        octets = octets[length + 2 :]
    return chunks


class PostTestCase(CacheTestCase):
    """A case with POSTs."""

    def ask_post(self, *fields: bytes, reply: bytes | None = None, **parts: Any) -> Told:
        """Ask, and answer in the upstream's place: with ``reply``, or as one that is kept."""
        client = self.client(post(parts.pop("content", ASKED), *fields, **parts))
        self.answer(answer(content=b"one") if reply is None else reply)
        told = read(client.take())
        self.leave(client)
        return told

    def have(self, *fields: bytes, **parts: Any) -> Told:
        """Ask for what is there at once; the upstream is not asked."""
        client = self.client(post(parts.pop("content", ASKED), *fields, **parts))
        self.assert_asked(0)
        told = read(client.take())
        self.leave(client)
        return told

    def assert_passes(self, octets: bytes, why: bytes) -> None:
        """Check that a request goes to the upstream, twice, and what is said of that."""
        for _ in range(2):
            client = self.client(octets)
            self.answer(answer(content=b"one"))
            told = read(client.take())
            self.assertEqual((200, b"one"), (told.status, told.content))
            self.assertEqual(why, told.cache)
            self.leave(client)

    def stream(self, client: MemoryTransport, *events: bytes, each: float = 0.0) -> None:
        """Answer a client with a stream whose events come one by one, after some seconds each."""
        upstream, _ = self.question()
        self.deliver(upstream, CHUNKED)
        for event in events:
            self.wait(each) if each else None
            self.deliver(upstream, chunk(event))
        self.deliver(upstream, b"0\r\n\r\n")
        told = read(self.rest_of(client))
        chunks = chunks_of(told.content)
        # Where the client was full for a while, several have come as one.
        self.assertTrue(b"".join(events) == b"".join(chunks) and chunks[-1] == b"")
