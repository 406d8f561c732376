"""A handshake is accepted as the client can expect, or refused like any other request."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.demo.frames import ACCEPT, KEY, TEXT, Frame, from_client
from tests.demo.kit import DemoClient, WebSocketClient

PATHS = ("/ws/echo", "/v1/realtime?model=demo")

CHECKOUT = Path(__file__).resolve().parents[2]

PATIENCE = 30.0
"""Seconds that another process may take."""

NO_AUTOBAHN = """
import sys
from tests.demo.kit import DemoClient, WebSocketClient
client = DemoClient()
assert client.ask("GET", "/").status == 200
assert client.ask("GET", "/ws/echo").status == 426
before = {"autobahn", "txaio"} & set(sys.modules)
assert WebSocketClient().open("/ws/echo").status == 101
print(before, "autobahn" in sys.modules)
"""


class AcceptedTests(SynchronousTestCase):
    """Handshakes that open a WebSocket."""

    def test_switches_protocols(self) -> None:
        """101 names the protocol, and proves with the key that it was understood (6455 4.2.2)."""
        for path in PATHS:
            with self.subTest(path=path):
                answer = WebSocketClient().open(path)
                self.assertEqual(answer.status, 101)
                self.assertEqual((answer.field("Upgrade") or "").lower(), "websocket")
                self.assertEqual(answer.field("Connection"), "Upgrade")
                self.assertEqual(answer.field("Sec-WebSocket-Accept"), ACCEPT)
                self.assertIsNone(answer.field("Sec-WebSocket-Protocol"))
                self.assertIsNone(answer.field("Sec-WebSocket-Extensions"))

    def test_lists_in_any_case(self) -> None:
        """Upgrade and Connection are lists, and their members' case does not matter (4.2.1)."""
        for upgrade, connection in (
            ("WebSocket", "UPGRADE"),
            ("h2c, websocket", "keep-alive,upgrade"),
        ):
            with self.subTest(upgrade=upgrade):
                fields = {"Upgrade": upgrade, "Connection": connection}
                self.assertEqual(WebSocketClient().open("/ws/echo", fields).status, 101)

    def test_fields_of_no_concern(self) -> None:
        """Any origin and any host will do, also what no URL could hold."""
        for fields in (
            {"Origin": "null"},
            {"Origin": "https://elsewhere.test"},
            {"Origin": "no origin"},
            {"Host": "[::1]:8000"},
            {"Host": "demo:port"},
            {"X-Name": "\x85: \xe9"},
        ):
            with self.subTest(fields=fields):
                self.assertEqual(WebSocketClient().open("/ws/echo", fields).status, 101)

    def test_echo_chooses_the_first_subprotocol(self) -> None:
        """The echo speaks whatever comes first; doubled and empty members are none (4.2.2)."""
        for offered in ("b.v1", "b.v1, a", "b.v1,b.v1", ", b.v1 ,a"):
            with self.subTest(offered=offered):
                answer = WebSocketClient().open("/ws/echo", {"Sec-WebSocket-Protocol": offered})
                self.assertEqual(answer.field("Sec-WebSocket-Protocol"), "b.v1")

    def test_realtime_speaks_its_own_subprotocol_only(self) -> None:
        """A browser's key, which is offered as a subprotocol too, is not repeated."""
        key = "openai-insecure-api-key.sk-1"
        for offered, chosen in (
            (f"realtime, {key}", "realtime"),
            (f"{key}, realtime", "realtime"),
            (key, None),
        ):
            with self.subTest(offered=offered):
                fields = {"Sec-WebSocket-Protocol": offered}
                answer = WebSocketClient().open("/v1/realtime?model=demo", fields)
                self.assertEqual(answer.status, 101)
                self.assertEqual(answer.field("Sec-WebSocket-Protocol"), chosen)

    def test_accepts_deflate_only(self) -> None:
        """Of the extensions offered, the first permessage-deflate is accepted (RFC 7692 5.1)."""
        deflate = "permessage-deflate"
        for offered, accepted in (
            (deflate, deflate),
            (f"x-other; a=1, {deflate}; client_max_window_bits", deflate),
            (
                f"{deflate}; server_no_context_takeover, {deflate}",
                f"{deflate}; server_no_context_takeover",
            ),
            ("x-other", None),
        ):
            with self.subTest(offered=offered):
                fields = {"Sec-WebSocket-Extensions": offered}
                answer = WebSocketClient().open("/ws/echo", fields)
                self.assertEqual(answer.field("Sec-WebSocket-Extensions"), accepted)

    def test_follows_another_request(self) -> None:
        """A connection that has served requests may become a WebSocket."""
        client = WebSocketClient()
        self.assertEqual(client.ask("GET", "/v1/models").status, 200)
        self.assertEqual(client.ask("GET", "/sse/clock?count=1").status, 200)
        client.open("/ws/echo", behind=from_client(Frame(TEXT, b"hello")))
        self.assertEqual(client.heard(), [Frame(TEXT, b"hello")])

    def test_autobahn_is_imported_with_the_first(self) -> None:
        """What costs 80 ms and 5 MiB is not loaded for those who do not use it."""
        run = subprocess.run(
            [sys.executable, "-c", NO_AUTOBAHN],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            cwd=CHECKOUT,
        )
        self.assertEqual((run.stdout, run.stderr), ("set() True\n", ""))


