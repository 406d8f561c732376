"""The map of the demo upstream, and the page that lists it."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from tests.demo.frames import TEXT, Frame
from tests.demo.kit import DemoClient, WebSocketClient


class IndexTests(SynchronousTestCase):
    """``/``."""

    def test_speaks_of_the_host_that_was_asked(self) -> None:
        """The lines to paste lead where the client came from: to the proxy, if there is one."""
        forwarded = {"X-Forwarded-Host": "[::1]:8000", "X-Forwarded-Proto": "https"}
        for fields, origin in (({}, "http://demo.test"), (forwarded, "https://[::1]:8000")):
            with self.subTest(origin=origin):
                answer = DemoClient().ask("GET", "/", fields=fields)
                self.assertEqual(answer.field("Content-Type"), "text/plain; charset=utf-8")
                self.assertIn(f"curl {origin}/v1/models\n", answer.content.decode())
                ws_origin = origin.replace("http", "ws")
                for line in (
                    f"  python -m websockets {ws_origin}/ws/echo\n",
                    f"  npx wscat -s realtime -c '{ws_origin}/v1/realtime?model=demo'\n",
                ):
                    self.assertIn(line, answer.content.decode())

    def test_event_to_paste(self) -> None:
        """The event on the page is one that the session answers."""
        page = DemoClient().ask("GET", "/").content.decode()
        (event,) = [line.strip() for line in page.splitlines() if '"response.create"' in line]
        client = WebSocketClient()
        client.open("/v1/realtime?model=demo&interval_ms=0")
        client.tell(Frame(TEXT, event.encode()))
        done = json.loads(client.heard()[-1].payload)
        self.assertEqual(done["type"], "response.done")
        self.assertIn('You wrote "Hello"', done["response"]["output"][0]["content"][0]["text"])

    def test_host_that_a_shell_would_run_is_not_repeated(self) -> None:
        """What a client pastes holds nothing that another client chose."""
        for host in ("h;id", "$(id)", "h\u00e9", "h h", "-" * 256):
            with self.subTest(host=host):
                answer = DemoClient().ask("GET", "/", fields={"X-Forwarded-Host": host})
                self.assertIn("curl http://localhost/v1/models\n", answer.content.decode())


class MapTests(SynchronousTestCase):
    """What is where."""

    def test_nothing_is_elsewhere(self) -> None:
        """A path that leads nowhere is 404, whatever the method."""
        for path in (
            "/x",
            "/v1",
            "/v1/x",
            "/v1/chat",
            "/sse",
            "/ws",
            "/ws/x",
            "/upload/x",
            "/chat/",
            "//",
        ):
            for method in ("GET", "POST"):
                with self.subTest(path=path, method=method):
                    answer = DemoClient().ask(method, path)
                    self.assertEqual(answer.status, 404)
                    self.assertEqual(
                        answer.sentence, f"Nothing is at {path}; GET / lists what there is."
                    )

    def test_connection_serves_the_next_request(self) -> None:
        """Each answer leaves the connection usable, a refusal too."""
        client = DemoClient()
        for target, status in (("/nope", 404), ("/sse/clock?count=1", 200), ("/", 200)):
            with self.subTest(target=target):
                self.assertEqual(client.ask("GET", target).status, status)
                self.assertFalse(client.transport.disconnecting)
