"""A client's request: how responses are framed, and ordinary resources beside the proxy's."""

from __future__ import annotations

from typing import Any, cast

from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from pyproxy.ingress.request import MAX_COLLECTED_BYTES
from tests.memory import Stage, StageTestCase, request, response, status_of


class Notes(Resource):
    """An ordinary resource of twisted.web: it knows nothing of the proxy."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[bytes, bytes, dict[bytes, list[bytes]]]] = []

    def getChild(self, path: bytes, request: Request) -> Resource:
        """Serve every path below, too."""
        return self

    def render_GET(self, request: Any) -> bytes:
        """Tell what was asked for."""
        request.setHeader(b"Content-Type", b"text/plain")
        request.addCookie(b"a", b"b")
        self.seen.append((request.method, request.uri, request.args))
        return b"notes of " + cast(bytes, request.getHeader(b"host"))

    def render_POST(self, request: Any) -> bytes:
        """Give the content back."""
        content: bytes = request.content.read()
        request.setResponseCode(201)
        return content[::-1]


class Slow(Resource):
    """A resource that answers later."""

    isLeaf = True
    request: Any = None
    finished: list[str]

    def render_GET(self, request: Any) -> int:
        """Keep the request."""
        self.request = request
        self.finished = []
        request.notifyFinish().addCallbacks(
            lambda _: self.finished.append("whole"), lambda _: self.finished.append("left")
        )
        return NOT_DONE_YET


class Broken(Resource):
    """A resource with a defect."""

    isLeaf = True

    def render_GET(self, request: Any) -> bytes:
        """Fail."""
        raise ZeroDivisionError("a defect")


class MountedTests(StageTestCase):
    """An ordinary twisted.web resource mounted beside the prefix resource works."""

    def setUp(self) -> None:
        """Mount resources."""
        self.scene: Stage = self.stage()
        self.notes, self.slow = Notes(), Slow()
        root: Any = self.scene.root
        root.putChild(b"notes", self.notes)
        root.putChild(b"slow", self.slow)
        root.putChild(b"broken", Broken())

    def ask(self, octets: bytes) -> bytes:
        """Return what a request is answered."""
        return self.scene.client(octets).take()

    def test_get(self) -> None:
        """Fields, query and cookies work; the length is there."""
        answer = self.ask(request(b"GET /notes/a?b=1&b=2 HTTP/1.1"))
        head, _, content = answer.partition(b"\r\n\r\n")
        self.assertEqual(b"notes of front.test", content)
        self.assertIn(b"Content-Length: 19", head)
        self.assertIn(b"Set-Cookie: a=b", head)
        self.assertEqual([(b"GET", b"/notes/a?b=1&b=2", {b"b": [b"1", b"2"]})], self.notes.seen)
        self.assertEqual([], self.scene.network.opened)

    def test_head(self) -> None:
        """HEAD has the fields of GET and no content, and the connection goes on."""
        client = self.scene.client(request(b"HEAD /notes HTTP/1.1"))
        self.assertIn(b"Content-Length: 19\r\n", client.value())
        self.assertTrue(client.take().endswith(b"\r\n\r\n"))
        client.deliver(request(b"GET /notes HTTP/1.1"))
        self.assertTrue(client.value().endswith(b"notes of front.test"))

    def test_post(self) -> None:
        """Content is collected before the resource is asked, with a length or in chunks."""
        for fields, pieces in (
            (b"Content-Length: 6", (b"abc", b"def")),
            (b"Transfer-Encoding: chunked", (b"6\r\nabc", b"def\r\n0\r\n\r\n")),
        ):
            client = self.scene.client(request(b"POST /notes HTTP/1.1", fields))
            client.deliver(pieces[0])
            self.assertEqual(b"", client.value())
            client.deliver(pieces[1])
            self.assertEqual(201, status_of(client.value()))
            self.assertTrue(client.value().endswith(b"fedcba"))

    def test_post_without_content(self) -> None:
        """No content is empty content."""
        self.assertEqual(201, status_of(self.ask(request(b"POST /notes HTTP/1.1"))))

    def test_post_too_large(self) -> None:
        """What is collected is bounded."""
        length = MAX_COLLECTED_BYTES + 1
        client = self.scene.client(request(b"POST /notes HTTP/1.1", b"Content-Length: %d" % length))
        client.deliver(bytes(length))
        self.assertEqual(413, status_of(client.value()))

    def test_method_that_it_has_not(self) -> None:
        """twisted.web's own answer for a method that a resource does not know."""
        answer = self.ask(request(b"PUT /notes HTTP/1.1", b"Content-Length: 0"))
        self.assertEqual(501, status_of(answer))

    def test_pipelined(self) -> None:
        """Mounted and forwarded requests on one connection, in order."""
        client = self.scene.client(
            request(b"GET /notes HTTP/1.1") + request() + request(b"GET /notes HTTP/1.1")
        )
        self.assertEqual(1, client.value().count(b"notes of"))
        self.scene.answer()
        self.assertEqual(2, client.value().count(b"notes of"))
        self.assertEqual(3, len(self.scene.logged))

    def test_later(self) -> None:
        """A resource may answer later, in pieces; the end is told to it."""
        client = self.scene.client(request(b"GET /slow HTTP/1.1"))
        self.assertEqual(b"", client.value())
        self.slow.request.write(b"one")
        self.slow.request.write(b"two")
        self.slow.request.finish()
        self.assertIn(b"\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n", client.value())
        self.assertEqual(["whole"], self.slow.finished)

    def test_client_leaves(self) -> None:
        """A client that leaves is told to the resource."""
        client = self.scene.client(request(b"GET /slow HTTP/1.1"))
        client.lose()
        self.assertEqual(["left"], self.slow.finished)

    def test_push_producer(self) -> None:
        """A resource's push producer is paused by a client that does not read."""
        client = self.scene.client(request(b"GET /slow HTTP/1.1"), room=100)
        producer = self.scene.network.transport(client.getHost(), client.getPeer())
        self.slow.request.registerProducer(producer, True)
        self.slow.request.write(bytes(1000))
        self.assertTrue(producer.paused)
        client.take()
        self.assertFalse(producer.paused)
        self.slow.request.unregisterProducer()
        self.slow.request.finish()

    def test_defect(self) -> None:
        """A resource with a defect is logged and answered by 500, without a traceback."""
        answer = self.ask(request(b"GET /broken HTTP/1.1"))
        self.assertEqual(500, status_of(answer))
        self.assertNotIn(b"ZeroDivisionError", answer)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_everything_else_is_forwarded(self) -> None:
        """What is not mounted goes to the upstream, octet for octet."""
        for target in (b"/", b"/other", b"/notes2", b"//notes", b"/%6eotes?x", b"/a/notes"):
            self.scene.client(request(b"GET %b HTTP/1.1" % target))
            sent = self.scene.answer()
            self.assertTrue(sent.startswith(b"GET %b HTTP/1.1\r\n" % target), target)


