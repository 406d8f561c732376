"""The board in a real browser, over two workers."""

from __future__ import annotations

import json
import os
import tempfile
import time
import unittest
from contextlib import ExitStack
from functools import partial
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

from tests.live.kit import (
    PATIENCE,
    Closed,
    Proxy,
    RawClient,
    ScriptedUpstream,
    Wire,
    eventually,
    free_port,
    request,
)
from tests.live.webdriver import CHROMIUM, DESKTOP, DRIVER, PHONE, Browser
from tests.live.websocket import opening, read_close, switching

BEGUN = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENT = b"d\r\ndata: hello\n\n\r\n"
TOKEN = "a-token-that-nobody-guesses"

ROWS = "return document.querySelectorAll('#open tr[data-id]:not(.over)').length"
ENDED = "return [...document.querySelectorAll('#ended tr[data-id]')].map((one) => one.innerText)"
CONTROLS = "button, input, select, a"
LIVE = "return document.getElementById('link').dataset.state === 'live'"

MANY_ROWS = """
source.close();
const all = Array.from({ length: arguments[0] }, (_, number) => ({
  ...Object.fromEntries(moving.map((name) => [name, 0])),
  id: `1-${number}`, route: "/", method: "GET", target: `/${number}`, client: "c", began: now(),
  model: null, peer: "http://p", state: "streaming", slow: "", first: 0.1, tokens: null,
}));
const counts = { open: all.length, hidden: 0, routes: { "/": all.length }, silent: [] };
const values = (row, turn) => moving.map((name) => (name === "events" ? turn : row[name]));
take({ now: now(), rows: all, counts });
frames.length = 0;
window.turns = 0;
const again = () => {
  window.turns += 1;
  const moved = Object.fromEntries(all.map((row) => [row.id, values(row, window.turns)]));
  take({ now: now(), moved, counts });
  if (window.turns < 40) setTimeout(again, 50);
};
again();
"""
"""Lets so many rows come, and change all of them again and again."""

WITHIN = 1.0
"""Seconds in which a row appears, as the board promises; a machine that is busy has more."""

MANY = 1000
FRAME_MS = 100.0
"""Rows that are open at once, and milliseconds that the page may take for a frame then."""


def stream(wire: Wire) -> None:
    """Begin an event stream that goes on until somebody ends it."""
    wire.read_head()
    wire.send(BEGUN + EVENT)
    while wire.open and not wire.readable(0.2):
        wire.send(EVENT)
    wire.close()


class BoardTestCase(unittest.TestCase):
    """A case with a proxy of two workers, in front of an upstream that streams."""

    workers = 2
    token = False
    log = ""

    def setUp(self) -> None:
        """Start both."""
        stack = ExitStack()
        self.addCleanup(stack.close)
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self.upstream = stack.enter_context(ScriptedUpstream(stream))
        self.admin = free_port()
        (directory / "token").write_text(TOKEN + "\n")
        path = directory / "pyproxy.toml"
        path.write_text(
            f'admin = "tcp:{self.admin}"\nworkers = {self.workers}\ndrain_timeout = 0\n'
            + (f'admin_token = "@{directory}/token"\n' if self.token else "")
            + self.log
            + f'[upstreams.only]\ntarget = "{self.upstream.url}"\n'
            '[[listeners]]\nendpoint = "tcp:0:interface=127.0.0.1"\n'
            '[[routes]]\npath = "/a"\nupstream = "only"\nusage = true\n'
            '[[routes]]\npath = "/b"\nupstream = "only"\n'
        )
        self.proxy = stack.enter_context(Proxy("--config", str(path)))
        for number in range(1, self.workers + 1) if self.workers > 1 else ():
            self.assertIsNotNone(self.proxy.wait_log(rf"Worker {number} .* serves", PATIENCE))
        self.stack = stack

    @property
    def url(self) -> str:
        """Where the board is."""
        return f"http://127.0.0.1:{self.admin}/"

    def open(self, target: str = "/a/x") -> RawClient:
        """Open a stream."""
        client = self.proxy.client()
        self.addCleanup(client.close)
        client.send(request(f"GET {target} HTTP/1.1".encode()))
        self.assertEqual(200, client.read_head().status)
        return client

    def is_broken(self, client: RawClient) -> bool:
        """Tell whether a stream broke off, and did not come to its end."""
        try:
            rest = client.read_to_end()
        except Closed:
            return True
        return not rest.endswith(b"0\r\n\r\n")


