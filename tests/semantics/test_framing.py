"""Where a message's content ends."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.errors import HeadTooLarge, Malformed
from pyproxy.semantics.fields import Fields
from pyproxy.semantics.framing import (
    CHUNKED,
    MAX_CHUNK_LINE_BYTES,
    MAX_TRAILER_BYTES,
    NO_CONTENT,
    UNTIL_CLOSE,
    ChunkedReader,
    ContentReader,
    Framing,
    Kind,
    LengthReader,
    UntilCloseReader,
    chunk,
    content_reader,
    declares_content,
    last_chunk,
    request_framing,
    response_framing,
)
from pyproxy.semantics.messages import RequestHead, ResponseHead
from tests.semantics import strict

LENGTH = b"Content-Length"
CODING = b"Transfer-Encoding"

AGREED: tuple[tuple[Fields, Framing | None], ...] = (
    ([], None),
    ([(b"Content-Type", b"x")], None),
    ([(LENGTH, b"0")], Framing(Kind.LENGTH, 0)),
    ([(LENGTH, b"5")], Framing(Kind.LENGTH, 5)),
    ([(LENGTH, b"005")], Framing(Kind.LENGTH, 5)),
    ([(b"content-LENGTH", b"5")], Framing(Kind.LENGTH, 5)),
    ([(LENGTH, b"999999999999999999")], Framing(Kind.LENGTH, 10**18 - 1)),
    ([(CODING, b"chunked")], CHUNKED),
    ([(CODING, b"Chunked")], CHUNKED),
    ([(b"transfer-encoding", b"CHUNKED")], CHUNKED),
    # Names of the same length, and near misses, are other fields.
    ([(b"content-longth", b"x"), (b"transfer-encodinG_", b"x")], None),
    ([(b"Content_Length", b"x"), (b"Transfer_Encoding", b"x")], None),
)

AMBIGUOUS: tuple[Fields, ...] = (
    [(LENGTH, b"5"), (CODING, b"chunked")],
    [(CODING, b"chunked"), (b"content-length", b"5")],
    [(CODING, b"identity"), (LENGTH, b"5")],
    [(CODING, b""), (LENGTH, b"5")],
    [(LENGTH, b"5"), (LENGTH, b"6")],
    [(LENGTH, b"5"), (b"CONTENT-LENGTH", b"5")],
    [(LENGTH, b"5, 5")],
    [(LENGTH, b"5,6")],
    [(LENGTH, b"")],
    [(LENGTH, b"+5")],
    [(LENGTH, b"-5")],
    [(LENGTH, b"-0")],
    [(LENGTH, b"0x5")],
    [(LENGTH, b"5.0")],
    [(LENGTH, b"5e1")],
    [(LENGTH, b"1_0")],
    [(LENGTH, b" 5")],
    [(LENGTH, b"5 ")],
    [(LENGTH, b"5 6")],
    [(LENGTH, b"5\n")],
    [(LENGTH, b"\x0b5")],
    [(LENGTH, b"five")],
    [(LENGTH, b"\xd9\xa5")],
    [(LENGTH, b"\xb2")],
    [(LENGTH, b"9" * 19)],
    [(LENGTH, b"18446744073709551621")],
    [(LENGTH, b"9" * 5000)],
    [(CODING, b"")],
    [(CODING, b"gzip")],
    [(CODING, b"identity")],
    [(CODING, b"chunked, chunked")],
    [(CODING, b"chunked,")],
    [(CODING, b",chunked")],
    [(CODING, b"gzip, chunked")],
    [(CODING, b"chunked, gzip")],
    [(CODING, b"chunked, identity")],
    [(CODING, b"xchunked")],
    [(CODING, b"chunkedx")],
    [(CODING, b"x chunked")],
    [(CODING, b"chunked;x")],
    [(CODING, b"chunked;q=0.5")],
    [(CODING, b'"chunked"')],
    [(CODING, b"\x0bchunked")],
    [(CODING, b"chunked\x0b")],
    [(CODING, b" chunked")],
    [(CODING, b"chunked\n")],
    [(CODING, b"chunke\xc4\x8f")],
    [(CODING, b"chunked"), (CODING, b"chunked")],
    [(CODING, b"gzip"), (CODING, b"chunked")],
    [(CODING, b"chunked"), (CODING, b"identity")],
)


def request(fields: Fields, minor_version: int = 1) -> Framing:
    """Return the framing of a POST with some fields."""
    return request_framing(RequestHead(b"POST", b"/", minor_version, fields))


def response(
    fields: Fields, status: int = 200, method: bytes = b"GET", minor_version: int = 1
) -> Framing:
    """Return the framing of a response with some fields."""
    return response_framing(ResponseHead(status, b"", minor_version, fields), method)


class HeadFramingTests(SynchronousTestCase):
    """How a head says where its content ends."""

    def test_agreed(self) -> None:
        """One Content-Length, one ``chunked``, or neither.  RFC 9112 6.3 (4, 6, 7, 8)."""
        for fields, framing in AGREED:
            self.assertEqual(framing or NO_CONTENT, request(fields), fields)
            self.assertEqual(framing or UNTIL_CLOSE, response(fields), fields)

    def test_ambiguous(self) -> None:
        """Whatever two parsers could read differently is refused.  RFC 9112 6.1, 6.3 (3, 4, 5)."""
        for fields in AMBIGUOUS:
            error = strict.refusal(request, fields)
            for _, value in fields:
                self.assertNotIn(repr(value), str(error))
            strict.refusal(response, fields)

    def test_declared_content(self) -> None:
        """A response may speak of content that is not due, and of none at all.  RFC 9110 8.6."""
        for fields, framing in AGREED:
            for status in (200, 204, 304):
                declared = declares_content(ResponseHead(status, b"", 1, fields))
                self.assertEqual(framing is not None and framing.has_content, declared, fields)

    def test_coding_in_old_version(self) -> None:
        """HTTP/1.0 knows no Transfer-Encoding; one in it is faulty framing.  RFC 9112 6.1."""
        fields = [(CODING, b"chunked")]
        strict.refusal(request, fields, 0)
        strict.refusal(response, fields, minor_version=0)

    def test_old_version(self) -> None:
        """A length counts in HTTP/1.0 as in HTTP/1.1.  RFC 9112 6.3 (6)."""
        self.assertEqual(Framing(Kind.LENGTH, 5), request([(LENGTH, b"5")], 0))
        self.assertEqual(UNTIL_CLOSE, response([], minor_version=0))

    def test_responses_without_content(self) -> None:
        """1xx, 204, 304 and the answer to HEAD end with their head, whatever their fields say.

        RFC 9112 6.3 (1).
        """
        for fields, _ in AGREED:
            for status in (100, 101, 103, 199, 204, 304):
                self.assertEqual(NO_CONTENT, response(fields, status), (status, fields))
            for status in (200, 206, 404, 500):
                self.assertEqual(NO_CONTENT, response(fields, status, b"HEAD"), (status, fields))

    def test_method_is_compared_with_case(self) -> None:
        """``head`` is not HEAD.  RFC 9110 9.1."""
        self.assertEqual(UNTIL_CLOSE, response([], method=b"head"))

    def test_ambiguous_response_without_content(self) -> None:
        """Ambiguous fields are refused also where no content follows: the connection is reused."""
        for fields in AMBIGUOUS:
            strict.refusal(response, fields, 304)
            strict.refusal(response, fields, 200, b"HEAD")

    @given(st.lists(st.sampled_from([*b"0159+-x_,. \t\n\x0b\xb2"]), max_size=22).map(bytes))
    @example(b"1" * 18)
    def test_length_agrees_with_strict_parser(self, value: bytes) -> None:
        """A length is 1*DIGIT within bounds, and nothing else is.  RFC 9110 8.6."""
        expected = strict.content_length(value)
        if expected is None:
            strict.refusal(request, [(LENGTH, value)])
        else:
            self.assertEqual(Framing(Kind.LENGTH, expected), request([(LENGTH, value)]))


Outcome = tuple[bytes, bool, Fields, bytes]


def read(reader: ContentReader, parts: list[bytes]) -> Outcome | str:
    """Return (content, whether complete, trailers, excess), or that it was refused."""
    content = b""
    for number, part in enumerate(parts):
        try:
            content += reader.feed(part)
        except Malformed:
            return "refused"
        if reader.complete:
            excess = reader.excess + b"".join(parts[number + 1 :])
            return content, True, reader.trailers, excess
    return content, False, [], b""


class LengthTests(SynchronousTestCase):
    """Content of a known length."""

    def test_split_anywhere(self) -> None:
        """However the octets are cut, the content is the same.  RFC 9112 6.2."""
        octets = b"abcdefgh"
        for length in (1, 5, 8):
            for parts in strict.splits(octets):
                outcome = read(LengthReader(length), parts)
                self.assertEqual((octets[:length], True, [], octets[length:]), outcome, parts)

    def test_too_short(self) -> None:
        """Content that ends before its length is not whole.  RFC 9112 8."""
        reader = LengthReader(5)
        self.assertEqual(b"abcd", reader.feed(b"abcd"))
        self.assertFalse(reader.close())
        self.assertEqual(b"e", reader.feed(b"e"))
        self.assertTrue(reader.close())

    def test_nothing(self) -> None:
        """Content of no octets is complete from the beginning; what follows is not its own."""
        reader = content_reader(Framing(Kind.LENGTH, 0))
        self.assertTrue(reader.complete)
        self.assertTrue(reader.close())
        self.assertEqual(b"", reader.feed(b"GET"))
        self.assertEqual(b"GET", reader.excess)

    def test_reader_of_no_content(self) -> None:
        """A message without content is read as one of length 0."""
        self.assertTrue(content_reader(NO_CONTENT).complete)


class UntilCloseTests(SynchronousTestCase):
    """Content that ends with its connection."""

    def test_everything(self) -> None:
        """All octets are content, and the end of the connection is its end.  RFC 9112 6.3 (8)."""
        reader = content_reader(UNTIL_CLOSE)
        self.assertIsInstance(reader, UntilCloseReader)
        self.assertEqual(b"a\r\n", reader.feed(b"a\r\n"))
        self.assertFalse(reader.complete)
        self.assertTrue(reader.close())
        self.assertTrue(reader.complete)


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
