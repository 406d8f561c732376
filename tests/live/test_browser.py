"""A page of another site in a real browser cannot spend the key; one that is allowed can."""

from __future__ import annotations

import http.server
import os
import shutil
import subprocess
import tempfile
import threading
import unittest
from typing import Self

from tests.live.kit import PATIENCE, Proxy, ScriptedUpstream, answer, eventually, free_port

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

PAGE_LIMIT = 60.0
"""Seconds in which a browser starts, and a page has tried all that it wants to try."""

PAGE = """<!doctype html>
<meta charset="utf-8">
<iframe name="frame"></iframe>
<iframe src="http://{proxy}/framed"></iframe>
<embed src="http://{proxy}/embedded">
<script type="speculationrules">
{{"prefetch": [{{"source": "list", "urls": ["http://{proxy}/early"]}}]}}
</script>
<form id="form" method="post" action="http://{proxy}/form" target="frame" enctype="text/plain">
<input name="prompt" value="spend"></form>
<script>
const settled = (name, promise) => promise.then(() => name + "=ok", () => name + "=failed");
const image = new Promise((resolve, reject) => {{
  const one = new Image();
  one.onload = resolve;
  one.onerror = reject;
  one.src = "http://{proxy}/image";
}});
const named = new Promise((resolve, reject) => {{
  const one = new Image();
  one.crossOrigin = "anonymous";
  one.onload = resolve;
  one.onerror = reject;
  one.src = "http://{proxy}/named";
}});
const socket = new Promise((resolve, reject) => {{
  const one = new WebSocket("ws://{proxy}/socket");
  one.onopen = resolve;
  one.onerror = reject;
}});
const sent = fetch("http://{proxy}/fetch", {{
  method: "POST", mode: "no-cors", headers: {{"Content-Type": "text/plain"}}, body: "spend",
}});
const posted = new Promise((resolve) => {{
  document.querySelector("iframe").onload = resolve;
  document.getElementById("form").submit();
}});
Promise.all([
  settled("fetch", sent), settled("image", image), settled("socket", socket),
  settled("form", posted), settled("named", named),
]).then((all) => fetch("/done?" + all.join("&")));
</script>
"""

NAMED = {"POST /fetch", "POST /form", "GET /named", "GET /socket"}
"""What a page asks for in its origin's name."""

CORS_FREE = (
    b"HTTP/1.1 200 OK\r\nContent-Type: image/svg+xml\r\nContent-Length: 69\r\n\r\n"
    b'<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"></svg>  '
)


class PageServer:
    """Serves one page under every name, and hears when it is done.

    Attributes:
        done: what the page said at its end.
    """

    def __init__(self, proxy: str) -> None:
        page, heard = PAGE.format(proxy=proxy).encode(), threading.Event()
        self.done = ""
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path, _, query = self.path.partition("?")
                content = page if path == "/" else b""
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
                if path == "/done":
                    server.done = query
                    heard.set()

            def log_message(self, *arguments: object) -> None:
                """Say nothing."""

        self._heard = heard
        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._http.server_address[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def wait(self) -> str:
        """Return what the page said at its end; empty when it never came to it."""
        self._heard.wait(PAGE_LIMIT)
        return self.done


class Browser:
    """A headless Chromium on a page; names under ``.test`` are this machine."""

    def __init__(self, url: str) -> None:
        self._profile = tempfile.mkdtemp(prefix="live-browser-")
        self._process = subprocess.Popen(
            [
                CHROMIUM or "chromium",
                *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
                *("--disable-background-networking", "--disable-component-update"),
                *("--disable-sync", "--disable-quic", "--no-proxy-server"),
                "--host-resolver-rules=MAP *.test 127.0.0.1",
                f"--user-data-dir={self._profile}",
                "--remote-debugging-port=0",
                url,
            ],
            env={**os.environ, "TMPDIR": self._profile},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._profile, ignore_errors=True)


# Where the tests have to prove something, its absence is a failure.
@unittest.skipUnless(CHROMIUM or os.environ.get("CI"), "no chromium on this machine")
class BrowserTests(unittest.TestCase):
    """What a browser sends for a page, and what becomes of it."""

    def visit(self, page: str, *allowed: str) -> tuple[set[str], str]:
        """Let a page of a host try everything.

        Returns: what reached the upstream, and what the page saw.
        """
        port = free_port()
        with (
            ScriptedUpstream(answer(CORS_FREE)) as upstream,
            PageServer(f"127.0.0.1:{port}") as pages,
            Proxy(
                *("--listen", f"tcp:{port}:interface=127.0.0.1", "--target", upstream.url),
                *("--header", "Authorization: Bearer ${KEY}"),
                *(each.format(port=pages.port) for each in allowed),
                environment={"KEY": "sk-the-operators"},
            ),
            Browser(f"http://{page}:{pages.port}/"),
        ):
            seen = pages.wait()
            # What the page sent has arrived by now, or been refused: the proxy logs either.
            eventually(lambda: len(upstream.requests) > 3, 0.5)
            paths = {f"{head.method.decode()} {head.target.decode()}" for head in upstream.requests}
        return paths, seen

    def test_another_site(self) -> None:
        """A simple request, a form, an image, a WebSocket: the upstream hears of none."""
        paths, seen = self.visit("evil.test")
        self.assertEqual(set(), paths)
        self.assertIn("image=failed", seen)
        self.assertIn("socket=failed", seen)
        self.assertIn("fetch=ok", seen)  # an opaque response: the browser did ask

    def test_rebinding(self) -> None:
        """A foreign name that points at the proxy is no name of the proxy's."""
        port = free_port()
        with (
            ScriptedUpstream(answer(CORS_FREE)) as upstream,
            Proxy(
                *("--listen", f"tcp:{port}:interface=127.0.0.1", "--target", upstream.url),
                *("--header", "Authorization: Bearer ${KEY}"),
                environment={"KEY": "sk-the-operators"},
            ) as proxy,
            Browser(f"http://rebound.test:{port}/page"),
        ):
            self.assertIsNotNone(proxy.wait_log(r'"GET /page HTTP/1\.1" 421 ', PAGE_LIMIT))
            self.assertEqual([], upstream.requests)

    def test_allowed_site(self) -> None:
        """The same page arrives with all of it when its origin is allowed."""
        paths, seen = self.visit("good.test", "--allow-origin=http://good.test:{port}")
        self.assertEqual(NAMED, paths)
        # A browser does not say whose page a plain image is of.
        self.assertIn("image=failed", seen)

    def test_own_front_end(self) -> None:
        """A developer's page on another port of this machine needs no option."""
        paths, _ = self.visit("localhost")
        self.assertEqual(NAMED, paths)
