"""Where frames begin and end in a stream of octets."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

import attrs
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.semantics.frames import (
    CLOSE,
    CONTINUATION,
    MAX_CONTROL_BYTES,
    MAX_HEADER_BYTES,
    PING,
    PONG,
    FrameCount,
    FrameWatch,
    Header,
    MessageCount,
    parse_header,
    unmasked,
)
from tests.semantics import strict

TEXT, BINARY = 0x1, 0x2
FIN = 0x80

KEY = b"\x37\xfa\x21\x3d"
"""A masking key.  Spec: RFC 6455 5.7."""

OURS = b"our ping"
"""What a ping of the proxy's own carries."""

MANY = 1 << 30
"""Pings of ours that nobody has answered, more than any stream here has Pongs."""

OCTETS_OF_LENGTH = {0: 0, 126: 2, 127: 8}
"""Octets behind the second one that hold the length, by the seven bits there; 0 for all others."""

HEADERS = (
    # The examples of RFC 6455 5.7, without their payload.
    (b"\x81\x05", Header(TEXT, 2, 5, b"")),
    (b"\x81\x85\x37\xfa\x21\x3d", Header(TEXT, 6, 5, KEY)),
    (b"\x01\x03", Header(TEXT, 2, 3, b"")),
    (b"\x80\x02", Header(CONTINUATION, 2, 2, b"")),
    (b"\x89\x05", Header(PING, 2, 5, b"")),
    (b"\x8a\x85\x37\xfa\x21\x3d", Header(PONG, 6, 5, KEY)),
    (b"\x82\x7e\x01\x00", Header(BINARY, 4, 256, b"")),
    (b"\x82\x7f\0\0\0\0\0\x01\0\0", Header(BINARY, 10, 65536, b"")),
    # Both ends of each form of the length.
    (b"\x88\x00", Header(CLOSE, 2, 0, b"")),
    (b"\x88\x7d", Header(CLOSE, 2, 125, b"")),
    (b"\x82\xfd\0\0\0\0", Header(BINARY, 6, 125, b"\0\0\0\0")),
    (b"\x82\x7e\x00\x7e", Header(BINARY, 4, 126, b"")),
    (b"\x82\xfe\xff\xff\x37\xfa\x21\x3d", Header(BINARY, 8, 65535, KEY)),
    (b"\x82\x7f" + b"\x7f" + b"\xff" * 7, Header(BINARY, 10, 2**63 - 1, b"")),
    (b"\x82\xff" + b"\x7f" + b"\xff" * 7 + KEY, Header(BINARY, 14, 2**63 - 1, KEY)),
    # What the ends will refuse is read none the less.
    (b"\x82\x7e\x00\x00", Header(BINARY, 4, 0, b"")),
    (b"\x82\x7f" + bytes(7) + b"\x01", Header(BINARY, 10, 1, b"")),
    (b"\x82\x7f" + b"\xff" * 8, Header(BINARY, 10, 2**64 - 1, b"")),
    (b"\xf3\x01", Header(3, 2, 1, b"")),
    (b"\x0f\x00", Header(15, 2, 0, b"")),
    (b"\x09\x7e\x03\xe8", Header(PING, 4, 1000, b"")),
)


