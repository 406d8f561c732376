"""Errors in a stream of events: a model's answer has begun with 200, and then it fails.

Spec: the Messages API of Anthropic (``event: error``); OpenAI's Responses API (``error``,
``response.failed``), and as many serve its Chat Completions, ``{"error": …}`` as an event's data,
which the Gemini API of Google has too.
"""

from __future__ import annotations

import re

from pyproxy.semantics.fields import Octets

_error = re.compile(
    rb"[\r\n](?:event: ?(?:error|response\.failed)[\r\n]"
    rb'|data: ?[\[{][ \t]{0,8}(?:\{[ \t]{0,8})?"error"[ \t]{0,8}:[ \t]{0,8}["{])'
).search

_HELD = 63
"""Octets before the next one that may be the beginning of an error; the longest has fewer."""


class EventErrors:
    """Finds errors in a stream that comes in pieces, wherever it is cut."""

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        # The stream begins with a line.
        self._tail = b"\n"

    def feed(self, octets: Octets) -> bool:
        """Take octets; tell whether an error is known from them on."""
        text = self._tail + bytes(octets)
        self._tail = text[-_HELD:]
        return _error(text) is not None
