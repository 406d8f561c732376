"""HTTP dates."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.semantics.http_dates import read_date, write_date
from tests.semantics import strict
from tests.semantics.kit import NOW

# The date of RFC 9110 5.6.7 in its three forms.
EXAMPLE = 784111777.0
FORMS = (
    b"Sun, 06 Nov 1994 08:49:37 GMT",
    b"Sunday, 06-Nov-94 08:49:37 GMT",
    b"Sun Nov  6 08:49:37 1994",
)

NO_DATES = (
    b"",
    b"0",
    b"-1",
    b"784111777",
    b"now",
    b"GMT",
    b"Sun, 06 Nov 1994 08:49:37",
    b"Sun, 06 Nov 1994 08:49:37 UTC",
    b"Sun, 06 Nov 1994 08:49:37 EST",
    b"Sun, 06 Nov 1994 08:49:37 +0000",
    b"Sun, 06 Nov 1994 08:49:37 GMT+1",
    b"Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
    b"Sun, 06 Nov 1994 08:49:37 GMT ",
    b" Sun, 06 Nov 1994 08:49:37 GMT",
    b"Sun,  06 Nov 1994 08:49:37 GMT",
    b"Sun 06 Nov 1994 08:49:37 GMT",
    b"06 Nov 1994 08:49:37 GMT",
    b"Sun, 6 Nov 1994 08:49:37 GMT",
    b"Sun, 06 Nov 94 08:49:37 GMT",
    b"Sun, 06 Nov 11994 08:49:37 GMT",
    b"Sun, 06 Nov -994 08:49:37 GMT",
    b"Sun, 06-Nov-1994 08:49:37 GMT",
    b"Sun, 06 November 1994 08:49:37 GMT",
    b"Son, 06 Nov 1994 08:49:37 GMT",
    b"Sun, 06 Nom 1994 08:49:37 GMT",
    b"Sun, 31 Feb 1994 08:49:37 GMT",
    b"Sun, 29 Feb 1995 08:49:37 GMT",
    b"Sun, 00 Nov 1994 08:49:37 GMT",
    b"Sun, 06 Nov 0000 08:49:37 GMT",
    b"Sun, 06 Nov 1994 24:00:00 GMT",
    b"Sun, 06 Nov 1994 08:60:37 GMT",
    b"Sun, 06 Nov 1994 08:49:61 GMT",
    b"Sun, 06 Nov 1994 08:49 GMT",
    b"Sun, 06 Nov 1994 8:49:37 GMT",
    b"Sunday, 06-Nov-1994 08:49:37 GMT",
    b"Sunday, 31-Feb-94 08:49:37 GMT",
    b"Sunday, 06 Nov 94 08:49:37 GMT",
    b"Sun Nov 6 08:49:37 1994",
    b"Sun Nov   6 08:49:37 1994",
    b"Sun Nov  6 08:49:37 1994 GMT",
    b"1994-11-06T08:49:37Z",
    b"Sun, \xd9\xa0\xd9\xa6 Nov 1994 08:49:37 GMT",
    b'"Sun, 06 Nov 1994 08:49:37 GMT"',
    b"Sun, 06 Nov 1994 08:49:37 GMT\n",
)


def at(*date: int) -> float:
    """Return the seconds of a date."""
    return datetime(*date, tzinfo=UTC).timestamp()  # type: ignore[misc,arg-type]


def damaged(form: bytes) -> st.SearchStrategy[bytes]:
    """Return a date in which something was replaced."""
    return st.builds(
        lambda place, octets: form[:place] + octets + form[place + len(octets) :],
        st.integers(0, len(form)),
        st.binary(max_size=4) | st.integers(0, 9999).map(lambda number: b"%d" % number),
    )


class ReadingTests(SynchronousTestCase):
    """Seconds of a date."""

    def test_forms(self) -> None:
        """A recipient takes all three forms, whatever the case.  RFC 9110 5.6.7, RFC 9111 4.2."""
        for form in FORMS:
            for value in (form, form.upper(), form.lower()):
                with self.subTest(value=value):
                    self.assertEqual(EXAMPLE, read_date(value, NOW))

    def test_no_dates(self) -> None:
        """What has another form, another zone, or names no day is no date.  RFC 9111 4.2."""
        for value in NO_DATES:
            with self.subTest(value=value):
                self.assertIsNone(read_date(value, NOW))

    def test_name_of_the_day(self) -> None:
        """Which day of the week it was does not count: senders are often wrong there."""
        self.assertEqual(EXAMPLE, read_date(b"Mon, 06 Nov 1994 08:49:37 GMT", NOW))

    def test_ends(self) -> None:
        """Leap seconds, leap days, the first and the last year."""
        for value, seconds in (
            (b"Sat, 31 Dec 2016 23:59:60 GMT", at(2017, 1, 1)),
            (b"Thu, 29 Feb 2024 00:00:00 GMT", at(2024, 2, 29)),
            (b"Mon, 01 Jan 0001 00:00:00 GMT", at(1, 1, 1)),
            (b"Fri, 31 Dec 9999 23:59:60 GMT", at(9999, 12, 31, 23, 59, 59) + 1),
            (b"Fri Dec 31 23:59:59 1999", at(1999, 12, 31, 23, 59, 59)),
        ):
            with self.subTest(value=value):
                self.assertEqual(seconds, read_date(value, NOW))

    def test_century(self) -> None:
        """A date that would be more than 50 years ahead is of the past.  RFC 9110 5.6.7."""
        now = at(2026, 6, 1)
        for value, year in (
            (b"Friday, 01-May-26 00:00:00 GMT", 2026),
            (b"Friday, 01-May-76 00:00:00 GMT", 2076),
            (b"Friday, 01-Jul-76 00:00:00 GMT", 1976),
            (b"Friday, 01-May-77 00:00:00 GMT", 1977),
            (b"Friday, 01-May-00 00:00:00 GMT", 2000),
        ):
            with self.subTest(value=value):
                month = 7 if b"Jul" in value else 5
                self.assertEqual(at(year, month, 1), read_date(value, now))

    @given(st.binary(max_size=60) | st.sampled_from(FORMS).flatmap(damaged))
    def test_whatever_comes(self, value: bytes) -> None:
        """Whatever stands there, it is a date or None."""
        self.assertIsInstance(read_date(value, NOW), float | None)

    def test_hostile_values_are_linear(self) -> None:
        """No value makes it slow."""
        for part in (b"Sun, ", b"0", b" ", b"Sun, 06 Nov 1994 08:49:37 GMT, "):
            value = part * (strict.CROWD // len(part))
            self.assertLess(strict.cpu_seconds(read_date, value, NOW), strict.CPU_BUDGET, part)


class WritingTests(SynchronousTestCase):
    """A date as it is sent."""

    def test_preferred_form(self) -> None:
        """Senders write the first form only.  RFC 9110 5.6.7."""
        self.assertEqual(FORMS[0], write_date(EXAMPLE))
        self.assertEqual(FORMS[0], write_date(EXAMPLE + 0.9))

    @given(st.integers(0, 2**35))
    def test_there_and_back(self, seconds: int) -> None:
        """What is written is read as it was."""
        self.assertEqual(seconds, read_date(write_date(seconds), NOW))
