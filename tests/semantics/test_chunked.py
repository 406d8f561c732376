"""The chunked coding: read strictly, taken apart or given on as it came."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.errors import HeadTooLarge, Malformed
from pyproxy.semantics.chunked import (
    LARGE_CHUNK_BYTES,
    MAX_CHUNK_LINE_BYTES,
    MAX_TRAILER_BYTES,
    ChunkedReader,
    CodedReader,
    chunk,
    last_chunk,
)
from pyproxy.semantics.fields import Fields
from pyproxy.semantics.framing import CHUNKED, content_reader
from tests.semantics import strict
from tests.semantics.test_framing import Outcome, read

CHUNKED_CONTENT: tuple[tuple[bytes, bytes, Fields, bytes], ...] = (
    (b"0\r\n\r\n", b"", [], b""),
    (b"000\r\n\r\n", b"", [], b""),
    (b"5\r\nhello\r\n0\r\n\r\n", b"hello", [], b""),
    (b"005\r\nhello\r\n0\r\n\r\nGET /", b"hello", [], b"GET /"),
    (b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", b"0123456789" * 2, [], b""),
    (b"5;a=b\r\nhello\r\n0;x\r\n\r\n", b"hello", [], b""),
    (b'5;a="b;c"\r\nhello\r\n0\r\n\r\n', b"hello", [], b""),
    (b"5;\r\nhello\r\n0\r\n\r\n", b"hello", [], b""),
    (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n", [], b""),
    (b"5\r\n0\r\n\r\n\r\n0\r\n\r\n", b"0\r\n\r\n", [], b""),
    (b"0\r\nA: b\r\n\r\nx", b"", [(b"A", b"b")], b"x"),
    (b"1\r\na\r\n0\r\nA: b\r\na: \xff\r\n\r\n", b"a", [(b"A", b"b"), (b"a", b"\xff")], b""),
    # Which trailers may pass is the matter of forwarding; here they are read.
    (b"0\r\nContent-Length: 5\r\n\r\n", b"", [(b"Content-Length", b"5")], b""),
)

REFUSED_CHUNKED = (
    b"\r\n",
    b"x\r\n",
    b"g\r\n",
    b"5 \r\nhello\r\n",
    b" 5\r\nhello\r\n",
    b"5\t\r\nhello\r\n",
    b"5 ;a\r\nhello\r\n",
    b"-1\r\n",
    b"+5\r\nhello\r\n",
    b"0x5\r\nhello\r\n",
    b"5h\r\nhello\r\n",
    b"5,5\r\nhello\r\n",
    b"5_0\r\n",
    b";a=b\r\n",
    b"0000000000000000\r\n\r\n",
    b"10000000000000005\r\nhello\r\n",
    b"fffffffffffffffff\r\n",
    b"5\nhello\r\n0\r\n\r\n",
    b"5;a\nhello\r\n",
    b"5;a\rb\r\nhello\r\n",
    b"5;a\r\r\nhello\r\n",
    b"5\r\r\nhello\r\n",
    b"5;a\0b\r\nhello\r\n",
    b"5;\x7f\r\nhello\r\n",
    b"\xb2\r\n",
    b"5\r\nhellox\r\n",
    b"5\r\nhello0\r\n\r\n",
    b"5\r\nhello\n0\r\n\r\n",
    b"5\r\nhello\r0\r\n\r\n",
    b"5\r\nhello\r\n\r\n",
    b"0\r\nA : b\r\n\r\n",
    b"0\r\nA: b\r\n c\r\n\r\n",
    b"0\r\nA: b\nB: c\r\n\r\n",
    b"0\r\nA: b\rc\r\n\r\n",
    b"0\r\nA: b\0\r\n\r\n",
    b"0\r\n: b\r\n\r\n",
    b"0\r\nA\r\n\r\n",
    b"0\r\n A: b\r\n\r\n",
)

TOO_LARGE_TRAILERS = b"0\r\nA: " + b"a" * MAX_TRAILER_BYTES


class ChunkedTests(SynchronousTestCase):
    """The chunked coding."""

    def test_accepted(self) -> None:
        """Chunks, extensions and trailers are read alike however they are cut.  RFC 9112 7.1."""
        for octets, content, trailers, excess in CHUNKED_CONTENT:
            for parts in [[octets], *strict.splits(octets)]:
                outcome = read(ChunkedReader(), parts)
                self.assertEqual((content, True, trailers, excess), outcome, parts)

    def test_refused(self) -> None:
        """Sizes are digits alone, lines end in CRLF, a chunk has as many octets as it said.

        RFC 9112 7.1, 7.1.1, 7.1.2: each leniency here has been a smuggled request somewhere.
        """
        for octets in REFUSED_CHUNKED:
            for parts in [[octets], *strict.splits(octets)]:
                self.assertEqual("refused", read(ChunkedReader(), parts), parts)

    def test_refused_before_the_line_ends(self) -> None:
        """A chunk-size line that can become none is refused at once: nothing waits for its end."""
        for octets in (
            b"x",
            b" ",
            b"-",
            b"0x",
            b"5 ",
            b"5\n",
            b"5\rx",
            b"5;a\rb",
            b"5;\0",
            b"1" * 16,
        ):
            self.assertEqual("refused", read(ChunkedReader(), [octets]), octets)
        for octets in (b"", b"5", b"5\r", b"5;", b"5;a=b\r", b"f" * 15):
            self.assertEqual((b"", False, [], b""), read(ChunkedReader(), [octets]), octets)

    def test_cut_short(self) -> None:
        """Content whose last chunk or trailer section has not ended is not whole.  RFC 9112 8."""
        for octets, _, _, excess in CHUNKED_CONTENT:
            whole = octets.removesuffix(excess)
            for place in range(len(whole)):
                reader = ChunkedReader()
                reader.feed(whole[:place])
                self.assertFalse(reader.close(), whole[:place])
                reader.feed(whole[place:])
                self.assertTrue(reader.close(), whole)

    def test_content_comes_at_once(self) -> None:
        """Octets of a chunk are given on as they come, without waiting for its end."""
        reader = content_reader(CHUNKED)
        self.assertEqual(b"he", reader.feed(b"5\r\nhe"))
        self.assertEqual(b"ll", reader.feed(b"ll"))
        self.assertEqual(b"o", reader.feed(b"o"))
        self.assertEqual(b"", reader.feed(b"\r"))
        self.assertEqual(b"", reader.feed(b"\n"))
        self.assertEqual(b"ab", reader.feed(b"1\r\na\r\n1\r\nb\r\n"))

    def test_size_of_sixty_bits(self) -> None:
        """A chunk may be larger than memory: sizes of 15 digits are counted, not allocated."""
        reader = ChunkedReader()
        self.assertEqual(b"a", reader.feed(b"fffffffffffffff\r\na"))
        self.assertFalse(reader.close())

    def test_bound_of_chunk_line(self) -> None:
        """A chunk-size line of MAX_CHUNK_LINE_BYTES passes, a longer one is refused.

        RFC 9112 7.1.1: a recipient ought to limit the length of extensions.
        """
        line = b"1;" + b"a" * (MAX_CHUNK_LINE_BYTES - 2)
        octets = line + b"\r\na\r\n0\r\n\r\n"
        self.assertEqual((b"a", True, [], b""), read(ChunkedReader(), [octets]))
        self.assertEqual("refused", read(ChunkedReader(), [b"1;a" + octets[2:]]))
        self.assertEqual("refused", read(ChunkedReader(), [b"1;aa" + line]))

    def test_bound_of_chunk_line_in_packets(self) -> None:
        """The longest chunk-size line passes however the network cut it."""
        line = b"1;" + b"a" * (MAX_CHUNK_LINE_BYTES - 2)
        octets = line + b"\r\na\r\n0\r\n\r\n"
        for cut in range(MAX_CHUNK_LINE_BYTES - 1, MAX_CHUNK_LINE_BYTES + 3):
            outcome = read(ChunkedReader(), [octets[:cut], octets[cut:]])
            self.assertEqual((b"a", True, [], b""), outcome, cut)

    def test_bound_of_trailers(self) -> None:
        """A trailer section of MAX_TRAILER_BYTES passes, a longer one is too large.

        RFC 9110 6.5, 5.4.
        """
        section = b"A: " + b"a" * (MAX_TRAILER_BYTES - 5) + b"\r\n"
        whole = b"0\r\n" + section + b"\r\n"
        self.assertTrue(ChunkedReader().feed(whole) == b"")
        self.assertRaises(HeadTooLarge, ChunkedReader().feed, whole.replace(b"A: ", b"A: a"))
        self.assertRaises(HeadTooLarge, ChunkedReader().feed, TOO_LARGE_TRAILERS)
        reader = ChunkedReader()
        reader.feed(TOO_LARGE_TRAILERS[:100])
        self.assertRaises(HeadTooLarge, reader.feed, TOO_LARGE_TRAILERS[100:])

    def test_bound_of_trailers_in_packets(self) -> None:
        """The largest trailer section passes however the network cut it."""
        section = b"A: " + b"a" * (MAX_TRAILER_BYTES - 5) + b"\r\n"
        octets = b"0\r\n" + section + b"\r\n"
        for cut in range(len(octets) - 5, len(octets)):
            outcome = read(ChunkedReader(), [octets[:cut], octets[cut:]])
            self.assertNotEqual("refused", outcome, cut)

    def test_number_of_trailers(self) -> None:
        """The number of trailers is bounded as that of fields."""
        self.assertRaises(HeadTooLarge, ChunkedReader().feed, b"0\r\n" + b"A:b\r\n" * 300 + b"\r\n")

    def test_many_chunks_are_linear(self) -> None:
        """Many small chunks in one read cost no more than their octets."""
        octets = b"1\r\na\r\n" * (strict.CROWD // 6)
        taken = strict.cpu_seconds(ChunkedReader().feed, octets)
        self.assertLess(taken, strict.CPU_BUDGET)

    @given(
        st.lists(
            st.sampled_from(
                [b"1\r\na\r\n", b"2", b"0", b"\r\n", b"\r", b"\n", b"a", b";", b" ", b"0\r\n\r\n"]
            )
            | st.sampled_from([b"0\r\n", b"A: b\r\n", b"a:", b"3;x\r\n", b"\x80", b"\0", b"f"]),
            max_size=10,
        ).map(b"".join)
    )
    def test_agrees_with_strict_parser(self, octets: bytes) -> None:
        """What the strict parser reads is read the same, and nothing else is ever complete; every
        cut of the octets comes to the same end.  RFC 9112 7.1.
        """
        expected = strict.chunked(octets)
        whole = read(ChunkedReader(), [octets])
        if expected is not None:
            content, trailers, excess = expected
            self.assertEqual((content, True, trailers, excess), whole)
        else:
            self.assertFalse(whole != "refused" and whole[1], whole)
        for parts in strict.splits(octets):
            self.assertEqual(whole, read(ChunkedReader(), parts), parts)

    @given(
        st.lists(st.binary(min_size=1, max_size=20), max_size=5),
        st.lists(
            st.tuples(st.sampled_from([b"A", b"x-y"]), st.sampled_from([b"", b"b", b"\xff c"]))
        ),
    )
    def test_round_trip(self, pieces: list[bytes], trailers: Fields) -> None:
        """What is written in chunks is read back, with its trailers.  RFC 9112 7.1."""
        octets = b"".join(chunk(piece) for piece in pieces) + last_chunk(trailers)
        expected = (b"".join(pieces), True, trailers, b"next")
        for parts in [[octets + b"next"], *strict.splits(octets + b"next")]:
            self.assertEqual(expected, read(ChunkedReader(), parts))
        self.assertEqual((*expected[::2], b"next"), strict.chunked(octets + b"next"))

    def test_written_octets(self) -> None:
        """A chunk is its size, its octets and CRLFs; the last one has size 0.  RFC 9112 7.1."""
        self.assertEqual(b"a\r\n0123456789\r\n", chunk(b"0123456789"))
        self.assertEqual(b"0\r\n\r\n", last_chunk([]))
        self.assertEqual(b"0\r\nA: b\r\nA: c\r\n\r\n", last_chunk([(b"A", b"b"), (b"A", b"c")]))


class CodedTests(SynchronousTestCase):
    """The coding, given on as it came."""

    def coded(self, parts: list[bytes]) -> tuple[Outcome, int]:
        """Return what comes of reading parts that are accepted, and how much of it is coding."""
        reader = CodedReader()
        outcome = read(reader, parts)
        assert isinstance(outcome, tuple)
        return outcome, reader.overhead

    def test_given_on_as_it_came(self) -> None:
        """Size lines, zeros before a size and the borders of chunks stay; the last chunk does not.

        RFC 9112 7.1; invariant 1: the order and the borders of chunks are the sender's.
        """
        octets = b"5\r\nhello\r\n005\r\nworld\r\nA\r\n0123456789\r\n"
        for parts in [[octets + b"0\r\n\r\n"], *strict.splits(octets + b"0\r\n\r\n")]:
            outcome, overhead = self.coded(parts)
            self.assertEqual((octets, True, [], b""), outcome, parts)
            self.assertEqual(len(octets) - 20, overhead, parts)

    def test_same_verdict(self) -> None:
        """What one reader refuses the other refuses; trailers and what follows are the same."""
        for octets, content, trailers, excess in CHUNKED_CONTENT:
            for parts in [[octets], *strict.splits(octets)]:
                outcome, overhead = self.coded(parts)
                given, complete, seen, rest = outcome
                self.assertEqual((True, trailers, excess), (complete, seen, rest), parts)
                plain = strict.chunked(given + b"0\r\n\r\n")
                self.assertEqual((content, [], b""), plain, parts)
                self.assertEqual(len(given) - len(content), overhead, parts)
        for octets in REFUSED_CHUNKED:
            for parts in [[octets], *strict.splits(octets)]:
                self.assertEqual("refused", read(CodedReader(), parts), parts)

    def test_extensions_are_dropped(self) -> None:
        """Extensions belong to one hop.  RFC 9112 7.1.1."""
        octets = b"3\r\nabc\r\n2;a=b\r\nde\r\n1\r\nf\r\n0;x\r\n\r\n"
        for parts in [[octets], *strict.splits(octets)]:
            outcome, overhead = self.coded(parts)
            expected = b"3\r\nabc\r\n2\r\nde\r\n1\r\nf\r\n"
            self.assertEqual((expected, True, [], b""), outcome, parts)
            self.assertEqual(len(expected) - 6, overhead, parts)

    def test_octets_go_on_at_once(self) -> None:
        """A part of a chunk is given on as it comes; a part of a size line waits for its rest."""
        reader = content_reader(CHUNKED, coded=True)
        self.assertEqual(b"5\r\nhe", reader.feed(b"5\r\nhe"))
        self.assertEqual(b"ll", reader.feed(b"ll"))
        self.assertEqual(b"o", reader.feed(b"o"))
        self.assertEqual(b"", reader.feed(b"\r"))
        self.assertEqual(b"\r\n", reader.feed(b"\n1"))
        self.assertEqual(b"1\r\na", reader.feed(b"\r\na"))
        self.assertFalse(reader.close())

    def test_a_view_is_not_kept(self) -> None:
        """A view's place may be used again at once."""
        reader = CodedReader()
        octets = bytearray(b"5\r\nhello\r\n5")
        given = reader.feed(memoryview(octets))
        octets[:] = bytes(len(octets))
        self.assertEqual(b"5\r\nhello\r\n", bytes(given))
        self.assertEqual(b"5\r\nwo", bytes(reader.feed(b"\r\nwo")))

    def test_large_chunks(self) -> None:
        """Large chunks are followed in a view, with the same outcome wherever it is cut."""
        size = LARGE_CHUNK_BYTES
        row = b"".join(chunk(bytes([number]) * (size + number % 2)) for number in range(3))
        last = bytes(4096) + b"\r\n"
        expected = row + b"5\r\nsmall\r\n" + row + b"1000\r\n" + last
        octets = row + b"5\r\nsmall\r\n" + row + b"1000;x\r\n" + last + b"0\r\nA: b\r\n\r\n"
        borders = [at for at in range(1, len(octets)) if b"\r\n" in octets[at - 2 : at + 2]]
        for place in [*borders, size // 2, size + 3]:
            reader = CodedReader()
            given = bytes(reader.feed(memoryview(octets)[:place]))
            given += reader.feed(memoryview(octets)[place:])
            self.assertEqual(expected, given, place)
            self.assertEqual([(b"A", b"b")], reader.trailers)
            content = 6 * size + 2 + 5 + 4096
            self.assertEqual(len(expected) - content, reader.overhead, place)
        for wrong in (row[:-1] + b"x", b"g" + row[1:], row + b"\r\n"):
            self.assertRaises(Malformed, CodedReader().feed, memoryview(wrong))

    def test_chunks_of_one_size(self) -> None:
        """A row of chunks of one size is read as chunks: what ends wrongly is refused in it too."""
        row = b"c8\r\n" + bytes(200) + b"\r\n"
        for number in (1, 2, 50):
            outcome, overhead = self.coded([row * number + b"0\r\n\r\n"])
            self.assertEqual((row * number, True, [], b""), outcome)
            self.assertEqual(6 * number, overhead)
            for wrong in (row[:-2] + b"xx", b"c9" + row[2:], b"g" + row[1:]):
                for place in range(number):
                    octets = row * place + wrong + row * (number - place)
                    self.assertEqual("refused", read(CodedReader(), [octets]), place)
                    self.assertEqual("refused", read(ChunkedReader(), [octets]), place)

    def test_many_chunks_are_linear(self) -> None:
        """Many small chunks in one read cost no more than their octets."""
        for octets in (b"1\r\na\r\n", b"1\r\na\r\n2\r\nab\r\n"):
            crowd = octets * (strict.CROWD // len(octets))
            taken = strict.cpu_seconds(CodedReader().feed, crowd)
            self.assertLess(taken, strict.CPU_BUDGET)

    @given(
        st.lists(
            st.sampled_from(
                [b"1\r\na\r\n", b"1\r\na\r\n1\r\nb\r\n", b"2", b"0", b"\r\n", b"\r", b"\n"]
            )
            | st.sampled_from([b"a", b";", b" ", b"0\r\n\r\n", b"0\r\n", b"A: b\r\n", b"a:"])
            | st.sampled_from([b"3;x\r\n", b"\x80", b"\0", b"f", b"01\r\n"]),
            max_size=10,
        ).map(b"".join)
    )
    def test_agrees_with_the_other_reader(self, octets: bytes) -> None:
        """Both come to the same end, and to the same content, however the octets are cut."""
        for parts in [[octets], *strict.splits(octets)]:
            whole = read(ChunkedReader(), parts)
            reader = CodedReader()
            outcome = read(reader, parts)
            if isinstance(whole, str) or isinstance(outcome, str):
                self.assertEqual(whole, outcome, parts)
                continue
            given, *end = outcome
            self.assertEqual(list(whole[1:]), end, parts)
            self.assertEqual(len(given) - len(whole[0]), reader.overhead, parts)
            decoder = ChunkedReader()
            self.assertEqual(whole[0], decoder.feed(given), parts)
