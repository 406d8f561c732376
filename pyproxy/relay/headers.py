"""twisted.web's ``Headers`` over fields that keep their order, case and duplicates.

The forwarding path reads ``fields``; whoever asks in twisted.web's or treq's words gets a mapping
that is made on first use only.
"""

from __future__ import annotations

from twisted.web.http_headers import Headers

from pyproxy.semantics.fields import Fields


class WireHeaders(Headers):
    """Headers made of wire fields.

    Attributes:
        fields: as they stood on the wire.  Changes made through ``Headers`` do not reach them.
    """

    __slots__ = ("_mapping", "fields")

    def __init__(self, fields: Fields) -> None:
        self.fields = fields
        self._mapping: dict[bytes, list[bytes]] | None = None

    @property
    def _rawHeaders(self) -> dict[bytes, list[bytes]]:  # type: ignore[override]
        if self._mapping is None:
            grouped = Headers()
            for name, value in self.fields:
                grouped.addRawHeader(name, value)
            self._mapping = grouped._rawHeaders
        return self._mapping

    def copy(self) -> Headers:
        """Return an independent copy."""
        return WireHeaders(list(self.fields))


def fields_of(headers: Headers) -> Fields:
    """Return headers as fields, in wire order where they have one."""
    if isinstance(headers, WireHeaders):
        return headers.fields
    return [(name, value) for name, lines in headers.getAllRawHeaders() for value in lines]
