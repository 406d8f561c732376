"""Rows as the stream tells them, without a stream."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pyproxy.terminal.known import MOST_ENDED, RATE_SPAN, Known
from tests.terminal.kit import NOW, moved, news, over, row


class KnownTests(SynchronousTestCase):
    """What is known after some news."""

    def setUp(self) -> None:
        """Know nothing."""
        self.known = Known()

    def test_rows(self) -> None:
        """Rows come, change, go and end."""
        self.known.take(news(rows=[row(1), row(2), row(3)]))
        self.known.take(news(moved={"1-1": moved(row(1, state="open", tokens=5))}))
        self.known.take(news(gone=["1-2"], ended=[over(3)]))
        self.assertEqual(["1-1"], list(self.known.open))
        self.assertEqual(
            ("open", 5), (self.known.open["1-1"]["state"], self.known.open["1-1"]["tokens"])
        )
        self.assertEqual(["1-3"], list(self.known.ended))
        self.assertFalse(self.known.ended["1-3"].is_open)

    def test_unknown(self) -> None:
        """News of a row that is not there are none."""
        self.known.take(news(moved={"1-9": moved(row())}, gone=["1-8"]))
        self.assertEqual({}, self.known.open)

    def test_reset(self) -> None:
        """All that was told before may be void."""
        self.known.take(news(rows=[row(1)], ended=[over(2)]))
        self.known.take(news(reset=True, rows=[row(4)]))
        self.assertEqual((["1-4"], []), (list(self.known.open), list(self.known.ended)))

    def test_bound(self) -> None:
        """Of what has ended the oldest is forgotten."""
        self.known.take(news(ended=[over(number) for number in range(MOST_ENDED + 3)]))
        self.assertEqual(MOST_ENDED, len(self.known.ended))
        self.assertNotIn("1-2", self.known.ended)

    def test_rates(self) -> None:
        """A rate is of the last seconds, and none once nothing comes."""
        self.known.take(news(rows=[row(1, events=100, sent=1000)]))
        one = self.known.open["1-1"]
        self.assertEqual((0.0, 0.0), one.rates(NOW))
        for step in range(1, 11):
            values = row(1, events=100 + step, sent=1000 + 20 * step)
            self.known.take(news(NOW + step / 5, moved={"1-1": moved(values)}))
        self.assertEqual((5.0, 100.0), one.rates(NOW + RATE_SPAN))
        self.assertEqual((0.0, 0.0), one.rates(NOW + 5 * RATE_SPAN))

    def test_young(self) -> None:
        """What a young row has was said since it began."""
        self.known.take(news(rows=[row(1, began=NOW - 1, events=7)]))
        self.assertEqual(7.0, self.known.open["1-1"].rates(NOW)[0])
        self.assertEqual(7, self.known.open["1-1"]["events"])
