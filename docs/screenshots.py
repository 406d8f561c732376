"""Make the pictures of the playground and of the board that the documents show.

``make screenshots`` writes them to ``docs/_static``; chromium and chromium-driver have to be there.
"""

from __future__ import annotations

import base64
import json
import time
from contextlib import ExitStack
from pathlib import Path

from tests.live.kit import Proxy, RawClient, free_port, request
from tests.live.webdriver import Browser

PICTURES = Path(__file__).parent / "_static"

SIZE = (1280, 880)

LIMIT = 30.0
"""Seconds in which a page has to show what is wanted."""

QUESTIONS: tuple[dict[str, object], ...] = (
    {"words": 9},
    {"words": 30, "fault": "truncate"},
    {"fault": "empty"},
    {"words": 14},
    {"words": 20, "fault": "break"},
    {"words": 12, "fault": "error"},
    {"words": 40},
    {"words": 900},
    {"words": 900, "interval_ms": 150},
    {"words": 900, "interval_ms": 90},
    {"words": 90, "fault": "stall", "interval_ms": 10},
    {"words": 900, "interval_ms": 25},
    {"words": 900, "interval_ms": 60},
    {"first_byte_ms": 600_000},
)
"""What is asked for, so that the board has something to show."""

STREAMS = "return document.querySelectorAll('.said')[2].innerText.includes('which is')"


def ask(client: RawClient, question: dict[str, object]) -> None:
    """Ask the demo for a streamed answer, and read nothing."""
    messages = [{"role": "user", "content": "Hello"}]
    content = json.dumps(
        {"model": "demo", "stream": True, "messages": messages, **question}
    ).encode()
    length = b"Content-Length: %d" % len(content)
    head = request(b"POST /v1/chat/completions HTTP/1.1", b"Content-Type: application/json", length)
    client.send(head + content)


def save(browser: Browser, name: str) -> None:
    """Write what a browser shows to a file."""
    (PICTURES / name).write_bytes(base64.b64decode(browser.picture()))


def playground(proxy: Proxy) -> None:
    """Show an answer that has ended, one that broke off, and one on its way."""
    with Browser(SIZE) as browser:
        browser.open(f"http://127.0.0.1:{proxy.port}/chat")
        browser.wait("return document.querySelectorAll('#scenes button').length", LIMIT)
        for scene in (0, 3):
            browser.run("$('scenes').children[arguments[0]].click()", scene)
            browser.wait("return $('stop').disabled", LIMIT)
        browser.run("$('scenes').children[1].click()")
        browser.wait(STREAMS, LIMIT)
        save(browser, "playground.png")


def board(proxy: Proxy, admin: int) -> None:
    """Show answers of all kinds, open ones and others."""
    with ExitStack() as stack:
        for question in QUESTIONS:
            ask(stack.enter_context(proxy.client()), question)
        browser = stack.enter_context(Browser(SIZE))
        browser.open(f"http://127.0.0.1:{admin}/")
        browser.wait("return ended.size >= 7 && rows.size >= 7", LIMIT)
        time.sleep(1)  # so that rates are those of more than a moment
        save(browser, "board.png")


def main() -> None:
    """Make both."""
    admin = free_port()
    with Proxy("--demo", "--port", "0", "--admin", f"tcp:{admin}") as proxy:
        playground(proxy)
        board(proxy, admin)


if __name__ == "__main__":
    main()
