"""Heads of responses that are odd, and are read in one way only."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.errors import HeadTooLarge, Malformed
from pyproxy.semantics.fields import MAX_FIELDS, Fields
from pyproxy.semantics.forwarding import connection_options
from pyproxy.semantics.framing import Framing, Kind, response_framing
from pyproxy.semantics.messages import MAX_HEAD_BYTES, ResponseHead, parse_response_head
from pyproxy.semantics.odd_heads import OddHeadReader, mend, mended_section
from pyproxy.semantics.oddities import Oddity
from tests.semantics import strict
from tests.semantics.test_fields import near_sections

OK = b"HTTP/1.1 200 OK\r\n"
END = b"\r\n"

MENDED: tuple[tuple[bytes, tuple[int, bytes, int, Fields], set[Oddity]], ...] = (
    (OK + END, (200, b"OK", 1, []), set()),
    (b"HTTP/1.0 200\r\n\r\n", (200, b"", 0, []), set()),
    (b"HTTP/1.1  200 \t OK\r\n\r\n", (200, b"OK", 1, []), {Oddity.STATUS_LINE}),
    (b"HTTP/1.1\t200\r\n\r\n", (200, b"", 1, []), {Oddity.STATUS_LINE}),
    (b"HTTP/1.1 200\tOK\r\n\r\n", (200, b"OK", 1, []), {Oddity.STATUS_LINE}),
    (b"HTTP/1.9 200 OK\r\n\r\n", (200, b"OK", 1, []), {Oddity.VERSION}),
    (b"HTTP/2.0 200 OK\r\n\r\n", (200, b"OK", 1, []), {Oddity.VERSION}),
    (b"HTTP/0.9 200 OK\r\n\r\n", (200, b"OK", 0, []), {Oddity.VERSION}),
    (b"HTTP/1.1 200 O\x01\r\n\r\n", (200, b"O\x01", 1, []), {Oddity.CONTROL}),
    (b"HTTP/1.1 200 OK\nA: b\n\n", (200, b"OK", 1, [(b"A", b"b")]), {Oddity.BARE_LF}),
    (b"HTTP/1.1 200 OK\r\nA: b\n\r\n", (200, b"OK", 1, [(b"A", b"b")]), {Oddity.BARE_LF}),
    (b"HTTP/1.1 200 OK\r\n\n", (200, b"OK", 1, []), {Oddity.BARE_LF}),
    (OK + b"A: b\r\n c\r\n\td \r\n\r\n", (200, b"OK", 1, [(b"A", b"b c d")]), {Oddity.FOLD}),
    (OK + b"A:\r\n b\r\n\r\n", (200, b"OK", 1, [(b"A", b"b")]), {Oddity.FOLD}),
    (OK + b"A: b\r\n  \r\n\r\n", (200, b"OK", 1, [(b"A", b"b")]), {Oddity.FOLD}),
    (OK + b"A \t: b\r\n\r\n", (200, b"OK", 1, [(b"A", b"b")]), {Oddity.BLANK_BEFORE_COLON}),
    (OK + b"A: \x01\x7f\r\n\r\n", (200, b"OK", 1, [(b"A", b"\x01\x7f")]), {Oddity.CONTROL}),
    (
        b"HTTP/1.1  200 OK\nA : \x01\n b\n\n",
        (200, b"OK", 1, [(b"A", b"\x01 b")]),
        {
            Oddity.STATUS_LINE,
            Oddity.BARE_LF,
            Oddity.BLANK_BEFORE_COLON,
            Oddity.FOLD,
            Oddity.CONTROL,
        },
    ),
)

REFUSED = (
    b"\r\nHTTP/1.1 200 OK\r\n\r\n",
    b"\nHTTP/1.1 200 OK\n\n",
    b" HTTP/1.1 200 OK\r\n\r\n",
    b"http/1.1 200 OK\r\n\r\n",
    b"ICY 200 OK\r\n\r\n",
    b"HTTP/3.0 200 OK\r\n\r\n",
    b"HTTP/1 200 OK\r\n\r\n",
    b"HTTP/1.10 200 OK\r\n\r\n",
    b"HTTP/1.1 099 OK\r\n\r\n",
    b"HTTP/1.1 2000 OK\r\n\r\n",
    b"HTTP/1.1 20 OK\r\n\r\n",
    b"HTTP/1.1 200OK\r\n\r\n",
    b"HTTP/1.1\x0b200 OK\r\n\r\n",
    b"HTTP/1.1 200 O\0\r\n\r\n",
    b"HTTP/1.1 200 O\rK\r\n\r\n",
    OK + b"A: b\r\r\n\r\n",
    OK + b"A: b\rc\r\n\r\n",
    OK + b"A: \0\r\n\r\n",
    OK + b" A: b\r\n\r\n",
    OK + b"A\r\n\r\n",
    OK + b": b\r\n\r\n",
    OK + b"A B: c\r\n\r\n",
    OK + b"A(b): c\r\n\r\n",
    OK + b"A\x01: c\r\n\r\n",
    OK + b"A\xe9: c\r\n\r\n",
    OK + b"Content-Length : 2\r\n\r\n",
    OK + b"transfer-encoding\t: chunked\r\n\r\n",
    OK + b"Content-Length:\r\n 2\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\n ,gzip\r\n\r\n",
)

Facts = tuple[int, bytes, int, Fields]


def read(parts: list[bytes]) -> tuple[Facts, bytes, set[Oddity]] | str:
    """Return what a head says, what follows it and what was odd; or what else came of parts."""
    reader = OddHeadReader()
    for number, part in enumerate(parts):
        try:
            found = reader.feed(part)
        except Malformed:
            return "refused"
        if found is not None:
            head, rest = found
            facts = (head.status, head.reason, head.minor_version, head.fields)
            return facts, rest + b"".join(parts[number + 1 :]), reader.oddities
    return "not yet"


class OddHeadReaderTests(SynchronousTestCase):
    """What is read in one way only is mended, and the rest refused."""

    def test_mended(self) -> None:
        """Each oddity is mended and named, however the octets are cut.  RFC 9112 2.2, 4, 5."""
        for octets, facts, oddities in MENDED:
            for parts in strict.splits(octets + b"rest"):
                self.assertEqual((facts, b"rest", oddities), read(parts), parts)

    def test_refused(self) -> None:
        """Whatever the rest, some things nobody may guess at, however the octets are cut."""
        for octets in REFUSED:
            for parts in strict.splits(octets):
                self.assertEqual("refused", read(parts), parts)

    def test_not_yet(self) -> None:
        """A head that may still come is waited for."""
        for octets in (
            b"",
            b"HT",
            OK,
            OK + b"A: b\r",
            OK + b"A: b\r\n c\r\n",
            b"HTTP/1.1 200 OK\n",
        ):
            self.assertEqual("not yet", read([octets]), octets)

    def test_bounds(self) -> None:
        """A head, and the number of its fields, are bounded as in the right form."""
        for octets in (
            OK + b"A: " + b"x" * MAX_HEAD_BYTES,
            OK + b"A: " + b"x" * MAX_HEAD_BYTES + b"\n\n",
            OK + b"A:b\n" * (MAX_FIELDS + 1) + b"\n",
        ):
            self.assertRaises(HeadTooLarge, OddHeadReader().feed, octets)
        whole = OK + b"A:b\n" * MAX_FIELDS + b"\n"
        self.assertIsNotNone(OddHeadReader().feed(whole))

    def test_next_head(self) -> None:
        """Heads are read one after the other: interim ones may be odd too."""
        reader = OddHeadReader()
        found = reader.feed(b"HTTP/1.1 103 A\n\nHTTP/1.1 200 B\r")
        assert found is not None
        self.assertEqual((103, b"HTTP/1.1 200 B\r"), (found[0].status, found[1]))
        self.assertIsNone(reader.feed(found[1]))
        found = reader.feed(b"\n\r\nok")
        assert found is not None
        self.assertEqual((200, b"ok"), (found[0].status, found[1]))

    @given(st.sampled_from([b"HTTP/1.1 200 OK", b"HTTP/1.0 204 ", b"HTTP/1.1 404"]), near_sections)
    def test_agrees_where_nothing_is_odd(self, line: bytes, section: bytes) -> None:
        """What the strict rules accept is read the same here, and nothing of it is called odd."""
        octets = line + b"\r\n" + section
        try:
            head = parse_response_head(octets)
        except Malformed:
            return
        facts = (head.status, head.reason, head.minor_version, head.fields)
        self.assertEqual((facts, b"", set()), read([octets + b"\r\n"]))

    @given(st.lists(st.sampled_from([b"A", b":", b" ", b"\t", b"b", b"\r\n", b"\n", b"\x01"])))
    @example([b"A", b":", b"\n", b" ", b"\n"])
    def test_never_twice(self, parts: list[bytes]) -> None:
        """What was mended is in the right form but for control characters, which stay."""
        octets = OK + b"X: y\r\n" + b"".join(parts) + b"\r\n\r\n"
        outcome = read([octets])
        if isinstance(outcome, str):
            return
        for name, value in outcome[0][3]:
            plain = value.replace(b"\x01", b"!")
            self.assertEqual([(name, plain)], strict.section(name + b": " + plain + b"\r\n"))

    def test_hostile_input_is_linear(self) -> None:
        """No head makes the reader slow."""
        for octets in (
            OK + b"A: b\r\n" + b" c\r\n" * (strict.CROWD // 4),
            OK + b"A" + b" " * strict.CROWD + b": b\n\n",
            b"HTTP/1.1 200" + b" " * strict.CROWD + b"\n\n",
        ):
            taken = strict.cpu_seconds(read, [octets])
            self.assertLess(taken, strict.CPU_BUDGET)


class SectionTests(SynchronousTestCase):
    """A trailer section."""

    def test_line_ends(self) -> None:
        """Its lines end in CRLF alone; NUL has no place in it."""
        for octets in (b"A: b\nC: d\r\n", b"A: b\rC: d\r\n", b"A: b\0\r\n"):
            strict.refusal(mended_section, octets, set())

    def test_mended(self) -> None:
        """Otherwise it is mended as a head is.  RFC 9112 5.1, 5.2, 7.1.2."""
        oddities: set[Oddity] = set()
        self.assertEqual([(b"A", b"b c")], mended_section(b"A : b\r\n c\r\n", oddities))
        self.assertEqual({Oddity.BLANK_BEFORE_COLON, Oddity.FOLD}, oddities)


LENGTH, CODING, OPTIONS = b"Content-Length", b"Transfer-Encoding", b"Connection"
TWO = Framing(Kind.LENGTH, 2)
CHUNKED = Framing(Kind.CHUNKED)
CLOSE = Framing(Kind.UNTIL_CLOSE)
ODD_FRAMING: tuple[tuple[Fields, Framing, Fields, set[Oddity]], ...] = (
    (
        [(b"A", b"b"), (LENGTH, b"3"), (CODING, b"chunked"), (b"C", b"d")],
        CHUNKED,
        [(b"A", b"b"), (CODING, b"chunked"), (b"C", b"d")],
        {Oddity.BOTH_LENGTHS},
    ),
    (
        [(LENGTH, b"3"), (LENGTH, b"3"), (CODING, b"Chunked")],
        CHUNKED,
        [(CODING, b"chunked")],
        {Oddity.BOTH_LENGTHS, Oddity.SAME_LENGTHS},
    ),
    ([(LENGTH, b"2, 2")], TWO, [(LENGTH, b"2")], {Oddity.SAME_LENGTHS}),
    (
        [(LENGTH, b"2"), (b"A", b"b"), (b"content-length", b"02,2")],
        TWO,
        [(LENGTH, b"2"), (b"A", b"b")],
        {Oddity.SAME_LENGTHS},
    ),
    ([(LENGTH, b"0" * 5000 + b"2")], TWO, [(LENGTH, b"2")], {Oddity.SAME_LENGTHS}),
    ([(LENGTH, b"0, 00")], Framing(Kind.LENGTH, 0), [(LENGTH, b"0")], {Oddity.SAME_LENGTHS}),
    ([(CODING, b"identity")], CLOSE, [], {Oddity.IDENTITY}),
    ([(CODING, b"Identity, identity")], CLOSE, [], {Oddity.IDENTITY}),
    ([(CODING, b"")], CLOSE, [], {Oddity.IDENTITY}),
    ([(CODING, b"identity"), (LENGTH, b"2")], TWO, [(LENGTH, b"2")], {Oddity.IDENTITY}),
    (
        [(CODING, b"identity, chunked")],
        CHUNKED,
        [(CODING, b"chunked")],
        {Oddity.CHUNKED_AGAIN},
    ),
    ([(CODING, b"chunked, CHUNKED")], CHUNKED, [(CODING, b"chunked")], {Oddity.CHUNKED_AGAIN}),
    (
        [(CODING, b"chunked"), (CODING, b"chunked"), (LENGTH, b"2")],
        CHUNKED,
        [(CODING, b"chunked")],
        {Oddity.CHUNKED_AGAIN, Oddity.BOTH_LENGTHS},
    ),
    ([(OPTIONS, b"a b, close")], CLOSE, [(OPTIONS, b"close")], {Oddity.CONNECTION}),
    (
        [(OPTIONS, b'"x", Content-Length, x'), (LENGTH, b"2")],
        TWO,
        [(OPTIONS, b"x"), (LENGTH, b"2")],
        {Oddity.CONNECTION},
    ),
    (
        [(OPTIONS, b"close"), (LENGTH, b"2, 2")],
        TWO,
        [(OPTIONS, b"close"), (LENGTH, b"2")],
        {Oddity.SAME_LENGTHS},
    ),
)
STAYS_REFUSED: tuple[Fields, ...] = (
    [(LENGTH, b"2"), (LENGTH, b"3")],
    [(LENGTH, b"2, 3")],
    [(LENGTH, b"2,")],
    [(LENGTH, b",2")],
    [(LENGTH, b"")],
    [(LENGTH, b""), (LENGTH, b"2")],
    [(LENGTH, b"+2")],
    [(LENGTH, b"2;x")],
    [(LENGTH, b"2 2")],
    [(LENGTH, b"0x2")],
    [(LENGTH, b"1" * 19)],
    [(LENGTH, b"\x0b2")],
    [(LENGTH, b"2"), (LENGTH, b"3"), (CODING, b"chunked")],
    [(LENGTH, b"x"), (CODING, b"chunked")],
    [(LENGTH, b"x"), (CODING, b"identity")],
    [(CODING, b"gzip")],
    [(CODING, b"gzip, chunked")],
    [(CODING, b"chunked, gzip")],
    [(CODING, b"chunked, identity")],
    [(CODING, b"chunked"), (CODING, b"identity")],
    [(CODING, b"chunked,")],
    [(CODING, b", chunked")],
    [(CODING, b""), (CODING, b"chunked")],
    [(CODING, b"xchunked")],
    [(CODING, b"chunked;q=1")],
    [(CODING, b'"chunked"')],
    [(CODING, b"\x0bchunked")],
)


def head_of(fields: Fields, status: int = 200, minor_version: int = 1) -> ResponseHead:
    """Return a response's head."""
    return ResponseHead(status, b"", minor_version, list(fields))