def frame(
    opcode: int, payload: bytes = b"", key: bytes = b"", form: int = 0, first: int = FIN
) -> bytes:
    """Write a frame.

    Args: the masking key, or none; 126 or 127 for a length in two or eight octets, however short;
        the bits beside the opcode.
    """
    size = len(payload)
    form = form or (size if size < 126 else 126 if size < 65536 else 127)
    head = bytes([first | opcode, form | (0x80 if key else 0)])
    if form == 126:
        head += struct.pack("!H", size)
    elif form == 127:
        head += struct.pack("!Q", size)
    if key:
        mask = key * (size // 4 + 1)
        payload = bytes(a ^ b for a, b in zip(payload, mask, strict=False))
    return head + key + payload


@attrs.frozen
class Seen:
    """A frame as the tests' own parser sees it.

    Attributes:
        begins, body, ends: where the frame, its payload and the next frame begin in the stream.
        key: where the masking key stands, None without one.
    """

    opcode: int
    begins: int
    body: int
    ends: int
    key: int | None

    def payload(self, octets: bytes) -> bytes:
        """Return the payload without its mask."""
        places = range(self.body, self.ends)
        keys = (0 if self.key is None else octets[self.key + n % 4] for n in range(len(places)))
        return bytes(octets[place] ^ key for place, key in zip(places, keys, strict=True))


def frames_of(octets: bytes) -> Iterator[Seen]:
    """Return the frames of a stream whose headers are whole.

    Shares no code with ``pyproxy.semantics``.  Spec: RFC 6455 5.2.
    """
    at = 0
    while len(octets) - at >= 2:
        opcode, masked, short = octets[at] % 16, octets[at + 1] >= 128, octets[at + 1] % 128
        wide = OCTETS_OF_LENGTH.get(short, 0)
        body = at + 2 + wide + 4 * masked
        if body > len(octets):
            return
        length = short
        if wide:
            length = 0
            for octet in octets[at + 2 : at + 2 + wide]:
                length = length * 256 + octet
        yield Seen(opcode, at, body, body + length, body - 4 if masked else None)
        at = body + length


def messages_in(octets: bytes) -> int:
    """Return how many messages have begun their last frame."""
    return sum(seen.opcode < 8 and octets[seen.begins] >= FIN for seen in frames_of(octets))


@attrs.frozen
class Passed:
    """What is to be known of a stream after so many octets of it.

    Attributes:
        octets: what has been let through.
        boundaries: where in these frames begin or would begin.
        held: how many octets behind them wait for the rest of their header.
        pings: how many pings of ours are still not answered.
    """

    octets: bytes
    boundaries: frozenset[int]
    closing: bool = False
    too_big: bool = False
    held: int = 0
    pings: int = 0

    @property
    def at_boundary(self) -> bool:
        """Whether what has been let through ends with a whole frame."""
        return len(self.octets) in self.boundaries


def counted(octets: bytes) -> Passed:
    """Return what a count has to know once octets have passed."""
    frames = list(frames_of(octets))
    boundaries = {0} | {each.ends for each in frames}
    return Passed(octets, frozenset(boundaries), any(each.opcode == 8 for each in frames))


def watched(octets: bytes, ours: bytes = b"", most: int | None = None, pings: int = 0) -> Passed:
    """Return what a watch has let through once octets have arrived.

    Args: how many pings of ours were sent before the first octet came.
    """
    passed, boundaries, closing, message, done = b"", {0}, False, 0, 0
    for each in frames_of(octets):
        if pings and each.opcode == 10 and each.ends - each.body == len(ours):
            if each.ends > len(octets):
                done = len(octets)  # a Pong that waits is no header that is held
                break
            if each.payload(octets) == ours:
                pings -= 1
                done = each.ends
                continue
        if each.opcode < 8:
            length = each.ends - each.body
            message = length if each.opcode else message + length
            if most is not None and message > most:
                return Passed(passed, frozenset(boundaries), closing, True, pings=pings)
        closing = closing or each.opcode == 8
        boundaries.add(len(passed) + each.ends - each.begins)
        passed += octets[each.begins : each.ends]
        done = each.ends
    held = max(len(octets) - done, 0)
    if held and pings and octets[done] % 16 == 10:
        held = 0  # a Pong that may be ours is none
    return Passed(passed, frozenset(boundaries), closing, held=held, pings=pings)


PAYLOADS = st.sampled_from([OURS, OURS, b"our pinG", b"our pin", b"our ping!"]) | st.binary(
    max_size=10
)


def frames_with(payloads: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Return a strategy of whole frames."""
    opcodes = st.sampled_from([CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG, PONG])
    return st.builds(
        frame,
        opcodes | st.integers(0, 15),
        payloads,
        st.sampled_from([b"", b"", KEY, b"\0\0\0\0"]),
        st.sampled_from([0, 0, 0, 126, 127]),
        st.sampled_from([FIN, FIN, 0, 0x40, 0xF0]),
    )


STREAMS = st.lists(frames_with(PAYLOADS), max_size=5).map(b"".join)

ANYTHING = st.builds(bytes.__add__, STREAMS, st.binary(max_size=20))
"""Frames, then the beginning of one, or anything at all: what the ends refuse is counted too."""

SIZES = st.sampled_from([0, 1, 124, 125, 126, 127, 1000]).map(bytes)

LARGE = st.lists(frames_with(PAYLOADS | SIZES), max_size=8).map(b"".join)

PLACES = st.lists(st.integers(0, 8000), max_size=8)


def cut(octets: bytes, places: Iterable[int]) -> list[bytes]:
    """Cut octets in pieces."""
    parts, begin = [], 0
    for place in [*sorted(place % (len(octets) + 1) for place in places), len(octets)]:
        parts.append(octets[begin:place])
        begin = place
    return parts


class HeaderTests(SynchronousTestCase):
    """The header of a frame."""

    def test_headers(self) -> None:
        """Opcode, length in each of its forms, and mask.  RFC 6455 5.2, 5.7."""
        for octets, header in HEADERS:
            self.assertEqual(header, parse_header(octets), octets)
            self.assertEqual(header, parse_header(octets + b"\xff" * 20), octets)

    def test_longest(self) -> None:
        """No header is longer than MAX_HEADER_BYTES, and one is as long.  RFC 6455 5.2."""
        self.assertEqual(MAX_HEADER_BYTES, max(header.size for _, header in HEADERS))

    def test_not_whole(self) -> None:
        """A header of which an octet is missing is no header yet."""
        for octets, _ in HEADERS:
            for size in range(len(octets)):
                self.assertIsNone(parse_header(octets[:size]), octets[:size])

    def test_unmasked(self) -> None:
        """A payload without its mask is that of the example.  RFC 6455 5.3, 5.7."""
        self.assertEqual(b"Hello", unmasked(b"\x7f\x9f\x4d\x51\x58", KEY))
        self.assertEqual(b"Hello", unmasked(b"Hello", b""))
        self.assertEqual(b"", unmasked(b"", KEY))

    @given(st.binary(max_size=30), st.binary(min_size=4, max_size=4))
    def test_unmasked_again(self, payload: bytes, key: bytes) -> None:
        """What was masked comes back, whatever its length.  RFC 6455 5.3."""
        masked = frame(PONG, payload, key)[6:]
        self.assertEqual(payload, unmasked(masked, key))


class CountTests(SynchronousTestCase):
    """Frames that pass and are counted."""

    def follow(self, parts: Iterable[bytes], count: FrameCount | None = None) -> FrameCount:
        """Follow parts, and hold what is said after each against the tests' own parser."""
        count = count or FrameCount()
        passed = b""
        for part in parts:
            count.follow(part, len(part))
            passed += part
            expected = counted(passed)
            self.assertEqual(expected.at_boundary, count.at_boundary, passed)
            self.assertEqual(expected.closing, count.closing, passed)
            self.assertEqual(expected.closing and expected.at_boundary, count.closed, passed)
            last = max(expected.boundaries)
            self.assertEqual(max(last - len(passed), 0), count.left, passed)
        return count

    def test_nothing(self) -> None:
        """Before anything has passed a frame may begin."""
        count = self.follow([b"", b""])
        self.assertTrue(count.at_boundary)
        self.assertFalse(count.closing or count.closed)

    def test_headers(self) -> None:
        """Every form of a header is counted, however it was cut.  RFC 6455 5.2."""
        for octets, header in HEADERS:
            for parts in [[octets], *strict.splits(octets)]:
                count = self.follow(parts)
                self.assertEqual(header.length, count.left)

    @given(ANYTHING)
    @example(frame(TEXT, bytes(200), KEY, 126) + frame(CLOSE, b"\x03\xe8", KEY) + b"\x81")
    def test_every_split(self, octets: bytes) -> None:
        """Wherever octets were cut, the same is said of what has passed.  RFC 6455 5.2."""
        self.follow([octets])
        for parts in strict.splits(octets):
            self.follow(parts)

    @given(LARGE, PLACES)
    def test_several_pieces(self, octets: bytes, places: list[int]) -> None:
        """So it is in any number of pieces."""
        self.follow(cut(octets, places))

    @given(LARGE, PLACES)
    def test_in_a_buffer(self, octets: bytes, places: list[int]) -> None:
        """What stands in a buffer behind the octets that were read counts for nothing."""
        buffer = bytearray(len(octets) + 2 * MAX_HEADER_BYTES)
        count, passed = FrameCount(), b""
        for part in cut(octets, places):
            buffer[:] = b"\x88" * len(buffer)
            buffer[: len(part)] = part
            count.follow(memoryview(buffer), len(part))
            passed += part
            expected = counted(passed)
            self.assertEqual(
                (expected.at_boundary, expected.closing), (count.at_boundary, count.closing)
            )

    def test_large_frames(self) -> None:
        """Frames of a size that takes eight octets to tell end where they should."""
        whole = frame(BINARY, bytes(70_000), KEY)
        octets = whole * 2
        for place in (1, 5, 13, 14, 15, 69_999, len(whole) - 1, len(whole), len(whole) + 13):
            self.follow([octets[:place], octets[place:]])

    def test_frame_of_63_bits(self) -> None:
        """A frame may be larger than memory: its length is counted, not allocated."""
        count = self.follow([b"\x82\x7f\x7f" + b"\xff" * 7, bytes(1000)])
        self.assertEqual(2**63 - 1001, count.left)

    def test_left_may_be_lowered(self) -> None:
        """Octets within a frame can be counted off ``left`` by who passes them."""
        count = FrameCount()
        count.follow(b"\x82\x05abc", 5)
        count.left -= 1
        self.assertFalse(count.at_boundary)
        count.follow(b"e\x88\x00", 3)
        self.assertTrue(count.closed)

    def test_closing(self) -> None:
        """A Close has begun with its header, and has passed with its last octet.

        RFC 6455 5.5.1.
        """
        octets = frame(PING, b"\x88\x88") + frame(CLOSE, b"\x03\xe8bye", KEY)
        begun = []
        closed = []
        count = FrameCount()
        for place in range(len(octets)):
            count.follow(octets[place : place + 1], 1)
            begun.append(count.closing)
            closed.append(count.closed)
        self.assertEqual([False] * 9 + [True] * 6, begun)
        self.assertEqual([False] * 14 + [True], closed)

    @given(ANYTHING)
    def test_finish_frame(self, octets: bytes) -> None:
        """What is finished is the frame at hand, not an octet more, wherever it was cut."""
        known = counted(octets)
        for place in range(len(octets) + 1):
            for step in (1, len(octets) or 1):
                count = FrameCount()
                count.follow(octets[:place], place)
                rest = b""
                for begin in range(place, len(octets), step):
                    rest += count.finish_frame(octets[begin : begin + step])
                end = min((each for each in known.boundaries if each >= place), default=len(octets))
                self.assertEqual(octets[place:end], rest, place)
                expected = counted(octets[:end])
                self.assertEqual(expected.at_boundary, count.at_boundary, place)
                self.assertEqual(expected.closing, count.closing, place)

    def test_nothing_to_finish(self) -> None:
        """At a boundary nothing is left to finish, and what comes is not counted."""
        count = FrameCount()
        count.follow(b"\x82\x01a", 3)
        self.assertEqual(b"", count.finish_frame(b"\x88\x00"))
        self.assertTrue(count.at_boundary)
        self.assertFalse(count.closing)

    def test_many_frames_are_linear(self) -> None:
        """Many small frames cost no more than their octets, in one read or octet by octet."""
        for octets in (b"\x81\x00" * (strict.CROWD // 2), b"\x81\xfe\x00\x00" + KEY):
            crowd = octets * (strict.CROWD // len(octets))
            for step in (len(crowd), 1):
                taken = strict.cpu_seconds(self.run_through, FrameCount(), crowd, step)
                self.assertLess(taken, strict.CPU_BUDGET)

    def run_through(self, count: FrameCount, octets: bytes, step: int) -> None:
        """Follow octets in steps."""
        for begin in range(0, len(octets), step):
            count.follow(octets[begin : begin + step], min(step, len(octets) - begin))


class MessageTests(SynchronousTestCase):
    """Messages that pass and are counted; all else is as it is without."""

    def follow(self, parts: Iterable[bytes]) -> MessageCount:
        """Follow parts, out of a buffer that holds more, and compare what is said after each."""
        plain, count, passed = FrameCount(), MessageCount(), b""
        for part in parts:
            plain.follow(part, len(part))
            count.follow(memoryview(part + b"\x88" * MAX_HEADER_BYTES), len(part))
            passed += part
            self.assertEqual(
                (plain.left, plain.at_boundary, plain.closing, plain.closed),
                (count.left, count.at_boundary, count.closing, count.closed),
                passed,
            )
            self.assertEqual(messages_in(passed), count.messages, passed)
        return count

    @given(ANYTHING)
    @example(frame(TEXT, bytes(200), KEY, 126) + frame(CLOSE, b"\x03\xe8", KEY) + b"\x81")
    def test_every_split(self, octets: bytes) -> None:
        """Wherever octets were cut."""
        self.follow([octets, b""])
        for parts in strict.splits(octets):
            self.follow(parts)

    @given(LARGE, PLACES)
    def test_several_pieces(self, octets: bytes, places: list[int]) -> None:
        """In any number of pieces."""
        self.follow(cut(octets, places))

    @given(ANYTHING)
    def test_finish_frame(self, octets: bytes) -> None:
        """The frame at hand is finished as it is without."""
        for place in range(len(octets) + 1):
            plain, count = FrameCount(), MessageCount()
            for each in (plain, count):
                each.follow(octets[:place], place)
            rest = octets[place:]
            self.assertEqual(plain.finish_frame(rest), count.finish_frame(rest))
            self.assertEqual((plain.left, plain.closing), (count.left, count.closing))

    def test_many_frames_are_linear(self) -> None:
        """Many small frames cost no more than their octets, in one read or octet by octet."""
        crowd = b"\x81\x00" * (strict.CROWD // 2)
        for step in (len(crowd), 1):
            taken = strict.cpu_seconds(self.run_through, crowd, step)
            self.assertLess(taken, strict.CPU_BUDGET)

    def run_through(self, octets: bytes, step: int) -> None:
        """Follow octets in steps."""
        count = MessageCount()
        for begin in range(0, len(octets), step):
            count.follow(octets[begin : begin + step], min(step, len(octets) - begin))

    def test_messages(self) -> None:
        """Fragments make one message; what is within or between them makes none.  RFC 6455 5.4."""
        octets = b"".join(
            (
                frame(TEXT, b"one"),
                frame(TEXT, b"tw", first=0),
                frame(PING, b"hello"),
                frame(CONTINUATION, b"o", KEY),
                frame(BINARY, bytes(300)),
                frame(PONG),
                frame(TEXT, b"unfinished", first=0),
                frame(CLOSE),
            )
        )
        for parts in ([octets], *strict.splits(octets)):
            self.assertEqual(3, self.follow(parts).messages)
            watch = FrameWatch()
            for part in parts:
                watch.let_through(part)
            self.assertEqual(3, watch.messages)


class WatchTests(SynchronousTestCase):
    """Frames that are let through one by one."""

    def watch(
        self,
        parts: Iterable[bytes],
        ours: bytes = b"",
        most: int | None = None,
        pings: int | None = None,
    ) -> tuple[FrameWatch, bytes]:
        """Let parts through, and hold what is said after each against the tests' own parser.

        Args: how many of our pings are not answered; MANY where there are any.
        Returns: the watch, and all that was let through.
        """
        if pings is None:
            pings = MANY if ours else 0
        watch = FrameWatch(most, ours, pings)
        arrived = passed = b""
        for part in parts:
            before = len(passed)
            arrived += part
            passed += watch.let_through(part)
            expected = watched(arrived, ours, most, pings)
            self.assertEqual(expected.octets, passed, arrived)
            self.assertEqual(expected.too_big, watch.too_big, arrived)
            self.assertEqual(expected.held, watch.held, arrived)
            self.assertEqual(expected.pings, watch.pings, arrived)
            self.assertEqual(expected.at_boundary, watch.at_boundary, arrived)
            self.assertEqual(expected.closing, watch.closing, arrived)
            self.assertEqual(expected.closing and expected.at_boundary, watch.closed, arrived)
            places = [each - before for each in expected.boundaries]
            inside = [each for each in places if 0 <= each <= len(passed) - before]
            self.assertEqual(min(inside, default=-1), watch.boundary, arrived)
        return watch, passed

    @given(ANYTHING)
    def test_transparent(self, octets: bytes) -> None:
        """Without limits every octet passes as it is; only a header waits until it is whole."""
        expected = counted(octets)
        ends = sorted(expected.boundaries)
        for parts in [[octets], *strict.splits(octets)]:
            _, passed = self.watch(parts)
            self.assertTrue(octets.startswith(passed))
            if len(passed) != len(octets):
                self.assertIn(len(passed), ends)
                self.assertLess(len(octets) - len(passed), MAX_HEADER_BYTES)

    @given(STREAMS)
    def test_whole_frames_pass_whole(self, octets: bytes) -> None:
        """Nothing is held back of frames that are whole."""
        for parts in [[octets], *strict.splits(octets)]:
            watch, passed = self.watch(parts)
            self.assertEqual(octets, passed)
            self.assertTrue(watch.at_boundary)

    @given(ANYTHING)
    @example(frame(PONG, OURS) + frame(TEXT) + frame(PONG, OURS, KEY) + frame(CLOSE))
    @example(frame(PONG, OURS, KEY, 127)[:-1])
    def test_our_pongs(self, octets: bytes) -> None:
        """Pongs that answer our ping are taken out, masked or not, and nothing else.

        RFC 6455 5.5.3.
        """
        self.watch([octets], OURS)
        for parts in strict.splits(octets):
            self.watch(parts, OURS)

    @given(ANYTHING, st.integers(0, 3))
    @example(frame(PONG, OURS) * 2 + frame(PONG, OURS, KEY, 127)[:-1], 2)
    @example(frame(PONG, OURS, KEY) + frame(PONG, OURS)[:-1], 1)
    def test_each_ping_is_answered_once(self, octets: bytes, pings: int) -> None:
        """Of Pongs that look like answers only as many are taken out as pings were sent.

        RFC 6455 5.5.3: a Pong may be sent unasked, and then it is the ends' own.
        """
        self.watch([octets], OURS, pings=pings)
        for parts in strict.splits(octets):
            self.watch(parts, OURS, pings=pings)

    @given(ANYTHING, st.sampled_from([0, 1, 7, 8, 10, 20]), st.sampled_from([b"", OURS]))
    def test_bounded(self, octets: bytes, most: int, ours: bytes) -> None:
        """Of a message past the bound nothing passes of the frame that takes it there."""
        self.watch([octets], ours, most)
        for parts in strict.splits(octets):
            self.watch(parts, ours, most)

    @given(LARGE, PLACES, st.sampled_from([None, 10, 126, 2000]))
    def test_several_pieces(self, octets: bytes, places: list[int], most: int | None) -> None:
        """So it is in any number of pieces."""
        self.watch(cut(octets, places), OURS, most)

    def test_which_pongs_are_ours(self) -> None:
        """A Pong is ours when it carries what our ping carried, and no other frame ever is."""
        for octets in (
            frame(PONG, OURS),
            frame(PONG, OURS, KEY),
            frame(PONG, OURS, b"\0\0\0\0"),
            frame(PONG, OURS, KEY, 126),
            frame(PONG, OURS, b"", 127),
        ):
            watch, passed = self.watch([octets], OURS, pings=1)
            self.assertEqual((b"", 0), (passed, watch.pings), octets)
        for octets in (
            frame(PONG, b"our pinG", KEY),
            frame(PONG, b"our pin"),
            frame(PONG, b"our ping!"),
            frame(PONG),
            frame(PING, OURS, KEY),
            frame(TEXT, OURS, KEY),
            frame(CLOSE, OURS),
            frame(TEXT, frame(PONG, OURS)),
            # As it is masked, and not as it is meant.
            frame(PONG, unmasked(OURS, KEY), KEY),
        ):
            watch, passed = self.watch([octets], OURS, pings=1)
            self.assertEqual((octets, 1), (passed, watch.pings), octets)

    def test_no_ping_of_ours(self) -> None:
        """Without pings of ours every Pong passes, an empty one as well.  RFC 6455 5.5.3."""
        for octets in (frame(PONG), frame(PONG, b"", KEY), frame(PONG, OURS)):
            self.assertEqual(octets, self.watch([octets])[1])
            self.assertEqual(octets, self.watch([octets], OURS, pings=0)[1])

    def test_second_pong(self) -> None:
        """One ping has one answer: the same Pong again passes, until the next ping is sent."""
        pong = frame(PONG, OURS, KEY)
        watch = FrameWatch(None, OURS, 1)
        self.assertEqual((b"", 0), (watch.let_through(pong), watch.pings))
        self.assertEqual(pong, watch.let_through(pong))
        self.assertEqual(pong[:-1], watch.let_through(pong[:-1]), "it does not even wait")
        self.assertEqual(pong[-1:], watch.let_through(pong[-1:]))
        watch.pings += 2
        self.assertEqual((pong, 0), (watch.let_through(pong * 3), watch.pings))

    def test_pings_that_were_not_answered(self) -> None:
        """An answer that never came does not make the next one the ends' own."""
        watch = FrameWatch(None, OURS, 3)
        self.assertEqual(b"", watch.let_through(frame(PONG, OURS)))
        self.assertEqual(2, watch.pings)

    def test_pong_within_a_message(self) -> None:
        """A Pong of ours between two fragments leaves the message whole.  RFC 6455 5.4."""
        first, last = frame(TEXT, b"ab", KEY, first=0), frame(CONTINUATION, b"cd", KEY)
        octets = first + frame(PONG, OURS, KEY) + last
        for parts in strict.splits(octets):
            self.assertEqual(first + last, self.watch(parts, OURS, 4)[1])

    def test_what_waits(self) -> None:
        """No more waits than a header and the payload of a control frame; all of it goes on.

        Only the header counts as held: a Pong that may be ours is no sign of life while it waits.
        """
        ours = bytes(MAX_CONTROL_BYTES)
        other = bytes(MAX_CONTROL_BYTES - 1) + b"x"
        octets = frame(PONG, other, KEY, 127)
        watch = FrameWatch(None, ours, 1)
        self.assertEqual(MAX_HEADER_BYTES + MAX_CONTROL_BYTES, len(octets))
        for size in range(1, len(octets)):
            self.assertEqual(b"", watch.let_through(octets[size - 1 : size]))
            self.assertTrue(watch.at_boundary)
            self.assertEqual(0, watch.held)
        self.assertEqual(octets + b"\x81\x05a", watch.let_through(octets[-1:] + b"\x81\x05a"))
        self.assertEqual((4, 0, 1), (watch.left, watch.held, watch.pings))

    def test_pong_of_ours_is_not_held(self) -> None:
        """From its header on nothing is held of a Pong that turns out to be ours."""
        pong = frame(PONG, OURS, KEY)
        watch = FrameWatch(None, OURS, 1)
        held = []
        for place in range(len(pong)):
            self.assertEqual(b"", watch.let_through(pong[place : place + 1]))
            held.append(watch.held)
        self.assertEqual([0] * 14, held)
        watch.let_through(b"\x81")
        self.assertEqual(1, watch.held)

    def test_content_does_not_wait(self) -> None:
        """Octets of a payload go on as they come, without waiting for the frame's end."""
        watch = FrameWatch(100, OURS)
        self.assertEqual(b"\x82\x05a", watch.let_through(b"\x82\x05a"))
        self.assertEqual(b"bc", watch.let_through(b"bc"))
        self.assertEqual(b"", watch.let_through(b""))
        self.assertEqual(b"de", watch.let_through(b"de\x8a"))
        self.assertEqual(b"\x8a\x01", watch.let_through(b"\x01"))

    def test_boundary(self) -> None:
        """A ping of ours can stand where the first frame of what passes begins.

        RFC 6455 5.4: control frames stand between the frames of a message, and never within one.
        """
        watch = FrameWatch(None, OURS, 2)
        for octets, boundary in (
            (b"", 0),
            (b"\x81", 0),
            (b"\x03ab", 0),
            (b"", -1),
            (b"c", 1),
            (b"", 0),
            (b"\x81\x01d\x81\x00", 0),
            (b"\x81\x01", 0),
            (b"d\x81\x05", 1),
            (b"abcde" + frame(PONG, OURS) + b"\x81\x00", 5),
            (frame(PONG, OURS)[:-1], 0),
            (b"g", 0),
        ):
            watch.let_through(octets)
            self.assertEqual(boundary, watch.boundary, octets)

    @given(ANYTHING, st.sampled_from([b"", OURS]))
    def test_finish_frame(self, octets: bytes, ours: bytes) -> None:
        """What is finished is the frame at hand, not an octet more, wherever it was cut."""
        pings = MANY if ours else 0
        known = watched(octets, ours, pings=pings)
        for place in range(len(octets) + 1):
            watch = FrameWatch(None, ours, pings)
            passed = watch.let_through(octets[:place])
            begun = len(passed)
            for begin in range(place, len(octets)):
                passed += watch.finish_frame(octets[begin : begin + 1])
            end = min(each for each in known.boundaries if each >= begun)
            self.assertEqual(known.octets[:end], passed, place)
            self.assertEqual(end <= len(known.octets), watch.at_boundary, place)
            again = FrameWatch(None, ours, pings)
            begun = len(again.let_through(octets[:place]))
            self.assertEqual(known.octets[begun:end], again.finish_frame(octets[place:]), place)

    def test_held_octets_are_not_finished(self) -> None:
        """What was held has not begun to pass, and does not once the end has come."""
        for held in (b"\x81", frame(PONG, OURS)[:-1]):
            watch = FrameWatch(None, OURS, 1)
            self.assertEqual(b"", watch.let_through(held))
            self.assertEqual(b"", watch.finish_frame(b"\x00gggggg"))
            self.assertTrue(watch.at_boundary)

    def test_many_frames_are_linear(self) -> None:
        """Many small frames cost no more than their octets, in one read or octet by octet."""
        for octets in (b"\x81\x00", b"\x80\xfe\x00\x00" + KEY, frame(PONG, OURS, KEY)):
            crowd = octets * (strict.CROWD // len(octets))
            for step in (len(crowd), 1):
                watch = FrameWatch(1, OURS, MANY)
                taken = strict.cpu_seconds(self.run_through, watch, crowd, step)
                self.assertLess(taken, strict.CPU_BUDGET)

    def run_through(self, watch: FrameWatch, octets: bytes, step: int) -> None:
        """Let octets through in steps."""
        for begin in range(0, len(octets), step):
            watch.let_through(octets[begin : begin + step])


class BoundTests(SynchronousTestCase):
    """How large a message may be."""

    def passed(self, *frames: bytes, most: int = 5) -> tuple[int, bool]:
        """Return how many frames pass whole, and whether the next one was too much.

        It is the same octet by octet as in one piece.
        """
        octets = b"".join(frames)
        outcomes = set()
        for parts in ([octets], [octets[at : at + 1] for at in range(len(octets))]):
            watch = FrameWatch(most)
            through = b"".join(watch.let_through(part) for part in parts)
            whole = [b"".join(frames[:number]) for number in range(len(frames) + 1)]
            outcomes.add((whole.index(through), watch.too_big))
        [outcome] = outcomes
        return outcome

    def test_exact(self) -> None:
        """A message of as many octets as the bound passes, one of one more does not."""
        for key in (b"", KEY):
            for most in (0, 1, 5, 125, 126, 65535, 65536):
                fits = frame(BINARY, bytes(most), key)
                more = frame(BINARY, bytes(most + 1), key)
                for octets, too_big in ((fits, False), (more, True)):
                    watch = FrameWatch(most)
                    self.assertEqual(b"" if too_big else octets, watch.let_through(octets))
                    self.assertEqual(too_big, watch.too_big, most)

    def test_fragments(self) -> None:
        """All fragments of a message count together, those of the next one anew.

        RFC 6455 5.4.
        """
        first, middle = frame(TEXT, b"ab", KEY, first=0), frame(CONTINUATION, b"c", KEY, first=0)
        last, too_long = frame(CONTINUATION, b"de", KEY), frame(CONTINUATION, b"def", KEY)
        self.assertEqual((3, False), self.passed(first, middle, last))
        self.assertEqual((2, True), self.passed(first, middle, too_long))
        self.assertEqual((6, False), self.passed(*(first, middle, last) * 2))
        self.assertEqual((5, True), self.passed(first, middle, last, first, middle, too_long))
        self.assertEqual((4, False), self.passed(*[frame(TEXT, b"abcde")] * 4))
        # An empty first fragment begins a message as well.
        empty = frame(BINARY, first=0)
        self.assertEqual((4, False), self.passed(first, last, empty, frame(CONTINUATION, b"abcde")))

    def test_control_frames(self) -> None:
        """Control frames belong to no message, wherever they stand.  RFC 6455 5.4, 5.5."""
        control = frame(PING, bytes(100), KEY), frame(PONG, bytes(100)), frame(CLOSE, bytes(100))
        first, last = frame(TEXT, b"abc", first=0), frame(CONTINUATION, b"de")
        self.assertEqual((8, False), self.passed(*control, first, *control, last))
        too_long = frame(CONTINUATION, b"def")
        self.assertEqual((4, True), self.passed(first, *control, too_long))

    def test_reserved_opcodes(self) -> None:
        """What an extension may define is bounded like a message; 0xB to 0xF are control frames.

        RFC 6455 5.2.
        """
        for opcode in range(3, 8):
            self.assertEqual((0, True), self.passed(frame(opcode, bytes(6))), opcode)
        for opcode in range(8, 16):
            self.assertEqual((1, False), self.passed(frame(opcode, bytes(6))), opcode)

    def test_length_is_believed(self) -> None:
        """A message is too big once its header says so; none of its payload is waited for."""
        for header in (b"\x82\x06", b"\x82\x7e\x00\x06", b"\x82\xff" + b"\xff" * 8 + KEY):
            watch = FrameWatch(5)
            for octet in header[:-1]:
                self.assertEqual(b"", watch.let_through(bytes([octet])))
                self.assertFalse(watch.too_big)
            self.assertEqual(b"", watch.let_through(header[-1:]))
            self.assertTrue(watch.too_big and watch.at_boundary)

    def test_nothing_passes_afterwards(self) -> None:
        """Behind a message that is too big nothing passes, whatever it is."""
        watch = FrameWatch(5, OURS, MANY)
        fits = frame(TEXT, b"abcde")
        self.assertEqual(fits, watch.let_through(fits + frame(TEXT, b"abcdef") + fits))
        for octets in (fits, frame(CLOSE), b"", b"\x81", frame(PONG, OURS), bytes(1000)):
            self.assertEqual(b"", watch.let_through(octets))
            self.assertEqual(b"", watch.finish_frame(octets))
            self.assertTrue(watch.too_big and watch.at_boundary)
        self.assertFalse(watch.closing)
