"""The playground in a real browser: what comes of an answer, and its row on the board."""

from __future__ import annotations

import json
import os
import tempfile
import unittest
from contextlib import ExitStack
from pathlib import Path

from tests.live.kit import PATIENCE, Proxy, ScriptedUpstream, answer, eventually, free_port
from tests.live.webdriver import CHROMIUM, DESKTOP, DRIVER, PHONE, Browser

SIZES = {"desktop": DESKTOP, "phone": PHONE}

OVER = (
    "return $('stop').disabled && [...document.querySelectorAll('.answer')].at(-1)?.dataset.state"
)
STATE = "return [...document.querySelectorAll('.answer')].at(-1)?.dataset.state"
OVER = f"return $('stop').disabled && ({STATE[7:]})"
LAST = "return [...document.querySelectorAll('.answer')].at(-1).innerText"
SCENE = "$('scenes').children[arguments[0]].click()"
ROW = "return document.querySelector('tr.here')?.innerText"
CONTROLS = "button, input, select, a, summary"

SCENES = {
    3: ("broken", "broke off", "browser"),
    4: ("truncated", "truncated", "truncated"),
    5: ("empty", "empty", "empty"),
    6: ("failed", "The demo has failed, as asked for.", "failed"),
}
"""Of the scenes that go wrong: what the page makes of each, and what it says."""

BROKEN = "net::ERR_INCOMPLETE_CHUNKED_ENCODING"
"""What the browser itself says of a response that breaks off."""

EXAMPLE = Path(__file__).parents[2] / "examples" / "chat.html"


# Where the tests have to prove something, its absence is a failure.
@unittest.skipUnless((CHROMIUM and DRIVER) or os.environ.get("CI"), "no chromium on this machine")
class PlaygroundTestCase(unittest.TestCase):
    """A case with what ``make run`` starts, and browsers on it."""

    def setUp(self) -> None:
        """Start it."""
        stack = ExitStack()
        self.addCleanup(stack.close)
        self.stack = stack
        self.admin = free_port()
        self.proxy = stack.enter_context(
            Proxy("--demo", "--port", "0", "--admin", f"tcp:{self.admin}")
        )

    @property
    def hosts(self) -> set[str]:
        """Hosts that a page may ask."""
        ours = {f"127.0.0.1:{port}" for port in (self.proxy.port, self.admin)}
        return {*ours, "new-tab-page", "newtab"}

    def browse(self, size: tuple[int, int] = DESKTOP) -> Browser:
        """Open the playground in a browser."""
        browser = self.stack.enter_context(Browser(size))
        browser.open(f"http://127.0.0.1:{self.proxy.port}/chat")
        self.assertTrue(browser.wait("return document.querySelectorAll('#scenes button').length"))
        return browser

    def is_quiet(self, browser: Browser) -> None:
        """Check that the console has nothing to say, and nobody else was asked for anything."""
        self.assertEqual([], browser.troubles())
        self.assertLessEqual(browser.hosts(), self.hosts)

    def row(self, browser: Browser, *said: str) -> None:
        """Follow the link of the last answer; check that its row comes to say all that."""
        browser.run(
            "const link = [...document.querySelectorAll('a.row')].at(-1);"
            "link.target = ''; link.click();"
        )
        self.assertTrue(eventually(lambda: f":{self.admin}/" in browser.url))
        self.shows(browser, *said)

    def shows(self, board: Browser, *said: str) -> None:
        """Check that the row to which the board was led comes to say all that."""
        found = f"({ROW[7:]} ?? '')"
        all_said = f"return {json.dumps(said)}.every((each) => {found}.includes(each))"
        self.assertTrue(board.wait(all_said, PATIENCE), (said, board.run(ROW)))


class AnswerTests(PlaygroundTestCase):
    """Answers, in windows of both sizes."""

    def test_streams(self) -> None:
        """An answer comes word by word; its figures are told, and its row is on the board."""
        for name, size in SIZES.items():
            with self.subTest(size=name):
                browser = self.browse(size)
                browser.run("$('model').elements.interval_ms.value = 400")
                browser.type("#text", "Hello\ue007")
                self.assertTrue(browser.wait(f"{STATE} === 'streaming'", PATIENCE))
                early = browser.run("return document.querySelector('.said').innerText")
                longer = f"return document.querySelector('.said').innerText.length > {len(early)}"
                self.assertTrue(browser.wait(longer, PATIENCE))
                self.assertEqual("streaming", browser.run(STATE))
                wide = "return document.documentElement.scrollWidth <= innerWidth"
                self.assertTrue(browser.run(wide))
                self.row(browser, "/v1/chat/completions?page=play-")
                self.assertRegex(browser.url, rf":{self.admin}/#1-\d+$")
                self.is_quiet(browser)

    def test_ends(self) -> None:
        """It ends with figures: first word, tokens as they are counted, and their rate."""
        browser = self.browse()
        browser.type("#text", "Hello\ue007")
        self.assertEqual("ended", browser.wait(OVER, PATIENCE))
        figures = browser.run(
            "return Object.fromEntries([...document.querySelectorAll('dd')]"
            ".map((each) => [each.dataset.figure, each.innerText]))"
        )
        words = browser.run("return document.querySelector('.said').innerText.split(/\\s+/).length")
        self.assertEqual(str(words), figures["tokens"])
        self.assertRegex(figures["first"], r"^\d+(\.\d)? m?s$")
        self.assertGreater(float(figures["rate"]), 0)
        self.assertTrue(
            browser.run("return document.querySelector('rect[height]:not([height=\"0\"])')")
        )
        self.row(browser, "ended", str(words))
        self.is_quiet(browser)

    def test_faults(self) -> None:
        """What goes wrong is called by its name, here and on the board."""
        for name, size in SIZES.items():
            browser = self.browse(size)
            for number, (state, said, on_board) in SCENES.items():
                with self.subTest(size=name, state=state):
                    browser.open(f"http://127.0.0.1:{self.proxy.port}/chat")
                    browser.run(SCENE, number)
                    self.assertEqual(state, browser.wait(OVER, PATIENCE))
                    self.assertIn(said, browser.run(LAST))
                    troubles = browser.troubles()
                    if state == "broken":
                        self.assertTrue(all(BROKEN in each for each in troubles), troubles)
                        on_board = "upstream"
                    else:
                        self.assertEqual([], troubles)
                    self.row(browser, on_board)
                    self.is_quiet(browser)

    def test_refused(self) -> None:
        """An answer with a status of its own shows it, and what is said of it."""
        browser = self.browse()
        browser.run("behaviour = () => ({ fault: 'none' })")
        browser.type("#text", "Hello\ue007")
        self.assertEqual("refused", browser.wait(OVER, PATIENCE))
        self.assertIn("400: fault must be one of", browser.run(LAST))

    def test_hostile(self) -> None:
        """What the model says is text, whatever it looks like."""
        browser = self.browse()
        browser.type("#text", "<img/src=x/onerror=document.title='taken'>\ue007")
        self.assertEqual("ended", browser.wait(OVER, PATIENCE))
        self.assertIn('You wrote "<img/src=x', browser.run(LAST))
        self.assertEqual(0, browser.run("return document.querySelectorAll('#talk img').length"))
        self.assertEqual("pyproxy playground", browser.run("return document.title"))
        self.is_quiet(browser)


