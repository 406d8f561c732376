"""What is known of a stored response."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pyproxy.semantics.stored import StoredResponse


class StoredTests(SynchronousTestCase):
    """A stored response."""

    def test_age(self) -> None:
        """It is told in whole seconds, and never less than 0.  RFC 9111 4.2.3, 5.1."""
        stored = StoredResponse(200, b"OK", (), 100.0, 160.0)
        for now, age in ((100.0, 0), (100.9, 0), (101.0, 1), (5000.5, 4900), (50.0, 0)):
            with self.subTest(now=now):
                self.assertEqual(age, stored.age(now))

    def test_validators(self) -> None:
        """An entity tag, or a date, even an odd one.  RFC 9110 8.8."""
        for etag, modified, has in (
            (None, None, False),
            (b'"a"', None, True),
            (None, b"x", True),
            (b'W/"a"', b"x", True),
        ):
            with self.subTest(etag=etag, modified=modified):
                stored = StoredResponse(200, b"OK", (), 0, 0, etag=etag, modified=modified)
                self.assertEqual(has, stored.has_validator)