# Where the tests have to prove something, its absence is a failure.
@unittest.skipUnless((CHROMIUM and DRIVER) or os.environ.get("CI"), "no chromium on this machine")
class BrowserTestCase(BoardTestCase):
    """A case with a browser."""

    def browse(self, size: tuple[int, int] = DESKTOP) -> Browser:
        """Open the board in a browser."""
        browser = self.stack.enter_context(Browser(size))
        browser.open(self.url)
        self.assertTrue(browser.wait(LIVE))
        return browser

    def is_quiet(self, browser: Browser) -> None:
        """Check that the console has nothing to say, and nobody else was asked for anything."""
        self.assertEqual([], browser.troubles())
        self.assertLessEqual(browser.hosts(), {f"127.0.0.1:{self.admin}", "new-tab-page", "newtab"})


class RowsTests(BrowserTestCase):
    """What stands on the board."""

    def test_appears(self) -> None:
        """A request of either worker stands there within a second, and tells how it goes."""
        browser = self.browse()
        clients = [self.open() for _ in range(4)]
        began = time.monotonic()
        self.assertEqual(4, browser.wait(f"{ROWS} === 4 && 4", PATIENCE))
        if not os.environ.get("CI"):
            self.assertLess(time.monotonic() - began, WITHIN * 5)
        ids = browser.run("return [...document.querySelectorAll('#open td a')].map((a) => a.text)")
        self.assertEqual({"1", "2"}, {each.partition("-")[0] for each in ids})
        shown = browser.run("return document.querySelector('#open tr[data-id]').innerText")
        self.assertIn("GET /a/x", shown)
        self.assertIn("streaming", shown)
        self.assertTrue(browser.wait("return rate([...rows.values()][0]) > 0", PATIENCE))
        for client in clients:
            client.close()
        self.assertTrue(browser.wait(f"{ROWS} === 0", PATIENCE))
        self.assertTrue(all("the client left" in each for each in browser.run(ENDED)))
        self.is_quiet(browser)

    def test_hostile(self) -> None:
        """What a client has said is text, whatever it looks like."""
        browser = self.browse()
        self.open("/a/<img/src=x/onerror=document.title='taken'>")
        self.assertTrue(browser.wait(f"{ROWS} === 1", PATIENCE))
        self.assertIn("<img", browser.run("return document.getElementById('open').innerText"))
        self.assertEqual(0, browser.run("return document.querySelectorAll('#open img').length"))
        self.assertEqual("pyproxy board", browser.run("return document.title"))
        self.is_quiet(browser)

    def test_filter_and_link(self) -> None:
        """The filter leaves what matches; a link leads to its row."""
        for target in ("/a/one", "/a/two", "/b/three"):
            self.open(target)
        browser = self.browse()
        self.assertTrue(browser.wait(f"{ROWS} === 3", PATIENCE))
        browser.type("#filter", "two")
        self.assertTrue(browser.wait(f"{ROWS} === 1", PATIENCE))
        browser.click("#open td a")
        self.assertRegex(browser.url, r"#\d-\d+$")
        link = browser.url
        browser.open("about:blank")
        browser.open(link)
        found = "return document.querySelector('tr.here')?.innerText"
        self.assertIn("/a/two", browser.wait(found, PATIENCE) or "")


