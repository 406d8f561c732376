"""Records of a worker's log, as octets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.workers.records import LEVELS, READY, Record, RecordReader, number_of

TRACEBACK = "it failed\nTraceback (most recent call last):\n  File \"x\", line 1\nKeyError: 'ü'\n"


class RecordTests(SynchronousTestCase):
    """What goes in comes out, however the pipe cuts it."""

    def test_every_cut(self) -> None:
        """Cut in two at every octet, and octet by octet: each record whole and once."""
        records = [
            Record(1.5, 1, "pyproxy.access", "GET /"),
            Record(2.0, READY),
            Record(2.5, 4, "pyproxy", TRACEBACK),
        ]
        octets = b"".join(record.octets() for record in records)
        for place in range(len(octets) + 1):
            reader = RecordReader()
            read = [*reader.feed(octets[:place]), *reader.feed(octets[place:])]
            self.assertEqual(records, read)
        reader = RecordReader()
        read = [record for at in range(len(octets)) for record in reader.feed(octets[at : at + 1])]
        self.assertEqual(records, read)

    @given(st.text(), st.text(max_size=100), st.integers(0, 4))
    def test_any_text(self, text: str, namespace: str, level: int) -> None:
        """Text of any kind; what is no Unicode text is shown by its numbers."""
        (read,) = RecordReader().feed(Record(0.0, level, namespace, text).octets())
        self.assertEqual(level, read.level)
        expected = text.encode("utf-8", "backslashreplace").decode("utf-8")
        self.assertEqual(expected, read.text)

    def test_levels(self) -> None:
        """Every level of twisted.logger has a number; what is none is information."""
        for level in LogLevel.iterconstants():
            self.assertIs(level, LEVELS[number_of(level)])
        self.assertIs(LogLevel.info, LEVELS[number_of(None)])
