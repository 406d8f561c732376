"""A client's connection in memory: what the tests of its parts share."""

from __future__ import annotations

from tests.memory import Stage, StageTestCase, request, response

CHUNKED = response(b"Transfer-Encoding: chunked")

ENDLESS = request(
    b"POST / HTTP/1.1",
    b"Content-Length: 100000000000",
    b"Transfer-Encoding: chunked",
    content=bytes(100),
)
"""A request that is refused at its head, and whose content never ends."""


class ChannelTestCase(StageTestCase):
    """A case with a proxy between a client and an upstream."""

    def setUp(self) -> None:
        """Set the stage."""
        self.scene: Stage = self.stage(client_limit=10.0)
        self.network = self.scene.network

    def asked(self) -> bytes:
        """Return the request line, and the content, of what the upstream was sent last."""
        octets = self.scene.upstream.take()
        head, _, content = octets.partition(b"\r\n\r\n")
        return head.split(b"\r\n")[0] + b"|" + content