class StopTests(PlaygroundTestCase):
    """Answers that somebody stops."""

    def test_by_the_page(self) -> None:
        """Button and key stop it; the board says that the client left."""
        for number, way in ((1, "click"), (7, "key")):
            with self.subTest(way=way):
                browser = self.browse()
                browser.run(SCENE, number)
                self.assertTrue(browser.wait(f"{STATE} === 'streaming'", PATIENCE))
                if way == "click":
                    browser.click("#stop")
                else:
                    browser.type("#text", "\ue00c")
                self.assertEqual("stopped", browser.wait(OVER, PATIENCE))
                self.row(browser, "the client left")
                self.is_quiet(browser)

    def test_by_the_board(self) -> None:
        """The board's button stops it, and the page says that it broke off."""
        browser, board = self.browse(), self.browse()
        browser.run(SCENE, 1)
        self.assertTrue(browser.wait(f"{STATE} === 'streaming'", PATIENCE))
        board.open(browser.run("return document.querySelector('a.row').href"))
        self.shows(board, "streaming")
        board.click("tr.here .stop")
        self.assertEqual("broken", browser.wait(OVER, PATIENCE))
        self.shows(board, "stopped here")
        self.is_quiet(board)


class PageTests(PlaygroundTestCase):
    """The page itself."""

    def test_names(self) -> None:
        """Every control has a name that a screen reader says, and no page is wider than it is."""
        for name, size in SIZES.items():
            browser = self.browse(size)
            browser.run("$('tuning').open = true")
            browser.run(SCENE, 5)
            self.assertEqual("empty", browser.wait(OVER, PATIENCE))
            browser.run("$('hello').hidden = false")
            count = browser.run(f"return document.querySelectorAll('{CONTROLS}').length")
            self.assertGreater(count, 25)
            for number in range(count):
                self.assertTrue(browser.name_of(CONTROLS, number), f"{name}, control {number}")
            wide = "return document.documentElement.scrollWidth <= innerWidth"
            self.assertTrue(browser.run(wide), name)
            self.is_quiet(browser)

    def test_link(self) -> None:
        """The page leads to the board."""
        browser = self.browse()
        self.assertEqual(f"http://127.0.0.1:{self.admin}/", browser.run("return $('board').href"))

    def test_colours(self) -> None:
        """It is light or dark as it is told, and stays so."""
        browser = self.browse()
        background = "return getComputedStyle(document.body).backgroundColor"
        seen = []
        for _ in range(2):
            browser.click("#theme")
            seen.append(browser.run(background))
        self.assertEqual(2, len(set(seen)), seen)
        browser.open(f"http://127.0.0.1:{self.proxy.port}/chat")
        self.assertEqual(seen[-1], browser.run(background))


class ExampleTests(PlaygroundTestCase):
    """The example of a page, small enough to be read."""

    def test_chat(self) -> None:
        """It chats through the proxy from which it comes."""
        content = EXAMPLE.read_bytes()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n"
        directory = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        pages = self.stack.enter_context(ScriptedUpstream(answer(head % len(content) + content)))
        path = directory / "pyproxy.toml"
        path.write_text(
            f'[upstreams.pages]\ntarget = "{pages.url}"\n[upstreams.model]\ndemo = true\n'
            '[[listeners]]\nendpoint = "tcp:0:interface=127.0.0.1"\n'
            '[[routes]]\npath = "/page"\nupstream = "pages"\n'
            '[[routes]]\npath = "/"\nupstream = "model"\n'
        )
        proxy = self.stack.enter_context(Proxy("--config", str(path)))
        browser = self.stack.enter_context(Browser())
        browser.open(f"http://127.0.0.1:{proxy.port}/page")
        browser.type("#text", "Hello\ue007")
        said = "return document.getElementById('state').innerText"
        self.assertIn(
            "tokens, the first after",
            browser.wait(f"{said}.includes('tokens') && {said[7:]}", PATIENCE),
        )
        self.assertEqual([], browser.troubles())
