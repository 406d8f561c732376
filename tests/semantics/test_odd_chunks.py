"""Chunks of responses that are odd, and are read in one way only."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.errors import Malformed
from pyproxy.semantics.chunked import MAX_CHUNK_LINE_BYTES, ChunkedReader, CodedReader
from pyproxy.semantics.fields import Fields
from pyproxy.semantics.framing import (
    CHUNKED,
    ContentReader,
    content_reader,
)
from pyproxy.semantics.odd_chunks import ODD_CHUNKS
from pyproxy.semantics.oddities import NOTHING_ODD, Oddity
from tests.semantics import strict

LINE = {Oddity.CHUNK_LINE}
END = b"0\r\n\r\n"
MENDED: tuple[tuple[bytes, bytes, Fields, set[Oddity]], ...] = (
    (b"2\r\nok\r\n" + END, b"2\r\nok\r\n", [], set()),
    (b"2;a=b\r\nok\r\n" + END, b"2\r\nok\r\n", [], set()),
    (b"2 \r\nok\r\n" + END, b"2\r\nok\r\n", [], LINE),
    (b"2\t  \r\nok\r\n" + END, b"2\r\nok\r\n", [], LINE),
    (b"2 ;a\r\nok\r\n" + END, b"2\r\nok\r\n", [], LINE),
    (b" 2\r\nok\r\n" + END, b"2\r\nok\r\n", [], LINE),
    (b"\t 02 \r\nok\r\n 0\r\n\r\n", b"2\r\nok\r\n", [], LINE),
    (b"2;\x01\x7f\r\nok\r\n" + END, b"2\r\nok\r\n", [], LINE),
    (b"0" * 30 + b"2\r\nok\r\n" + END, b"2\r\nok\r\n", [], LINE),
    (b"2\r\nok\r\n0 \r\n\r\n", b"2\r\nok\r\n", [], LINE),
    (b"2\r\nok\r\n" + b"0" * 30 + b"\r\n\r\n", b"2\r\nok\r\n", [], LINE),
    (b"1\r\na\r\n2 \r\nok\r\n1\r\nb\r\n" + END, b"1\r\na\r\n2\r\nok\r\n1\r\nb\r\n", [], LINE),
    (
        b"2\r\nok\r\n0\r\nA : b\r\n c\r\n\r\n",
        b"2\r\nok\r\n",
        [(b"A", b"b c")],
        {Oddity.BLANK_BEFORE_COLON, Oddity.FOLD},
    ),
    (b"2\r\nok\r\n0\r\nA: \x01\r\n\r\n", b"2\r\nok\r\n", [(b"A", b"\x01")], {Oddity.CONTROL}),
)
REFUSED = (
    b" \r\nok\r\n",
    b" ;a\r\nok\r\n",
    b"\x0b2\r\nok\r\n",
    b"2 x\r\nok\r\n",
    b"2,x\r\nok\r\n",
    b"2;\0\r\nok\r\n",
    b"2;\ra\r\nok\r\n",
    b"2\nok\r\n",
    b"2;a\nok\r\n",
    b"0x2\r\nok\r\n",
    b"+2\r\nok\r\n",
    b";a\r\nok\r\n",
    b"\r\nok\r\n",
    b"1" + b"0" * 15 + b"\r\nok",
    b"2\r\nok\n",
    b"2\r\nok \r\n",
    b"2\r\nok\r\n0\n\n",
    b"2\r\nok\r\n0\r\n\n",
    b"2\r\nok\r\n0\r\nA: b\n\r\n",
    b"2\r\nok\r\n0\r\nA: b\0\r\n\r\n",
    b"2\r\nok\r\n0\r\nA\r\n\r\n",
    b"2\r\nok\r\n0\r\n A: b\r\n\r\n",
    b"2 " + b" " * MAX_CHUNK_LINE_BYTES + b"\r\nok\r\n",
)


def odd_reader(coded: bool = False) -> ContentReader:
    """Return what reads the chunks of a response."""
    return content_reader(CHUNKED, coded, ODD_CHUNKS)


def read(reader: ContentReader, parts: list[bytes]) -> tuple[bytes, Fields, bytes] | str:
    """Return (what was given on, trailers, excess), or what else came of parts."""
    given_on = b""
    for number, part in enumerate(parts):
        try:
            given_on += bytes(reader.feed(part))
        except Malformed:
            return "refused"
        if reader.complete:
            return given_on, reader.trailers, bytes(reader.excess) + b"".join(parts[number + 1 :])
    return "not yet"


class OddChunksTests(SynchronousTestCase):
    """Blanks, zeros and controls that mean nothing to any reader are mended."""

    def test_mended(self) -> None:
        """Given on in the coding it is in the right form, taken out of it it is the content.

        RFC 9112 7.1, 7.1.1, 7.1.2.
        """
        for octets, coded, trailers, oddities in MENDED:
            for parts in strict.splits(octets + b"rest"):
                reader = odd_reader(coded=True)
                self.assertEqual((coded, trailers, b"rest"), read(reader, parts), parts)
                self.assertEqual(oddities, reader.oddities, parts)
                reader = odd_reader()
                content = strict.chunked(coded + END)
                assert content is not None
                self.assertEqual((content[0], trailers, b"rest"), read(reader, parts), parts)
                self.assertEqual(oddities, reader.oddities, parts)

    def test_overhead(self) -> None:
        """What is counted as the coding's is what was given on of it."""
        for octets, coded, _, _ in MENDED:
            reader = odd_reader(coded=True)
            read(reader, [octets])
            content = strict.chunked(coded + END)
            assert content is not None
            self.assertEqual(len(coded) - len(content[0]), reader.overhead, octets)

    def test_refused(self) -> None:
        """The rest is refused as in requests, however the octets are cut."""
        for octets in REFUSED:
            for coded in (False, True):
                for parts in strict.splits(octets):
                    outcome = read(odd_reader(coded), parts)
                    self.assertEqual("refused", outcome, parts)

    def test_requests_stay_strict(self) -> None:
        """None of this holds for requests.  RFC 9112 7.1."""
        for octets, _, _, oddities in MENDED:
            for coded in (False, True):
                reader = content_reader(CHUNKED, coded)
                outcome = read(reader, [octets])
                self.assertEqual(bool(oddities), outcome == "refused", octets)
                self.assertEqual(NOTHING_ODD, reader.oddities)

    @given(
        st.lists(
            st.sampled_from(
                [b"2", b"0", b"a", b" ", b";", b"\r\n", b"\n", b"ok", b"\x01", b"A:", b"\0"]
            ),
            max_size=12,
        ).map(b"".join),
        st.booleans(),
    )
    def test_agrees_with_the_strict_reader(self, octets: bytes, coded: bool) -> None:
        """What the strict reader takes is taken the same, and nothing of it is called odd."""
        strict_reader: ContentReader = CodedReader() if coded else ChunkedReader()
        expected = read(strict_reader, [octets])
        if isinstance(expected, tuple):
            reader = odd_reader(coded)
            self.assertEqual(expected, read(reader, [octets]))
            self.assertEqual(NOTHING_ODD, reader.oddities)

    def test_hostile_input_is_linear(self) -> None:
        """No line makes the reader slow."""
        for line in (b"0" * 4000 + b"x\r\n", b"2" + b" " * 4000 + b"x\r\n", b"0" * 4000):
            for coded in (False, True):
                taken = strict.cpu_seconds(read, odd_reader(coded), [line])
                self.assertLess(taken, strict.CPU_BUDGET)