class RefusedTests(SynchronousTestCase):
    """Requests that open none."""

    def test_plain_requests_need_an_upgrade(self) -> None:
        """426 says to what to upgrade; the connection serves on (RFC 9110 15.5.22)."""
        for path in PATHS:
            with self.subTest(path=path):
                client = DemoClient()
                answer = client.ask("GET", path)
                self.assertEqual(answer.status, 426)
                self.assertIn(b"HTTP/1.1 426 Upgrade Required\r\n", client.transport.value())
                self.assertEqual(answer.field("Upgrade"), "websocket")
                self.assertEqual(answer.field("Connection"), "Upgrade")
                self.assertEqual(answer.json["error"]["code"], "upgrade_required")
                self.assertEqual(client.ask("GET", "/status/200").status, 200)

    def test_half_handshakes_need_an_upgrade(self) -> None:
        """What lacks one of the two fields is no handshake."""
        for fields in ({"Upgrade": "h2c"}, {"Connection": "keep-alive"}):
            with self.subTest(fields=fields):
                self.assertEqual(WebSocketClient().open("/ws/echo", fields).status, 426)

    def test_http_1_0_needs_an_upgrade(self) -> None:
        """HTTP/1.0 knows no upgrade (RFC 9110 7.8)."""
        client = DemoClient()
        client.protocol.dataReceived(
            b"GET /ws/echo HTTP/1.0\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n" % KEY.encode()
        )
        self.assertEqual(client.answer().status, 426)

    def test_other_versions(self) -> None:
        """Any version but 13 is 426, with the version that is spoken (RFC 6455 4.4)."""
        for version in ("8", "12", "13, 8", "013", ""):
            with self.subTest(version=version):
                fields = {"Sec-WebSocket-Version": version}
                answer = WebSocketClient().open("/ws/echo", fields)
                self.assertEqual(answer.status, 426)
                self.assertEqual(answer.field("Sec-WebSocket-Version"), "13")
                self.assertEqual(answer.field("Upgrade"), "websocket")

    def test_bad_fields(self) -> None:
        """Each has a sentence that says what is wrong."""
        for fields, sentence in (
            ({"Sec-WebSocket-Key": ""}, "Sec-WebSocket-Key must be there once"),
            ({"Sec-WebSocket-Key": "c2hvcnQ="}, "Sec-WebSocket-Key must be there once"),
            ({"Sec-WebSocket-Key": f"{KEY}, {KEY}"}, "Sec-WebSocket-Key must be there once"),
            ({"Sec-WebSocket-Protocol": "a b"}, "Sec-WebSocket-Protocol must be a list"),
            ({"Sec-WebSocket-Protocol": "a, \xe9"}, "Sec-WebSocket-Protocol must be a list"),
        ):
            with self.subTest(fields=fields):
                answer = WebSocketClient().open("/ws/echo", fields)
                self.assertEqual(answer.status, 400)
                self.assertTrue(answer.sentence.startswith(sentence), answer.sentence)

    def test_content(self) -> None:
        """A handshake with a content is none."""
        answer = WebSocketClient().open("/ws/echo", {"Content-Length": "2"}, behind=b"{}")
        self.assertEqual(
            (answer.status, answer.sentence), (400, "An opening handshake has no content.")
        )

    def test_models(self) -> None:
        """A session needs one model that exists, before it is opened."""
        for query, status, sentence in (
            ("", 400, "You must provide one model parameter."),
            ("?model=demo&model=demo", 400, "You must provide one model parameter."),
            ("?model=none", 404, "The model 'none' does not exist; there are demo and demo-slow."),
            (
                "?model=demo&words=x",
                400,
                "words must be a whole number from 0 to 100000, not 'x'.",
            ),
        ):
            with self.subTest(query=query):
                answer = WebSocketClient().open(f"/v1/realtime{query}")
                self.assertEqual((answer.status, answer.sentence), (status, sentence))

    def test_what_follows_is_not_read(self) -> None:
        """Octets behind a refused handshake are frames, and never a request."""
        for target, fields in (
            ("/ws/echo", {"Sec-WebSocket-Version": "8"}),
            ("/ws/echo", {"Sec-WebSocket-Key": "x"}),
            ("/v1/realtime?model=none", {}),
        ):
            with self.subTest(target=target, fields=fields):
                client = WebSocketClient()
                behind = b"GET /status/200 HTTP/1.1\r\nHost: h\r\n\r\n"
                answer = client.open(target, fields, behind=behind)
                self.assertIn("close", answer.fields_of("Connection"))
                self.assertTrue(client.transport.disconnecting)
                self.assertEqual(client.transport.value().count(b"HTTP/1.1 "), 1)

    def test_other_methods(self) -> None:
        """A handshake is a GET (RFC 6455 4.1)."""
        for path in PATHS:
            for method in ("POST", "HEAD"):
                with self.subTest(path=path, method=method):
                    answer = DemoClient().ask(method, path)
                    self.assertEqual((answer.status, answer.field("Allow")), (405, "GET"))

    def test_nothing_is_below(self) -> None:
        """The paths have no others below them."""
        for path in ("/ws", "/ws/", "/ws/echo/x", "/v1/realtime/x"):
            with self.subTest(path=path):
                self.assertEqual(WebSocketClient().open(path).status, 404)
