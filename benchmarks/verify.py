"""Check that a system's answers are right, before any of them is timed."""

from __future__ import annotations

import hashlib
import http.client
import json
from collections.abc import Iterator

from benchmarks.payloads import (
    ANSWER_LENGTH,
    EVENT_LENGTH,
    EVENT_MARK,
    FLOOD_EVENTS,
    POST_LENGTH,
    REQUEST_FIELDS,
    RESPONSE_FIELDS,
    SMALL,
    TRANSFER_LENGTH,
    content,
    event,
    event_number,
    own_answer,
)

TIME_LIMIT = 20.0
UPLOAD_PIECE = 64 * 1024
EVENTS = 20
FLOOD_BATCHES = 10


class WrongAnswer(Exception):
    """An answer is not what the upstream sent; the text says how."""


def small(port: int) -> None:
    """Check the short answer."""
    _expect("GET /small", _ask(port, "GET", "/small"), SMALL)


def fields(port: int) -> None:
    """Check that every response field comes through."""
    response = _ask(port, "GET", "/fields", fields=REQUEST_FIELDS)
    for name, value in RESPONSE_FIELDS.items():
        if response.getheader(name) != value:
            raise WrongAnswer(f"GET /fields: {name} is {response.getheader(name)!r}")
    _expect("GET /fields", response, SMALL)


def own(port: int) -> None:
    """Check that each request of a soak gets the answer that is its own."""
    for mark in ("0-1", "1999-123456"):
        _expect("GET /own", _ask(port, "GET", f"/own?mark={mark}"), own_answer(mark))


def post(port: int) -> None:
    """Check the answer to a short POST, and that its content reaches the upstream."""
    _expect("POST /post", _ask(port, "POST", "/post", content(POST_LENGTH)), SMALL)
    _uploaded(_ask(port, "POST", "/upload?hash", content(POST_LENGTH)), POST_LENGTH)


def answer(port: int) -> None:
    """Check the answer of 100 KiB."""
    _expect("GET /answer", _ask(port, "GET", "/answer"), content(ANSWER_LENGTH))


def download(port: int) -> None:
    """Check the answer of 10 MiB."""
    _expect("GET /download", _ask(port, "GET", "/download"), content(TRANSFER_LENGTH))


def upload(port: int) -> None:
    """Check that 10 MiB with a length reach the upstream."""
    _uploaded(_ask(port, "POST", "/upload?hash", content(TRANSFER_LENGTH)), TRANSFER_LENGTH)


def upload_chunked(port: int) -> None:
    """Check that 10 MiB in chunks reach the upstream."""
    response = _ask(port, "POST", "/upload?hash", _pieces(content(TRANSFER_LENGTH)))
    _uploaded(response, TRANSFER_LENGTH)


def events(port: int) -> None:
    """Check that the first events of a stream come whole and in order."""
    response = _ask(port, "GET", "/events?pace=5000&phase_us=0")
    kind = response.getheader("Content-Type")
    if response.status != 200 or kind != "text/event-stream":
        raise WrongAnswer(f"GET /events: {response.status} {kind}")
    for number in range(EVENTS):
        octets = response.read(EVENT_LENGTH)
        if not octets.endswith(b"\n\n") or event_number(octets) != number:
            raise WrongAnswer(f"GET /events: event {number} came as {octets!r}")
    response.close()


def flood(port: int) -> None:
    """Check that a flood's events come whole and in order, several batches of them."""
    response = _ask(port, "GET", "/events?pace=flood&phase_us=0")
    if response.status != 200:
        raise WrongAnswer(f"GET /events: status {response.status}")
    for number in range(FLOOD_BATCHES * FLOOD_EVENTS):
        octets = response.read(EVENT_LENGTH)
        if octets != event(0, number % FLOOD_EVENTS) or octets.count(EVENT_MARK) != 1:
            raise WrongAnswer(f"GET /events: event {number} of a flood came as {octets!r}")
    response.close()


def _ask(
    port: int,
    method: str,
    target: str,
    octets: bytes | Iterator[bytes] | None = None,
    fields: dict[str, str] | None = None,
) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIME_LIMIT)
    chunked = octets is not None and not isinstance(octets, bytes)
    connection.putrequest(method, target, skip_accept_encoding=True)
    for name, value in (fields or {}).items():
        connection.putheader(name, value)
    connection.putheader("Connection", "close")
    if chunked:
        connection.putheader("Transfer-Encoding", "chunked")
    elif isinstance(octets, bytes):
        connection.putheader("Content-Length", str(len(octets)))
    connection.endheaders(octets, encode_chunked=chunked)
    return connection.getresponse()


def _expect(what: str, response: http.client.HTTPResponse, octets: bytes) -> None:
    received = response.read()
    if response.status != 200:
        raise WrongAnswer(f"{what}: status {response.status}")
    if hashlib.sha256(received).digest() != hashlib.sha256(octets).digest():
        raise WrongAnswer(f"{what}: {len(received)} octets, not the {len(octets)} that were sent")


def _uploaded(response: http.client.HTTPResponse, length: int) -> None:
    received = response.read()
    if response.status != 200:
        raise WrongAnswer(f"POST /upload: status {response.status}")
    expected = {"length": length, "sha256": hashlib.sha256(content(length)).hexdigest()}
    if json.loads(received) != expected:
        raise WrongAnswer(f"POST /upload: the upstream received {received!r}")


def _pieces(octets: bytes) -> Iterator[bytes]:
    for at in range(0, len(octets), UPLOAD_PIECE):
        yield octets[at : at + UPLOAD_PIECE]