class FramingTests(StageTestCase):
    """How a response is framed towards the client."""

    def exchange(self, asked: bytes, answered: bytes, close: bool = False) -> bytes:
        """Return what a client gets."""
        scene: Stage = self.stage()
        client = scene.client(asked)
        scene.answer(answered)
        if close:
            scene.upstream.lose()
            scene.network.settle()
        self.ended = client.lost is not None
        return client.take()

    def test_table(self) -> None:
        """Content-Length stays, chunks stay chunks, a close becomes chunks (RFC 9112 6.3)."""
        chunks = response(b"Transfer-Encoding: chunked", content=b"2\r\nok\r\n0\r\n\r\n")
        length = response(b"Content-Length: 2", content=b"ok")
        to_close = response(content=b"ok")
        old = request(b"GET / HTTP/1.0")
        with_length = response(b"Content-Length: 2", b"Connection: close", content=b"ok")
        for asked, answered, close, expected, ended in (
            (request(), length, False, length, False),
            (request(), chunks, False, chunks, False),
            (request(), to_close, True, chunks, False),
            (old, length, False, with_length, True),
            (old, chunks, False, response(b"Connection: close", content=b"ok"), True),
            (old, to_close, True, response(b"Connection: close", content=b"ok"), True),
        ):
            self.assertEqual(expected, self.exchange(asked, answered, close))
            self.assertEqual(ended, self.ended)

    def test_head(self) -> None:
        """A response to HEAD keeps its Content-Length and has no content."""
        answered = response(b"Content-Length: 10")
        self.assertEqual(answered, self.exchange(request(b"HEAD / HTTP/1.1"), answered))
        self.assertFalse(self.ended)

    def test_without_content(self) -> None:
        """204 and 304."""
        for line in (b"HTTP/1.1 204 No Content", b"HTTP/1.1 304 Not Modified"):
            answered = response(b'ETag: "a"', status_line=line)
            self.assertEqual(answered, self.exchange(request(), answered))
            self.assertFalse(self.ended)

    def test_interim_responses(self) -> None:
        """They go through, but not to HTTP/1.0."""
        hints = response(b"Link: a", status_line=b"HTTP/1.1 103 Early Hints")
        final = response(b"Content-Length: 0")
        self.assertEqual(hints + final, self.exchange(request(), hints + final))
        self.assertNotIn(b"103", self.exchange(request(b"GET / HTTP/1.0"), hints + final))

    def test_reason(self) -> None:
        """The reason phrase is the upstream's, even an empty one."""
        for reason in (b"Fine by me", b"", b"\xe4\xf6"):
            line = b"HTTP/1.1 299 " + reason
            answered = response(b"Content-Length: 0", status_line=line)
            self.assertEqual(answered, self.exchange(request(), answered))

    def test_request_ids(self) -> None:
        """Each request has its own name; an error's text shows it."""
        scene: Stage = self.stage(prefix=b"/api")
        texts = [scene.client(request()).value() for _ in range(2)]
        names = [each.request_id for each in scene.logged]
        self.assertEqual(2, len(set(names)))
        for name, text in zip(names, texts, strict=True):
            self.assertIn(name.encode(), text)
