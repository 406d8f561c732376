"""A request measures its content and keeps of it no more than its bound."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http import HTTPChannel

from pyproxy.demo.request import CONTENT_LIMIT, DemoRequest
from tests.demo.kit import DemoClient


def begun(content_type: bytes) -> DemoRequest:
    """Return a request whose content is about to come, on a connection of its own."""
    client = DemoClient()
    client.protocol.dataReceived(
        b"POST /upload HTTP/1.1\r\nHost: h\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
        % (content_type, CONTENT_LIMIT * 4)
    )
    channel = client.protocol._channel  # type: ignore[attr-defined]
    assert isinstance(channel, HTTPChannel)
    request = channel.requests[0]
    assert isinstance(request, DemoRequest)
    return request


class ContentTests(SynchronousTestCase):
    """What is kept of a content."""

    def test_nothing_but_json_is_kept(self) -> None:
        """An upload leaves nothing behind but its measure."""
        request = begun(b"application/octet-stream")
        request.handleContentChunk(b"x" * 1000)
        self.assertEqual((request.content_length, len(request.kept)), (1000, 0))
        assert request.content is not None
        self.assertEqual(request.content.tell(), 0)

    def test_json_is_kept_up_to_its_bound(self) -> None:
        """Octets past the bound are counted only."""
        request = begun(b"Application/JSON ; charset=utf-8")
        for _ in range(3):
            request.handleContentChunk(b"x" * (CONTENT_LIMIT // 2 + 1))
        self.assertEqual(request.content_length, 3 * (CONTENT_LIMIT // 2 + 1))
        self.assertEqual(len(request.kept), CONTENT_LIMIT)