class StopTests(BrowserTestCase):
    """The stop button."""

    def test_one(self) -> None:
        """One click ends one stream: the client sees a break, the upstream a close."""
        clients = {number: self.open(f"/a/{number}") for number in range(4)}
        browser = self.browse()
        self.assertTrue(browser.wait(f"{ROWS} === 4", PATIENCE))
        browser.type("#filter", "/a/2")
        self.assertTrue(browser.wait(f"{ROWS} === 1", PATIENCE))
        browser.click("#open .stop")
        self.assertTrue(self.is_broken(clients[2]))
        self.assertTrue(browser.wait(f"{ROWS} === 0", PATIENCE))
        self.assertTrue(any("stopped here" in each for each in browser.wait(ENDED, PATIENCE)))
        browser.type("#filter", "\ue003" * 4)
        self.assertTrue(browser.wait(f"{ROWS} === 3", PATIENCE))
        self.is_quiet(browser)

    def test_keyboard(self) -> None:
        """The keyboard does as well."""
        client = self.open()
        browser = self.browse()
        self.assertTrue(browser.wait(f"{ROWS} === 1", PATIENCE))
        browser.type("#open .stop", "\ue007")
        self.assertTrue(self.is_broken(client))

    def test_route(self) -> None:
        """All of a route are ended, in both workers, and no other."""
        mine = [self.open("/a/x") for _ in range(4)]
        other = self.open("/b/x")
        browser = self.browse()
        self.assertTrue(browser.wait(f"{ROWS} === 5", PATIENCE))
        browser.click("#routes .chip:first-child .stop")
        for client in mine:
            self.assertTrue(self.is_broken(client))
        self.assertTrue(browser.wait(f"{ROWS} === 1", PATIENCE))
        self.assertTrue(other.read_chunk())
        self.is_quiet(browser)


class PageTests(BrowserTestCase):
    """The page itself, on a desktop and on a phone."""

    workers = 1

    def test_names(self) -> None:
        """Every control has a name that a screen reader says, and no page is wider than it is."""
        self.open()
        for size in (DESKTOP, PHONE):
            browser = self.browse(size)
            self.assertTrue(browser.wait(f"{ROWS} === 1", PATIENCE))
            shown = browser.run(
                "return [...document.querySelectorAll('button, input, select, a')]"
                ".map((each) => each.offsetParent !== null)"
            )
            for number, is_shown in enumerate(shown):
                if is_shown:
                    # What a row says changes meanwhile, and its tree is made anew.
                    name = eventually(partial(browser.name_of, CONTROLS, number))
                    self.assertTrue(name, f"control {number}")
            wide = "return document.documentElement.scrollWidth <= innerWidth"
            self.assertTrue(browser.run(wide), size)
            self.is_quiet(browser)

    def test_many(self) -> None:
        """With a thousand rows a frame stays short, since only those in sight are there."""
        browser = self.browse()
        browser.run(MANY_ROWS, MANY)
        self.assertTrue(browser.wait("return window.turns === 40", PATIENCE))
        self.assertLess(browser.run(ROWS), 100)
        self.assertEqual(MANY, browser.run("return rows.size"))
        middle = browser.run("return frames.sort((a, b) => a - b)[Math.floor(frames.length / 2)]")
        self.assertLess(middle, FRAME_MS)


class TokenTests(BrowserTestCase):
    """With a token the board asks for it, once."""

    workers = 1
    token = True

    def test_form(self) -> None:
        """Who types the token sees the board, also when he comes again."""
        browser = self.stack.enter_context(Browser())
        browser.open(self.url)
        browser.type("#token", TOKEN + "\ue007")
        self.assertTrue(browser.wait("return document.title === 'pyproxy board'", PATIENCE))
        self.assertTrue(browser.wait(LIVE, PATIENCE))
        browser.open("about:blank")
        browser.open(self.url)
        self.assertTrue(browser.wait(LIVE, PATIENCE))

    def test_link(self) -> None:
        """Who comes with it in the link is let in, and it does not stay in the address."""
        browser = self.stack.enter_context(Browser())
        browser.open(f"{self.url}?token={TOKEN}")
        self.assertTrue(browser.wait(LIVE, PATIENCE))
        self.assertEqual(self.url, browser.url)


