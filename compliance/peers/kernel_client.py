"""Use a Jupyter kernel as a front end does: REST to start and interrupt, a WebSocket to run code.

Every step that went as it should is a line of output.  The first that did not ends the process with
status 1.  The code runs once with each of the two subprotocols of the channel.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import sys
import uuid
from collections.abc import Mapping
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.client import (  # type: ignore[import-not-found,unused-ignore]
    ClientConnection,
    connect,
)
from websockets.typing import (  # type: ignore[import-not-found,unused-ignore]
    Origin,
    Subprotocol,
)

V1 = "v1.kernel.websocket.jupyter.org"
STEP_LIMIT = 60.0
"""Seconds for one answer; a kernel takes some to start."""

OPENING_LIMIT = 30.0
PARTS = ("header", "parent_header", "metadata", "content")

Message = dict[str, Any]


class Wrong(Exception):
    """An answer is not as it should be; the text says which."""


def check(what: str, wanted: object, seen: object) -> None:
    """Say that a step went well.

    Raises: Wrong when it did not.
    """
    if wanted != seen:
        raise Wrong(f"{what}: wanted {wanted!r}, got {seen!r}")
    say(f"{what}: {seen}")


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


class Server:
    """A Jupyter server as seen from one client: its address and what proves who asks."""

    def __init__(self, url: str, fields: Mapping[str, str]) -> None:
        self.url = url
        self.fields = {**fields}

    @property
    def origin(self) -> str:
        """The scheme, host and port, as a browser writes them into Origin."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    def ask(self, method: str, path: str) -> tuple[http.client.HTTPResponse, bytes]:
        """Send a request without content; return the response with its content."""
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.netloc, timeout=STEP_LIMIT)
        try:
            connection.request(method, parts.path + path, headers=self.fields)
            response = connection.getresponse()
            return response, response.read()
        finally:
            connection.close()

    def log_in(self, token: str) -> None:
        """Open the page with the token in its address, and keep what a browser keeps of that."""
        response, page = self.ask("GET", f"lab?token={token}")
        check("page", 200, response.status)
        base = urlsplit(self.url).path
        check("address in the page", True, f'"baseUrl": "{base}"'.encode() in page)
        cookies = [value.partition(";") for value in response.headers.get_all("Set-Cookie", [])]
        for cookie, _, attributes in cookies:
            check(f"path of cookie {cookie.partition('=')[0]}", True, f"Path={base}" in attributes)
        kept = dict(cookie.split("=", 1) for cookie, _, _ in cookies)
        self.fields = {
            "Origin": self.origin,
            "Cookie": "; ".join(f"{name}={value}" for name, value in kept.items()),
            "X-XSRFToken": kept["_xsrf"],
        }
        script = page.partition(b'<script defer="defer" src="')[2].partition(b'"')[0].decode()
        check("script of the page", 200, self._load(script))

    def _load(self, path: str) -> int:
        return Server(self.origin, self.fields).ask("GET", path)[0].status

    def start_kernel(self) -> str:
        """Start a kernel and return its id."""
        response, content = self.ask("POST", "api/kernels")
        check("start a kernel", 201, response.status)
        kernel: str = json.loads(content)["id"]
        there = f"{urlsplit(self.url).path}api/kernels/{kernel}"
        check("Location", there, response.headers["Location"])
        return kernel


def encode(message: Message, channel: str, subprotocol: str | None) -> str | bytes:
    """Return a message as the subprotocol writes it.

    Spec: "WebSocket kernel wire protocols" in the documentation of Jupyter Server.
    """
    if subprotocol is None:
        return json.dumps({**message, "channel": channel, "buffers": []})
    parts = [channel.encode(), *(json.dumps(message[part]).encode() for part in PARTS)]
    at = 8 * (len(parts) + 2)
    offsets = [at]
    for part in parts:
        offsets.append(at := at + len(part))
    numbers = (len(offsets), *offsets)
    return b"".join([*(number.to_bytes(8, "little") for number in numbers), *parts])


def decode(octets: str | bytes, subprotocol: str | None) -> Message:
    """Return a message with its channel, read as the subprotocol writes it."""
    if subprotocol is None:
        if isinstance(octets, bytes):
            raise Wrong("a binary message without buffers in the default subprotocol")
        message: Message = json.loads(octets)
        return message
    if isinstance(octets, str):
        raise Wrong(f"a text message in {subprotocol}")
    count = int.from_bytes(octets[:8], "little")
    offsets = [int.from_bytes(octets[8 * n : 8 * n + 8], "little") for n in range(1, count + 1)]
    parts = [octets[at:end] for at, end in pairwise(offsets)]
    found = {name: json.loads(part) for name, part in zip(PARTS, parts[1:5], strict=True)}
    return {"channel": parts[0].decode(), **found}


