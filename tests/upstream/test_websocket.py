"""How the connection to an upstream becomes an end of a WebSocket."""

from __future__ import annotations

from typing import Any

from pyproxy.relay.direction import Direction
from pyproxy.upstream.websocket import UpstreamWebSocket, UpstreamWebSocketFactory
from tests.ingress.test_websocket import CLOSE, HANDSHAKE, MASKED_CLOSE, SWITCHING, TEXT
from tests.memory import UPSTREAM_PORT, Stage, StageTestCase, request, status_of


class SwitchTests(StageTestCase):
    """From a connection of the pool's to an end."""

    def open(self) -> Stage:
        """Return a stage with an open WebSocket."""
        scene = self.stage()
        scene.client(HANDSHAKE)
        scene.answer(SWITCHING)
        return scene

    def test_end(self) -> None:
        """The transport speaks to the end, and is paused by its direction."""
        scene = self.open()
        self.assertIs(UpstreamWebSocket, type(scene.upstream.protocol))
        self.assertIsInstance(scene.upstream.producer, Direction)
        self.assertFalse(scene.upstream.paused)

    def test_factory(self) -> None:
        """All ends of one origin are of one factory."""
        scene = self.open()
        factory: Any = scene.upstream.protocol.factory  # type: ignore[union-attr]
        self.assertIs(UpstreamWebSocketFactory, type(factory))
        self.assertEqual(f"ws://127.0.0.1:{UPSTREAM_PORT}", factory.url)
        scene.client(HANDSHAKE)
        scene.answer(SWITCHING)
        self.assertIs(factory, scene.upstream.protocol.factory)  # type: ignore[union-attr]

    def test_kept_connection(self) -> None:
        """A kept connection may become an end, and never comes back to the pool."""
        scene = self.stage()
        for _ in range(2):
            scene.client(request())
            scene.answer()
        self.assertEqual(1, len(scene.network.opened))
        client = scene.client(HANDSHAKE)
        scene.answer(SWITCHING + TEXT)
        self.assertEqual(1, len(scene.network.opened))
        self.assertTrue(client.take().endswith(TEXT))
        client.deliver(MASKED_CLOSE)
        scene.upstream.deliver(CLOSE)
        scene.client(request())
        self.assertEqual(2, len(scene.network.opened))
        scene.answer()
        self.assertEqual([200, 200, 200], [record.status for record in scene.logged])

    def test_refused_handshake(self) -> None:
        """The connection of a handshake that was refused may be used again."""
        scene = self.stage()
        client = scene.client(HANDSHAKE)
        scene.answer()
        self.assertEqual(200, status_of(client.take()))
        scene.client(request())
        self.assertEqual(1, len(scene.network.opened))
