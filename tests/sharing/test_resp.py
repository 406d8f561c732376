"""Redis' protocol, in pieces of every size."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.sharing import resp
from pyproxy.sharing.resp import ErrorReply, NotRESP, Replies, Reply, command


def written(reply: Reply, *, status: bool = False) -> bytes:
    """Write a reply as Redis does."""
    if reply is None:
        return b"$-1\r\n"
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    if isinstance(reply, bytes):
        return b"+%b\r\n" % reply if status else b"$%d\r\n%b\r\n" % (len(reply), reply)
    if isinstance(reply, ErrorReply):
        return b"-%b\r\n" % reply.text.encode("latin-1")
    return b"*%d\r\n" % len(reply) + b"".join(map(written, reply))


def read(octets: bytes, sizes: list[int]) -> list[Reply]:
    """Read octets that come in pieces of some sizes, the last one as long as it has to be."""
    replies, found, at = Replies(), [], 0
    for size in [*sizes, len(octets)]:
        found += list(replies.feed(octets[at : at + size]))
        at += size
    return found


LINES = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=20)
ATOMS: st.SearchStrategy[Reply] = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.binary(max_size=40),
    st.builds(ErrorReply, LINES),
)
REPLIES: st.SearchStrategy[Reply] = st.recursive(
    ATOMS, lambda inner: st.lists(inner, max_size=4), max_leaves=12
)
SAMPLE: list[Reply] = [
    b"",
    b"\r\n$3\r\n",
    None,
    -7,
    ErrorReply("ERR no"),
    [],
    [b"a", [None, [1, []]], ErrorReply("OOM x"), [b"b"]],
    b"end",
]


class ReadingTests(SynchronousTestCase):
    """Octets into replies."""

    def test_kinds(self) -> None:
        """Every kind of reply, nulls of both kinds among them."""
        octets = b"+OK\r\n-ERR it\r\n:-12\r\n:+3\r\n$2\r\nab\r\n$0\r\n\r\n"
        octets += b"$-1\r\n*-1\r\n*0\r\n*2\r\n:1\r\n*0\r\n"
        expected = [b"OK", ErrorReply("ERR it"), -12, 3, b"ab", b"", None, None, [], [1, []]]
        self.assertEqual(expected, read(octets, []))

    def test_split_everywhere(self) -> None:
        """Two pieces that are split at every place, and one octet at a time."""
        octets = b"".join(map(written, SAMPLE))
        for at in range(len(octets) + 1):
            self.assertEqual(SAMPLE, read(octets, [at]), at)
        self.assertEqual(SAMPLE, read(octets, [1] * len(octets)))

    @given(st.lists(REPLIES, max_size=5), st.lists(st.integers(0, 9), max_size=30))
    def test_any(self, replies: list[Reply], sizes: list[int]) -> None:
        """Any replies, in pieces of any sizes."""
        self.assertEqual(replies, read(b"".join(map(written, replies)), sizes))

    @given(st.binary(max_size=60), st.lists(st.integers(0, 5), max_size=10))
    def test_garbage(self, octets: bytes, sizes: list[int]) -> None:
        """Whatever comes is a reply, none yet, or refused; nothing else is raised."""
        with contextlib.suppress(NotRESP):
            read(octets, sizes)

    @given(st.lists(st.sampled_from([b"*", b"$", b":", b"-", b"+", b"1", b"\r\n", b"\n", b"\r"])))
    def test_near_garbage(self, pieces: list[bytes]) -> None:
        """Also what is made of its own signs; the pieces it comes in make no difference."""
        octets = b"".join(pieces)
        outcomes = []
        for sizes in ([], [1] * len(octets)):
            try:
                outcomes.append(read(octets, sizes))
            except NotRESP:
                outcomes.append([b"refused"])
        self.assertEqual(outcomes[0], outcomes[1])

    def test_refused(self) -> None:
        """What is no reply."""
        for octets in (
            b"HTTP/1.1 400 Bad Request\r\n",
            b"\r\n",
            b":\r\n",
            b":1.5\r\n",
            b":1_0\r\n",
            b"$-2\r\n",
            b"$+1\r\na\r\n",
            b"*x\r\n",
            b"$1\r\nabc",
            b"+a\nb\r\n",
            b"%1\r\n",
        ):
            with self.assertRaises(NotRESP, msg=repr(octets)):
                read(octets, [])

    def test_what_is_whole_comes_first(self) -> None:
        """A reply before what is none is given."""
        replies = Replies()
        feed = iter(replies.feed(b":1\r\n?\r\n"))
        self.assertEqual(1, next(feed))
        with self.assertRaises(NotRESP):
            next(feed)

    def test_bounds(self) -> None:
        """Strings, items, nesting and lines end at a bound, before they are there."""
        self.assertEqual([], read(b"$%d\r\n" % resp.MAX_BULK_BYTES, []))
        for octets in (
            b"$%d\r\n" % (resp.MAX_BULK_BYTES + 1),
            b"*%d\r\n" % (resp.MAX_ITEMS + 1),
            b"*1\r\n" * (resp.MAX_NESTING + 1),
            b"+" + b"a" * (resp.MAX_LINE_BYTES + 1),
            b"*2\r\n*%d\r\n%b*1\r\n:1\r\n" % (resp.MAX_ITEMS - 1, b":1\r\n" * (resp.MAX_ITEMS - 1)),
        ):
            with self.assertRaises(NotRESP, msg=octets[:20]):
                read(octets, [])
        deep = b"*1\r\n" * resp.MAX_NESTING + b":1\r\n"
        self.assertEqual(1, len(read(deep, [])))

    def test_whole_reply_is_bounded(self) -> None:
        """Many strings, each within its bound, are together too long."""
        string = written(b"x" * resp.MAX_BULK_BYTES)
        with self.assertRaises(NotRESP):
            read(b"*3\r\n" + string * 3, [])
        self.assertEqual(3, len(read(string * 3, [])))

    def test_error_codes(self) -> None:
        """An error has its code in front, or none."""
        self.assertEqual("OOM", ErrorReply("OOM command not allowed").code)
        self.assertEqual("NOSCRIPT", ErrorReply("NOSCRIPT").code)
        self.assertEqual("", ErrorReply("something else").code)
        self.assertEqual("", ErrorReply("").code)


class WritingTests(SynchronousTestCase):
    """Commands into octets."""

    def test_words(self) -> None:
        """Octets, views and numbers are strings in an array."""
        octets = command(b"SET", memoryview(b"a\r\n"), b"", 12)
        self.assertEqual(b"*4\r\n$3\r\nSET\r\n$3\r\na\r\n\r\n$0\r\n\r\n$2\r\n12\r\n", octets)

    @given(st.lists(st.binary(max_size=30), min_size=1, max_size=5))
    def test_any(self, words: list[bytes]) -> None:
        """Any words are read back."""
        self.assertEqual([words], read(command(*words), []))