class MendTests(SynchronousTestCase):
    """Framing and connection options in the right form."""

    def test_mended(self) -> None:
        """What is mended is read strictly afterwards; other fields stay where they were."""
        for fields, framing, expected, oddities in ODD_FRAMING:
            head, found = mend(head_of(fields), b"GET")
            self.assertEqual((expected, oddities), (head.fields, found), fields)
            self.assertEqual(framing, response_framing(head, b"GET"), fields)
            connection_options(head)

    def test_refused(self) -> None:
        """Lengths that differ or are none, and unknown codings, stay refused.  RFC 9112 6.3."""
        for fields in STAYS_REFUSED:
            error = strict.refusal(mend, head_of(fields), b"GET")
            for _, value in fields:
                self.assertNotIn(repr(value), str(error))

    def test_old_version(self) -> None:
        """Chunks in HTTP/1.0 are read in two ways; ``identity`` in one.  RFC 9112 6.1."""
        for fields in ([(CODING, b"chunked")], [(CODING, b"chunked, chunked")]):
            strict.refusal(mend, head_of(fields, minor_version=0), b"GET")
        head, oddities = mend(head_of([(CODING, b"identity")], minor_version=0), b"GET")
        self.assertEqual(([], {Oddity.IDENTITY}), (head.fields, oddities))

    def test_no_content(self) -> None:
        """Where no content is due a coding has nothing to code; lengths count.  RFC 9112 6.3."""
        for status, method in ((204, b"GET"), (304, b"GET"), (200, b"HEAD"), (150, b"GET")):
            for coding in (b"gzip", b"chunked, gzip", b"chunked,"):
                head, oddities = mend(head_of([(CODING, coding), (LENGTH, b"2")], status), method)
                self.assertEqual([(LENGTH, b"2")], head.fields)
                self.assertEqual({Oddity.CODING_OF_NOTHING}, oddities)
            fields = [(LENGTH, b"2"), (LENGTH, b"3")]
            strict.refusal(mend, head_of(fields, status), method)
            head, oddities = mend(head_of([(CODING, b"chunked"), (LENGTH, b"2")], status), method)
            self.assertEqual([(CODING, b"chunked")], head.fields)

    @given(
        st.lists(
            st.tuples(
                st.sampled_from([LENGTH, CODING, OPTIONS, b"A"]),
                st.sampled_from(
                    [b"2", b"3", b"2, 2", b"", b"chunked", b"identity", b"gzip", b"close", b"a b"]
                ),
            ),
            max_size=4,
        ),
        st.sampled_from([200, 204, 304]),
        st.sampled_from([b"GET", b"HEAD"]),
        st.sampled_from([0, 1]),
    )
    def test_mended_is_strict(
        self, fields: Fields, status: int, method: bytes, minor_version: int
    ) -> None:
        """Whatever is mended passes the strict rules; what these accept keeps its framing."""
        head = head_of(fields, status, minor_version)
        try:
            mended, oddities = mend(head, method)
        except Malformed:
            self.assertRaises(Malformed, response_framing, head, method)
            return
        framing = response_framing(mended, method)
        connection_options(mended)
        self.assertEqual(not oddities, _is_strict(head, method), fields)
        if not oddities:
            self.assertEqual(framing, response_framing(head, method))


def _is_strict(head: ResponseHead, method: bytes) -> bool:
    try:
        response_framing(head, method)
        connection_options(head)
    except Malformed:
        return False
    return True