class ApiTests(BoardTestCase):
    """What programs ask, which need no browser."""

    def api(self, method: str, target: str, said: object = None) -> HTTPResponse:
        """Ask the admin site."""
        connection = HTTPConnection("127.0.0.1", self.admin, timeout=PATIENCE)
        self.addCleanup(connection.close)
        octets = None if said is None else json.dumps(said).encode()
        connection.request(method, target, octets, {"Content-Type": "application/json"})
        return connection.getresponse()

    def stop_when_there(self, said: object) -> int:
        """Stop what may not be open yet; return how many that were."""
        # A row has to be seen before it can be named; a route does not.
        found: list[int] = []

        def stopped() -> bool:
            response = self.api("POST", "/api/board/stop", said)
            answer = json.loads(response.read())
            if response.status == 200:
                found.append(answer["stopped"])
            return response.status == 200

        self.assertTrue(eventually(stopped))
        return found[0]

    def test_unanswered(self) -> None:
        """A request that is not answered yet becomes a 503, and its upstream is left."""
        held: list[float] = []

        def wait(wire: Wire) -> None:
            wire.read_head()
            held.append(wire.wait_closed())
            wire.close()

        self.upstream.script = wait
        client = self.proxy.client()
        self.addCleanup(client.close)
        client.send(request(b"GET /a/x HTTP/1.1"))
        self.assertTrue(eventually(lambda: self.upstream.heads))
        self.assertEqual(1, self.stop_when_there({"route": "/a"}))
        response = client.read_response()
        self.assertEqual(503, response.head.status)
        self.assertIn(b"operator", response.body)
        self.assertTrue(eventually(lambda: held))

    def test_websocket(self) -> None:
        """Both ends of a WebSocket get a Close frame that says who ended it."""
        codes: list[int | None] = []

        def switch(wire: Wire) -> None:
            wire.send(switching(wire.read_head()))
            codes.append(read_close(wire))
            wire.close()

        self.upstream.script = switch
        client = self.proxy.client()
        self.addCleanup(client.close)
        client.send(opening(target=b"/b/socket"))
        self.assertEqual(101, client.read_head().status)
        self.assertEqual(1, self.stop_when_there({"route": "/b"}))
        self.assertEqual(1011, read_close(client))
        self.assertEqual([1011], eventually(lambda: codes))

    def test_row(self) -> None:
        """The stream names a row, by which it is ended, whichever worker has it."""
        clients = [self.open() for _ in range(4)]
        events = self.api("GET", "/api/board/events")
        names: set[str] = set()
        while len(names) < len(clients):
            line = events.readline()
            if line.startswith(b"data: "):
                names |= {row["id"] for row in json.loads(line[6:]).get("rows", [])}
        for name in names:
            self.assertEqual(1, self.stop_when_there({"id": name}))
        for client in clients:
            self.assertTrue(self.is_broken(client))
        events.close()


class LogTests(BrowserTestCase):
    """What the log says of a stop."""

    workers = 1
    log = '[log]\naccess = "json"\n'

    def test_operator(self) -> None:
        """It says that the operator has ended the request."""
        client = self.open("/b/x")
        browser = self.browse()
        self.assertTrue(browser.wait(f"{ROWS} === 1", PATIENCE))
        browser.click("#open .stop")
        self.assertTrue(self.is_broken(client))
        line = self.proxy.wait_log(r'\{.*"/b/x".*\}', PATIENCE)
        self.assertEqual("operator", json.loads(line or "{}").get("closed_by"))
        self.assertTrue(eventually(lambda: not self.upstream._wires[-1].open, PATIENCE))
