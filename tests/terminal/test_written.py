"""How values are written."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pyproxy.terminal.written import cells, fitted, number, octets, plain, seconds


class WrittenTests(SynchronousTestCase):
    """Each kind of value."""

    def test_seconds(self) -> None:
        """A time has the unit that fits, and is never more than 60 of one."""
        for value, text in (
            (None, ""),
            (-1.0, "0 ms"),
            (0.0123, "12 ms"),
            (0.9999, "1.0 s"),
            (59.94, "59.9 s"),
            (59.99, "0 m 59 s"),
            (61.9, "1 m 1 s"),
            (3725.0, "1 h 2 m"),
        ):
            self.assertEqual(text, seconds(value), value)

    def test_octets(self) -> None:
        """So has an amount."""
        for value, text in (
            (None, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (20480, "20 KiB"),
            (5 * 1024**3, "5.0 GiB"),
            (5000 * 1024**3, "5000 GiB"),
        ):
            self.assertEqual(text, octets(value), value)

    def test_number(self) -> None:
        """Thousands are set off."""
        self.assertEqual(("", "1,234"), (number(None), number(1234)))

    def test_plain(self) -> None:
        """Orders to a terminal, and what turns the direction of text, are taken out."""
        self.assertEqual("a b", plain("a b"))
        for order in "\x1b\x9b\n\r\t\x7f\u202e\u2066":
            self.assertEqual("a\ufffdb", plain(f"a{order}b"), repr(order))

    def test_fitted(self) -> None:
        """Text takes as many cells as there are, wide and combined characters too."""
        for text in ("", "abc", "abcdefgh", "日本語日本語", "e\u0301" * 9, "a日" * 4):
            for width in range(9):
                self.assertEqual(width, cells(fitted(text, width)), (text, width))
                self.assertEqual(width, cells(fitted(text, width, right=True)))
        self.assertEqual("ab…", fitted("abcd", 3))
        self.assertEqual(" ab", fitted("ab", 3, right=True))
