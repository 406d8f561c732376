"""A client of the demo site without a socket: the real site and a clock set by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from http.client import HTTPResponse, IncompleteRead
from io import BytesIO
from socket import socket
from typing import Any, cast

import attrs
from twisted.internet.base import DelayedCall
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IProtocol, IPushProducer
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel

from pyproxy.demo import demo_site
from tests.demo.frames import KEY, Frame, from_client, from_server


@attrs.frozen
class Answer:
    """What has arrived of a response.

    Attributes:
        complete: whether the message ended as its framing says.
    """

    status: int
    fields: list[tuple[str, str]]
    content: bytes
    complete: bool

    def field(self, name: str) -> str | None:
        """Return a field's value, None without it."""
        return next((value for key, value in self.fields if key.lower() == name.lower()), None)

    def fields_of(self, name: str) -> list[str]:
        """Return the values of all fields of a name."""
        return [value for key, value in self.fields if key.lower() == name.lower()]

    @property
    def json(self) -> Any:
        """The content as JSON."""
        return json.loads(self.content)

    @property
    def events(self) -> list[str]:
        """The data of each event of an event stream."""
        lines = self.content.decode().splitlines()
        return [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]

    @property
    def sentence(self) -> str:
        """The sentence of an error object."""
        return str(self.json["error"]["message"])


class _Received:
    """The octets of a response, as the socket that ``http.client`` reads."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets

    def makefile(self, mode: str) -> BytesIO:
        return BytesIO(self._octets)


def read_answer(octets: bytes, method: str) -> Answer:
    """Read what has arrived of a response.  Args: the method of its request."""
    response = HTTPResponse(cast(socket, _Received(octets)), method=method)
    response.begin()
    try:
        content, complete = response.read(), True
    except IncompleteRead as error:
        content, complete = error.partial, False
    return Answer(response.status, response.getheaders(), content, complete)


class NarrowTransport(StringTransport):
    """A transport that nobody reads: full, and its producer paused, past a number of octets.

    As that of TLS it says so once.
    """

    def __init__(self, room: int) -> None:
        super().__init__()
        self._room = room

    def clear(self) -> None:
        """Read all octets."""
        super().clear()
        self._full = False

    def write(self, data: bytes) -> None:
        """Take octets, as a socket does even when it is full."""
        super().write(data)
        if self.producer is not None and not self._full and len(self.value()) > self._room:
            self._full = True
            self.producer.pauseProducing()


class DemoClient:
    """A connection to a demo site of its own.

    Args:
        room: octets that nobody reads before the transport is full; None for no bound.
        board: what the site is told of the board.

    Attributes:
        clock: the site's.
        site: which knows no other client.
        transport: the site's end of the connection.
    """

    def __init__(self, room: int | None = None, board: Callable[[], str] = str) -> None:
        self.clock = Clock()
        self.transport = StringTransport() if room is None else NarrowTransport(room)
        self.site = demo_site(self.clock, board)
        protocol = self.site.buildProtocol(self.transport.getPeer())
        assert protocol is not None
        self.protocol: IProtocol = protocol
        self.protocol.makeConnection(self.transport)
        self._method = "GET"

    def send(
        self, method: str, target: str, content: bytes = b"", fields: dict[str, str] | None = None
    ) -> None:
        """Send a request; its content has a length."""
        self._method = method
        lines = [f"{method} {target} HTTP/1.1", "Host: demo.test"]
        lines += [f"{name}: {value}" for name, value in (fields or {}).items()]
        if content:
            lines.append(f"Content-Length: {len(content)}")
        self.transport.clear()
        self.protocol.dataReceived("\r\n".join([*lines, "", ""]).encode("latin-1") + content)

    def ask(
        self, method: str, target: str, content: bytes = b"", fields: dict[str, str] | None = None
    ) -> Answer:
        """Send a request and return what is answered without waiting."""
        self.send(method, target, content, fields)
        return self.answer()

    def answer(self) -> Answer:
        """Return what has arrived."""
        return read_answer(self.transport.value(), self._method)

    def leave(self) -> None:
        """Close the connection as a lost one."""
        self.protocol.connectionLost(Failure(ConnectionLost()))

    @property
    def producer(self) -> IPushProducer:
        """What the site writes from, as the transport knows it."""
        producer = self.transport.producer
        assert producer is not None
        return IPushProducer(producer)

    @property
    def streams_waiting(self) -> int:
        """How many timers run that are not the channel's own."""
        calls = cast(list[DelayedCall], self.clock.getDelayedCalls())
        return len([call for call in calls if not _of_channel(call.func)])


class WebSocketClient(DemoClient):
    """A client that speaks WebSocket after its handshake."""

    def open(
        self, target: str, fields: dict[str, str] | None = None, *, behind: bytes = b""
    ) -> Answer:
        """Send an opening handshake; return the answer without the frames behind it.

        Args:
            fields: besides those that every handshake has, or instead of them.
            behind: octets that come in one packet with it.
        """
        handshake = {
            "Upgrade": "websocket",
            "Connection": "keep-alive, Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": KEY,
        }
        lines = [f"GET {target} HTTP/1.1", "Host: demo.test"]
        lines += [f"{name}: {value}" for name, value in {**handshake, **(fields or {})}.items()]
        self.transport.clear()
        self.protocol.dataReceived("\r\n".join([*lines, "", ""]).encode("latin-1") + behind)
        answer = self.answer()
        if answer.status == 101:
            _, _, frames = self.transport.value().partition(b"\r\n\r\n")
            self.transport.clear()
            self.transport.write(frames)
        return answer

    def tell(self, *frames: Frame) -> None:
        """Send frames in one packet."""
        self.protocol.dataReceived(b"".join(map(from_client, frames)))

    def heard(self) -> list[Frame]:
        """Return the frames that have come since the last time, or the handshake."""
        frames = from_server(self.transport.value())
        self.transport.clear()
        return frames

    def read_all(self) -> list[Frame]:
        """Return such frames, and make room for more, until none are held back."""
        frames = self.heard()
        while self.transport.producerState == "paused":
            self.producer.resumeProducing()
            frames += self.heard()
        return frames


def _of_channel(function: object) -> bool:
    return isinstance(getattr(function, "__self__", None), HTTPChannel)
