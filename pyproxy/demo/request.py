"""A request whose content is counted and hashed as it arrives, and of which only JSON is kept.

Stock ``twisted.web`` spools every content into memory or a temporary file; here neither happens.
"""

from __future__ import annotations

import hashlib
from io import BytesIO
from typing import TYPE_CHECKING

from twisted.web.http_headers import Headers
from twisted.web.server import Request

if TYPE_CHECKING:
    from twisted.web.http import HTTPChannel

CONTENT_LIMIT = 8 * 1024 * 1024
"""Octets of a JSON content that are kept; what exceeds them is counted and hashed only."""


class ReceivedFields(Headers):
    """The fields of a request, which also remember the order in which they came.

    The channel has already written each name in its usual case (``x-a`` is ``X-A`` here).
    """

    __slots__ = ("in_order",)

    def __init__(self) -> None:
        self.in_order: list[tuple[bytes, bytes]] = []
        super().__init__()

    def addRawHeader(self, name: str | bytes, value: str | bytes) -> None:
        """Add a field, and note its place."""
        super().addRawHeader(name, value)
        self.in_order.append((_octets(name), _octets(value)))


class DemoRequest(Request):
    """A request that keeps a count, a hash and at most ``CONTENT_LIMIT`` octets of its content.

    ``content`` stays empty, so that no form is parsed either.

    Attributes:
        fields: the fields in their order.
        content_length: octets of content received.
        kept: the content's beginning, if it is JSON; else empty.
    """

    def __init__(self, channel: HTTPChannel, queued: bool = False) -> None:
        Request.__init__(self, channel, queued)
        self.requestHeaders = self.fields = ReceivedFields()
        self.content_length = 0
        self.kept = bytearray()
        self._sha256 = hashlib.sha256()
        self._keeps = False

    @property
    def content_sha256(self) -> str:
        """The SHA-256 of the content received so far, in hexadecimal."""
        return self._sha256.hexdigest()

    @property
    def is_json(self) -> bool:
        """Whether the request says that its content is JSON."""
        media_type: bytes = self.getHeader(b"Content-Type") or b""
        return media_type.split(b";", 1)[0].strip().lower() == b"application/json"

    def gotLength(self, length: int | None) -> None:
        """Take the end of the head; nothing is spooled, whatever the length."""
        self.content = BytesIO()
        self._keeps = self.is_json

    def handleContentChunk(self, data: bytes) -> None:
        """Count and hash octets of the content."""
        self.content_length += len(data)
        self._sha256.update(data)
        if self._keeps:
            self.kept += data[: CONTENT_LIMIT - len(self.kept)]


def _octets(text: str | bytes) -> bytes:
    return text.encode("latin-1") if isinstance(text, str) else text
