"""twisted.web's Headers over wire fields."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from pyproxy.relay.headers import WireHeaders, fields_of

FIELDS = [(b"X-B", b"1"), (b"x-a", b"2"), (b"X-b", b"3"), (b"Set-Cookie", b"\xff")]


class WireHeadersTests(SynchronousTestCase):
    """Whoever asks in twisted.web's words gets a mapping; the wire's fields stay as they are."""

    def test_mapping(self) -> None:
        """The mapping knows no case and keeps duplicates in order."""
        headers = WireHeaders(list(FIELDS))
        self.assertEqual([b"1", b"3"], headers.getRawHeaders(b"x-B"))
        self.assertTrue(headers.hasHeader(b"SET-COOKIE"))
        self.assertIsNone(headers.getRawHeaders(b"x-c"))
        self.assertEqual(3, len(list(headers.getAllRawHeaders())))

    def test_fields_are_kept(self) -> None:
        """Reading, and changing, the mapping does not touch the fields."""
        headers = WireHeaders(list(FIELDS))
        headers.setRawHeaders(b"x-a", [b"changed"])
        self.assertEqual([b"changed"], headers.getRawHeaders(b"x-a"))
        self.assertEqual(FIELDS, headers.fields)

    def test_lazy(self) -> None:
        """No mapping is made unless somebody asks."""
        headers = WireHeaders(FIELDS)
        self.assertIs(FIELDS, fields_of(headers))
        self.assertIsNone(headers._mapping)

    def test_copy(self) -> None:
        """A copy is independent."""
        headers = WireHeaders(list(FIELDS))
        copy = headers.copy()
        copy.addRawHeader(b"X-C", b"4")
        fields_of(copy).append((b"X-D", b"5"))
        self.assertEqual(FIELDS, headers.fields)
        self.assertFalse(headers.hasHeader(b"x-c"))

    def test_ordinary_headers(self) -> None:
        """Headers that never stood on a wire become fields too."""
        headers = Headers({b"x-a": [b"1", b"2"]})
        headers.addRawHeader(b"etag", b"3")
        self.assertEqual([(b"X-A", b"1"), (b"X-A", b"2"), (b"ETag", b"3")], fields_of(headers))
