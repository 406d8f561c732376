"""Where events end, wherever the stream is cut."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.semantics.event_ends import EventEnds
from tests.memory import splits
from tests.semantics import strict

STREAMS = st.lists(
    st.sampled_from([b"\r", b"\n", b"\r\n", b"data: x", b":", b"\xef\xbb\xbf", b"a\rb"]),
    max_size=12,
).map(b"".join)


def ends_of(*pieces: bytes) -> list[int]:
    """Return the ends that are found in a stream of these pieces."""
    ends = EventEnds()
    return [end for piece in pieces for end in ends.feed(piece)]


def lines_of(octets: bytes) -> list[tuple[bytes, int]]:
    """Return the lines of a stream, each with the place behind it, as the standard reads them."""
    lines, line, place = [], b"", 0
    while place < len(octets):
        octet = octets[place : place + 1]
        place += 1
        if octet not in (b"\r", b"\n"):
            line += octet
            continue
        if octet == b"\r" and octets[place : place + 1] == b"\n":
            place += 1
        lines.append((line, place))
        line = b""
    return lines


def expected(octets: bytes) -> list[int]:
    """Return the ends of a stream: the first blank line behind another line."""
    found, before = [], b""
    for line, place in lines_of(octets):
        # Of a CR at the end of all nobody knows yet if it is a line's whole end.
        half = place == len(octets) and octets.endswith(b"\r")
        if before and not line and not half:
            found.append(place)
        before = line
    return found


class EventEndsTests(SynchronousTestCase):
    """Ends are the places behind blank lines."""

    def test_line_ends(self) -> None:
        """Lines end with LF, CRLF or CR, mixed as they like.  WHATWG HTML 9.2.5."""
        for octets, ends in (
            (b"data: 1\n\ndata: 2\n\n", [9, 18]),
            (b"data: 1\r\n\r\ndata: 2\r\n\r\n", [11, 22]),
            (b"data: 1\r\rdata: 2\r\r", [9]),
            (b"a\r\n\nb\n\r\nc\r\n\rd", [4, 8, 12]),
            (b"a\n\r", []),
            (b"a\nb\r\nc\r", []),
            (b"", []),
        ):
            self.assertEqual(ends, ends_of(octets), octets)

    def test_comments(self) -> None:
        """A comment that keeps the connection alive is sent by itself too."""
        self.assertEqual([8, 17], ends_of(b": ping\n\ndata: 1\n\n"))

    def test_blank_lines(self) -> None:
        """Where several blank lines follow one another, the first ends the event."""
        self.assertEqual([3, 9], ends_of(b"a\n\n\n\n", b"\nb\n\n\n"))
        self.assertEqual([], ends_of(b"\n\n\r\n\n"))

    def test_every_cut(self) -> None:
        """The ends are the same wherever the octets are cut."""
        for octets in (
            b"\xef\xbb\xbfdata: 1\r\n\r\n\r\n:\n\n\r\rdata: \xe2\x82\xac\r\rid: 3\n\r\nend",
            b"a\n\n\nb\n\n\r\n\r\nc\r\r\r\nd\n\n",
        ):
            for pieces in splits(octets):
                self.assertEqual(expected(octets), ends_of(*pieces), pieces)

    @given(STREAMS)
    @example(b"a\n\n\nb\n\n")
    @example(b"a\r\r\n\nb")
    def test_as_the_standard(self, octets: bytes) -> None:
        """What is found is what a reader by the standard finds, at every cut."""
        for pieces in [(octets,), *splits(octets)] if octets else [(octets,)]:
            self.assertEqual(expected(octets), ends_of(*pieces))

    def test_views(self) -> None:
        """Octets may come as views, whose place is used again."""
        place = bytearray(b"data: 1\n")
        ends = EventEnds()
        self.assertEqual([], ends.feed(memoryview(place)))
        place[:] = b"!" * len(place)
        self.assertEqual([9], ends.feed(memoryview(b"\n!")[:1]))
        self.assertEqual(9, ends.count)

    def test_hostile_input_is_linear(self) -> None:
        """No octets make the search slow, whole or one by one."""
        for octets in (b"\r" * strict.CROWD, b"\n" * strict.CROWD, b"a\r\n" * (strict.CROWD // 3)):
            self.assertLess(strict.cpu_seconds(ends_of, octets), strict.CPU_BUDGET)
        drops = [b"\r"] * (strict.CROWD // 16)
        self.assertLess(strict.cpu_seconds(lambda one: ends_of(*one), drops), strict.CPU_BUDGET)