class Channel:
    """The open WebSocket of a kernel."""

    def __init__(self, socket: ClientConnection, session: str) -> None:
        self._socket = socket
        self._session = session
        self._subprotocol: str | None = socket.subprotocol

    async def execute(self, code: str) -> str:
        """Ask the kernel to run code; return the request's id."""
        number = uuid.uuid4().hex
        message = {
            "header": {
                "msg_id": number,
                "msg_type": "execute_request",
                "session": self._session,
                "username": "compliance",
                "version": "5.3",
            },
            "parent_header": {},
            "metadata": {},
            "content": {
                "code": code,
                "silent": False,
                "store_history": True,
                "user_expressions": {},
                "allow_stdin": False,
                "stop_on_error": True,
            },
        }
        await self._socket.send(encode(message, "shell", self._subprotocol))
        return number

    async def wait_for(self, request: str, *wanted: str) -> dict[str, list[Message]]:
        """Return the answers to a request by kind, as soon as one of each wanted kind is there."""
        seen: dict[str, list[Message]] = {}
        async with asyncio.timeout(STEP_LIMIT):
            while not set(wanted) <= set(seen):
                message = decode(await self._socket.recv(), self._subprotocol)
                if message["parent_header"].get("msg_id") == request:
                    kind = f"{message['channel']} {message['header']['msg_type']}"
                    if kind == "iopub status":
                        kind += f" {message['content']['execution_state']}"
                    seen.setdefault(kind, []).append(message["content"])
        return seen


async def use_kernel(server: Server, kernel: str, subprotocol: str | None) -> None:
    """Run code on the kernel's channel, interrupt it, and close."""
    session = uuid.uuid4().hex
    url = f"{server.url}api/kernels/{kernel}/channels?session_id={session}"
    fields = {name: value for name, value in server.fields.items() if name != "Origin"}
    origin = server.fields.get("Origin")
    async with connect(
        url.replace("http", "ws", 1),
        origin=None if origin is None else Origin(origin),
        subprotocols=None if subprotocol is None else [Subprotocol(subprotocol)],
        additional_headers=fields,
        open_timeout=OPENING_LIMIT,
        close_timeout=OPENING_LIMIT,
        max_size=None,
        proxy=None,
    ) as socket:
        check("subprotocol", subprotocol, socket.subprotocol)
        channel = Channel(socket, session)
        request = await channel.execute("print(6*7)")
        seen = await channel.wait_for(request, "shell execute_reply", "iopub status idle")
        check("reply", "ok", seen["shell execute_reply"][0]["status"])
        text = "".join(each["text"] for each in seen.get("iopub stream", ()))
        check("print(6*7)", "42", text.strip())
        await _interrupt(server, kernel, channel)
    check("close code", 1000, socket.close_code)


async def _interrupt(server: Server, kernel: str, channel: Channel) -> None:
    endless = "import time\nprint('on', flush=True)\nwhile True:\n    time.sleep(0.05)"
    request = await channel.execute(endless)
    await channel.wait_for(request, "iopub stream")
    response, _ = await asyncio.to_thread(server.ask, "POST", f"api/kernels/{kernel}/interrupt")
    check("interrupt", 204, response.status)
    seen = await channel.wait_for(request, "iopub error", "iopub status idle")
    check("what it ended with", "KeyboardInterrupt", seen["iopub error"][0]["ename"])


def main() -> int:
    """Do all steps; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="base address of the server, with a slash behind it")
    parser.add_argument("token")
    parser.add_argument("--browser", action="store_true", help="log in by cookie, send Origin")
    asked = parser.parse_args()
    server = Server(asked.url, {"Authorization": f"token {asked.token}"})
    try:
        if asked.browser:
            server = Server(asked.url, {})
            server.log_in(asked.token)
        kernel = server.start_kernel()
        for subprotocol in (None, V1):
            asyncio.run(use_kernel(server, kernel, subprotocol))
        response, _ = server.ask("DELETE", f"api/kernels/{kernel}")
        check("end the kernel", 204, response.status)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
        say(f"FAILED: {type(error).__name__}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
