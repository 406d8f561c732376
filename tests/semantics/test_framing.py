"""Where a message's content ends."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.errors import Malformed, UnknownCoding
from pyproxy.semantics.chunked import HELD_BACK_BYTES, LARGE_CHUNK_BYTES
from pyproxy.semantics.fields import Fields
from pyproxy.semantics.framing import (
    CHUNKED,
    NO_CONTENT,
    UNTIL_CLOSE,
    ContentReader,
    Framing,
    Kind,
    LengthReader,
    UntilCloseReader,
    content_reader,
    declares_content,
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

    def test_unknown_coding(self) -> None:
        """A coding that is not understood is told apart, for a 501; all else stays malformed.

        RFC 9112 6.1.
        """
        for codings, unknown in (
            ([b"gzip, chunked"], True),
            ([b"gzip"], True),
            ([b"identity"], True),
            ([b"xchunked"], True),
            ([b"chunkedx"], True),
            ([b'x-coding;a=b;c="d", Chunked'], True),
            ([b"gzip"], True),
            ([b"gzip", b"chunked"], True),
            ([b",gzip,,CHUNKED"], True),
            ([b"chunked, gzip"], False),
            ([b"chunked", b"identity"], False),
            ([b"gzip, chunked, chunked"], False),
            ([b"gzip, chunked;a=b"], False),
            ([b"chunked;a=b"], False),
            ([b"chunked,"], False),
            ([b"x chunked"], False),
            ([b'"gzip", chunked'], False),
            ([b"g\xfcip, chunked"], False),
            ([b","], False),
            ([b""], False),
        ):
            fields = [(CODING, coding) for coding in codings]
            error = strict.refusal(request, fields)
            self.assertIs(UnknownCoding if unknown else Malformed, type(error), codings)
            # What is wrong otherwise comes first: it leaves two readings.
            for wrong in (request, [*fields, (LENGTH, b"5")]), (request, fields, 0):
                self.assertIs(Malformed, type(strict.refusal(*wrong)), codings)

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
            excess = bytes(reader.excess) + b"".join(parts[number + 1 :])
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


class AwaitsMoreTests(SynchronousTestCase):
    """Whether a peer that sends no small segment before the last is acknowledged may be waiting."""

    LARGE = LARGE_CHUNK_BYTES
    LINE = b"%x\r\n" % LARGE_CHUNK_BYTES

    def after(self, reader: ContentReader, *parts: bytes) -> list[bool]:
        """Return what a reader says after each part."""
        said = []
        for part in parts:
            reader.feed(part)
            self.assertFalse(reader.complete)
            said.append(reader.awaits_more)
        return said

    def test_length(self) -> None:
        """Of a known length more is due until it is whole."""
        self.assertTrue(content_reader(Framing(Kind.LENGTH, 9)).awaits_more)
        self.assertEqual([True, True], self.after(LengthReader(9), b"abcd", b"efgh"))

    def test_what_can_be_held_back(self) -> None:
        """Of much that is due a peer's kernel sends all but what is left at the end."""
        much = bytes(HELD_BACK_BYTES)
        for coded in (False, True):
            line = b"%x\r\n" % (2 * HELD_BACK_BYTES)
            for reader, first in (
                (LengthReader(2 * HELD_BACK_BYTES), much),
                (content_reader(CHUNKED, coded), line + much),
            ):
                self.after(reader, first[:-1])
                self.assertEqual([False, True], self.after(reader, first[-1:], b"a"), coded)

    def test_chunks(self) -> None:
        """Inside a chunk, its line end or the trailer section more is due.

        Small whole chunks are events, behind which nothing is due; behind large ones there may be.
        """
        large, half = bytes(self.LARGE), bytes(self.LARGE // 2)
        event = b"5\r\nevent\r\n"
        for parts, expected in (
            ((event, event * 9), [False, False]),
            ((b"5\r\n", b"ev", b"ent", b"\r", b"\n"), [True, True, True, True, False]),
            ((event + b"5\r\nev", b"ent\r\n"), [True, False]),
            ((self.LINE + large + b"\r\n", event), [True, False]),
            ((self.LINE + half, half + b"\r\n"), [True, False]),
            ((event, b"0\r\n", b"X: y\r\n"), [False, True, True]),
        ):
            for coded in (False, True):
                reader = content_reader(CHUNKED, coded)
                self.assertFalse(reader.awaits_more)
                self.assertEqual(expected, self.after(reader, *parts), (coded, parts[0][:20]))

    def test_until_close(self) -> None:
        """Nobody knows whether more is due; behind much there may be."""
        reader = content_reader(UNTIL_CLOSE)
        self.assertFalse(reader.awaits_more)
        self.assertEqual([False, True, False], self.after(reader, b"a", bytes(self.LARGE), b"a"))


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
