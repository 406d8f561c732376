"""Errors in streams of events, wherever the stream is cut."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pyproxy.semantics.event_errors import EventErrors
from tests.memory import splits
from tests.semantics import strict

BEFORE = b'data: {"choices":[]}\n\n'

ERRORS = (
    b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error"}}\n\n',
    b'event:error\r\ndata: {"type":"error"}\r\n\r\n',
    b'event: response.failed\ndata: {"type":"response.failed"}\n\n',
    b'data: {"error": {"message":"x","code":500}}\n\n',
    b'data:{ "error" : "x"}\n\n',
    b'data: [{"error": {"code":503}}]\r\rdata: [DONE]\r\r',
)
"""As the providers document them."""

NONE = (
    b'data: {"id":1,"error":null,"text":"event: error"}\n\n',
    b'data: {"error":null}\n\n',
    b'data: {"choices":[{"delta":{"content":"\\nevent: error\\n"}}]}\n\n',
    b"event: errors\ndata: x\n\n",
    b"event: response.completed\ndata: {}\n\n",
    b': event: error\nid: 3\ndata: the "error": "x"\n\n',
    b"data: [DONE]\n\n",
    b"",
)


def has_error(*pieces: bytes) -> bool:
    """Tell whether an error is found in a stream of these pieces."""
    errors = EventErrors()
    return any(errors.feed(piece) for piece in pieces)


class EventErrorsTests(SynchronousTestCase):
    """What says that the answer has failed."""

    def test_errors(self) -> None:
        """Found first and behind others, wherever the octets are cut."""
        for octets in (*ERRORS, *(BEFORE + error for error in ERRORS)):
            self.assertTrue(has_error(octets), octets)
            for pieces in splits(octets):
                self.assertTrue(has_error(*pieces), pieces)

    def test_none(self) -> None:
        """What only looks like one is none."""
        for octets in NONE:
            for pieces in [(octets,), *splits(octets)]:
                self.assertFalse(has_error(*pieces), pieces)

    def test_views(self) -> None:
        """Octets may come as views, whose place is used again."""
        place = bytearray(b"event: er")
        errors = EventErrors()
        self.assertFalse(errors.feed(memoryview(place)))
        place[:] = b"!" * len(place)
        self.assertTrue(errors.feed(memoryview(b"ror\n")))

    def test_hostile_input_is_linear(self) -> None:
        """No octets make the search slow."""
        for one in (b"\n", b"\r\n", b"\ndata: {", b'\ndata: {        "error"', b"\nevent: "):
            octets = one * (strict.CROWD // len(one))
            self.assertLess(strict.cpu_seconds(has_error, octets), strict.CPU_BUDGET)
