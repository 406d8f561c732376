"""Metrics of real processes: what was sent through them stands there, whoever dies meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import unittest
import urllib.request
from pathlib import Path

from tests.live.kit import (
    PATIENCE,
    START_LIMIT,
    Proxy,
    Wire,
    eventually,
    upstream_and_proxy,
)
from tests.live.test_workers import wait_workers
from tests.observe.exposed import Exposed, read
from tests.turning import free_port

WATCHED = """
workers = 2
admin = "tcp:{admin}"
metrics = true
drain_timeout = 0
[[listeners]]
endpoint = "tcp:0:interface=127.0.0.1"
[upstreams.demo]
demo = true
[[routes]]
upstream = "demo"
usage = true
"""

QUESTION = {
    "model": "demo",
    "stream": True,
    "stream_options": {"include_usage": True},
    "messages": [{"role": "user", "content": "Hello there"}],
}

COUNT = "http_server_request_duration_seconds_count"


def scrape(port: int) -> Exposed:
    """Return what the admin site at a port exposes."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE) as answer:
        return read(answer.read().decode("utf-8"))


class MetricsTests(unittest.TestCase):
    """A proxy with an admin site."""

    def start(self, workers: int) -> Proxy:
        """Start one in front of its demo."""
        self.admin = free_port()
        arguments = (f"--admin=tcp:{self.admin}", "--metrics", f"--workers={workers}")
        proxy = Proxy("--demo", "--no-access-log", *arguments).start()
        self.addCleanup(proxy.check_log)
        self.addCleanup(proxy.stop)
        return proxy

    def counted(self) -> float:
        """Return how many requests stand there as ended."""
        found = scrape(self.admin)
        return found.value(COUNT) if COUNT in found.names else 0

    def test_one_process(self) -> None:
        """What has ended, what is open, how it is; promtool agrees that it is well written."""
        proxy = self.start(1)
        self.assertEqual(200, proxy.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").status)
        self.assertTrue(eventually(lambda: self.counted() == 1))
        found = scrape(self.admin)
        labels = {"http_route": "/", "http_request_method": "GET"}
        self.assertEqual(1, found.value(COUNT, http_response_status_class="2xx", **labels))
        self.assertGreater(found.value("pyproxy_content_bytes_total", direction="sent"), 0)
        self.assertEqual(1, found.value("pyproxy_upstream_requests_total", connection="new"))
        with proxy.client() as client:
            client.send(b"GET /sse/clock?interval_ms=60000 HTTP/1.1\r\nHost: a\r\n\r\n")
            active = "http_server_active_requests"
            self.assertTrue(
                eventually(lambda: scrape(self.admin).value(active, http_route="/") == 1)
            )
        self.assertTrue(
            eventually(
                lambda: scrape(self.admin).value("pyproxy_ended_early_total", closed_by="client")
            )
        )
        if promtool := shutil.which("promtool"):
            url = f"http://127.0.0.1:{self.admin}/metrics"
            with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
                checked = subprocess.run(
                    [promtool, "check", "metrics"],
                    input=answer.read(),
                    capture_output=True,
                    timeout=PATIENCE,
                    check=False,
                )
            self.assertEqual((0, b"", b""), (checked.returncode, checked.stdout, checked.stderr))

    def test_workers(self) -> None:
        """What a worker had counted when it was asked last stays when it dies."""
        proxy = self.start(2)
        before = wait_workers(proxy)
        for _ in range(20):
            self.assertEqual(200, proxy.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").status)
        self.assertTrue(eventually(lambda: self.counted() == 20))
        self.assertEqual(2, scrape(self.admin).value("pyproxy_serving_processes"))
        os.kill(before[1], signal.SIGKILL)
        self.assertTrue(
            eventually(lambda: wait_workers(proxy)[1] != before[1], START_LIMIT), proxy.log()
        )
        self.assertEqual(20, self.counted())
        self.assertTrue(
            eventually(lambda: scrape(self.admin).value("pyproxy_serving_processes") == 2)
        )
        for _ in range(20):
            self.assertEqual(200, proxy.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").status)
        self.assertTrue(eventually(lambda: self.counted() == 40))

    def test_model(self) -> None:
        """Of a watched route the model, its tokens and its times stand there, in any worker."""
        self.admin = free_port()
        directory = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="metrics-")))
        (directory / "pyproxy.toml").write_text(WATCHED.format(admin=self.admin))
        with Proxy(f"--config={directory / 'pyproxy.toml'}") as proxy:
            wait_workers(proxy)
            content = json.dumps(QUESTION).encode()
            lines = (
                b"POST /v1/chat/completions HTTP/1.1",
                b"Host: localhost",
                b"Content-Type: application/json",
                b"Content-Length: %d" % len(content),
                b"",
                content,
            )
            for _ in range(6):
                answer = proxy.ask(b"\r\n".join(lines), b"POST")
                self.assertIn(b"[DONE]", answer.body)
            self.assertTrue(eventually(lambda: self.counted() == 6))
            found = scrape(self.admin)
        usage = {"gen_ai_response_model": "demo", "http_route": "/"}
        output = found.value("pyproxy_tokens_total", gen_ai_token_type="output", **usage)
        self.assertGreater(output, 6)
        self.assertEqual(0, output % 6)
        for name in ("time_to_first_token", "time_per_output_token"):
            self.assertEqual(6, found.value(f"gen_ai_server_{name}_seconds_count", **usage))
        self.assertEqual(6, found.value("pyproxy_event_streams_total", **usage))
        self.assertEqual(0, found.value("pyproxy_quiet_failures_total", **usage))

    def test_upstream_that_breaks(self) -> None:
        """A response that the upstream breaks off is counted as that."""

        def break_off(wire: Wire) -> None:
            wire.read_head()
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbroken")
            wire.close()

        self.admin = free_port()
        arguments = (f"--admin=tcp:{self.admin}", "--metrics")
        with upstream_and_proxy(break_off, *arguments) as (_, proxy), proxy.client() as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            client.wait_closed()
            early = "pyproxy_ended_early_total"
            self.assertTrue(eventually(lambda: self.counted() == 1))
            self.assertEqual(1, scrape(self.admin).value(early, closed_by="upstream"))
