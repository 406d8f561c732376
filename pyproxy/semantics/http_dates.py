"""HTTP dates, in their three forms.  Spec: RFC 9110 5.6.7, RFC 9111 4.2."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.utils import formatdate

_MONTHS = (
    *(b"jan", b"feb", b"mar", b"apr", b"may", b"jun"),
    *(b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"),
)
_MONTH = rb"(" + b"|".join(_MONTHS) + rb")"
_TIME = rb"(\d\d):(\d\d):(\d\d)"
_DAY = rb"(?:mon|tue|wed|thu|fri|sat|sun)"
_LONG_DAY = rb"(?:mon|tues|wednes|thurs|fri|satur|sun)day"

_imf_fixdate = re.compile(
    _DAY + rb", (\d\d) " + _MONTH + rb" (\d{4}) " + _TIME + rb" gmt", re.I
).fullmatch
_rfc850_date = re.compile(
    _LONG_DAY + rb", (\d\d)-" + _MONTH + rb"-(\d\d) " + _TIME + rb" gmt", re.I
).fullmatch
_asctime_date = re.compile(
    _DAY + rb" " + _MONTH + rb" ([ \d]\d) " + _TIME + rb" (\d{4})", re.I
).fullmatch

MAX_AHEAD = 50 * 365.25 * 86400
"""Seconds; a date with a year of two digits that would be further ahead is a century older."""


def read_date(value: bytes, now: float) -> float | None:
    """Return a date in seconds of the epoch; None for what is no date in one of the three forms.

    Letters may be of either case, as RFC 9111 4.2 asks of a cache; with another zone than GMT it is
    no date.
    Args: now, which tells the century of a year of two digits.
    """
    if match := _imf_fixdate(value):
        day, month, year, *time = match.groups()
        return _seconds(int(year), month, day, time)
    if match := _asctime_date(value):
        month, day, *time, year = match.groups()
        return _seconds(int(year), month, day, time)
    if match := _rfc850_date(value):
        day, month, short, *time = match.groups()
        this_year = datetime.fromtimestamp(now, UTC).year
        number = this_year - this_year % 100 + int(short)
        date = _seconds(number, month, day, time)
        if date is not None and date - now > MAX_AHEAD:
            return _seconds(number - 100, month, day, time)
        return date
    return None


def _seconds(year: int, month: bytes, day: bytes, time: list[bytes]) -> float | None:
    """Return the seconds of a date, None when there is no such day or time."""
    hour, minute, second = (int(part) for part in time)
    number = _MONTHS.index(month.lower()) + 1
    try:
        # A leap second is a second after the one before.
        minutes = datetime(year, number, int(day), hour, minute, tzinfo=UTC)
    except ValueError:
        return None
    if second > 60:
        return None
    return (minutes - datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=second)).total_seconds()


def write_date(seconds: float) -> bytes:
    """Return a date as an IMF-fixdate."""
    return formatdate(int(seconds), usegmt=True).encode("ascii")
