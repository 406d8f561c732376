"""Reading out of the store on disk: at once or in a thread, alone or together, and never torn."""

from __future__ import annotations

import errno
import os
import random
from typing import Any

from twisted.internet.defer import Deferred

from pyproxy.cache.disk.block import (
    CHECKSUM_BYTES,
    STRIDE_BYTES,
    Extent,
    PageCache,
    checksum,
    room_for,
)
from pyproxy.cache.disk.content import DiskContent, DiskFilling
from pyproxy.cache.disk.file import opened, read
from pyproxy.cache.disk.shared import MAX_SHARED, Shared
from pyproxy.cache.disk.store import DiskStore
from pyproxy.cache.seams import BLOCK_BYTES, ContentLost, Store
from tests.cache.stores import LONG
from tests.cache.test_disk import DiskCase

FIRST = LONG[:BLOCK_BYTES]


class ReadingCase(DiskCase):
    """A store with one long content."""

    def setUp(self) -> None:
        super().setUp()
        self.kept = self.open()
        self.store(self.kept, b"a", LONG)

    def content(self, store: Store | None = None) -> DiskContent:
        """Look the content up, and hold it until the test ends."""
        content = self.one(store or self.kept, b"a").content
        assert isinstance(content, DiskContent)
        content.hold()
        self.addCleanup(content.release)
        return content

    def forget(self) -> None:
        """Have no block in memory of those that were read."""
        self.kept.shared.clear()

    def flip(self, number: int) -> None:
        """Turn a bit over in a block of the file."""
        with self.file(b"a").open("r+b") as file:
            place = read(self.handle()).extent.place(number)[0] + 99
            octet = os.pread(file.fileno(), 1, place)[0]
            os.pwrite(file.fileno(), bytes([octet ^ 4]), place)

    def handle(self) -> Any:
        """Open the file."""
        handle = opened(str(self.file(b"a")))
        assert handle is not None
        return handle

    def needs_page_cache(self) -> None:
        """Leave a test out where the kernel cannot be asked without a wait."""
        handle = self.handle()
        if PageCache().read(handle, read(handle).extent, 0) is None:
            self.skipTest("this file system always waits")


class AtOnceTests(ReadingCase):
    """What the kernel has in memory needs no thread."""

    def test_cached(self) -> None:
        """Every block comes at once, from any place on."""
        self.needs_page_cache()
        content = self.content()
        for start in (0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, 3 * BLOCK_BYTES + 5, len(LONG) - 1):
            for _ in range(2):
                end = (start // BLOCK_BYTES + 1) * BLOCK_BYTES
                self.assertEqual(content.read(start), LONG[start:end])
            self.forget()
        self.assertEqual(content.read(len(LONG)), b"")
        self.assertFalse(self.kept.access.busy)

    def test_not_cached(self) -> None:
        """What has to come from the disk is read in a thread, and then is at hand."""
        self.needs_page_cache()
        content, handle = self.content(), self.handle()
        os.fsync(handle.number)
        os.posix_fadvise(handle.number, 0, 0, os.POSIX_FADV_DONTNEED)
        reading = content.read(0)
        if not isinstance(reading, Deferred):
            self.skipTest("this file system keeps everything in memory")
        self.assertEqual(self.result(reading), FIRST)
        self.assertTrue(self.kept.page_cache.works)
        self.assertEqual(content.read(0), FIRST)
        self.forget()
        self.assertEqual(content.read(0), FIRST)
        self.assertEqual(self.octets(content), LONG)

    def refuse(self, number: int) -> list[int]:
        """Have the kernel refuse to read without a wait; return what tells how often it did."""
        calls: list[int] = []

        def preadv(*_: object) -> int:
            calls.append(number)
            raise OSError(number, os.strerror(number))

        self.patch(os, "preadv", preadv)
        return calls

    def test_unknown_to_the_file_system(self) -> None:
        """A file system that cannot do it is not asked again."""
        for number in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
            self.kept.page_cache.works = True
            content, calls = self.content(), self.refuse(number)
            self.forget()
            self.assertEqual(self.octets(content), LONG)
            self.assertEqual(calls, [number])
            self.assertFalse(self.kept.page_cache.works)

    def test_refused_for_now(self) -> None:
        """Any other refusal is for this block alone; the thread learns what it is."""
        self.kept.page_cache.works = True
        for number in (errno.EAGAIN, errno.EIO, errno.EINTR):
            content, calls = self.content(), self.refuse(number)
            self.forget()
            self.assertEqual(self.octets(content), LONG)
            self.assertEqual(calls, [number] * -(-len(LONG) // BLOCK_BYTES))
            self.assertTrue(self.kept.page_cache.works)


class SharedTests(ReadingCase):
    """Readers at the same place have the same octets."""

    def test_after_one_another(self) -> None:
        """Who comes next gets the same object; after a while it is forgotten."""
        one, two = self.content(), self.content()
        self.assertIsNot(one, two)
        self.octets(one)
        first = one.read(BLOCK_BYTES)
        self.assertIs(two.read(BLOCK_BYTES), first)
        self.assertIsInstance(first, bytes)
        self.kept.close()
        self.assertIsNone(self.kept.shared.get((one.mark, 1)))

    def test_under_way(self) -> None:
        """A block that many want at once is read once, by one thread."""
        self.kept.page_cache.works = False
        contents = [self.content() for _ in range(50)]
        self.forget()
        readings = [content.read(BLOCK_BYTES) for content in contents]
        self.assertEqual(self.kept.access.reading, 1)
        pieces = []
        for reading in readings:
            assert isinstance(reading, Deferred)
            pieces.append(self.result(reading))
        self.assertEqual(pieces[0], LONG[BLOCK_BYTES : 2 * BLOCK_BYTES])
        self.assertEqual(len({id(piece) for piece in pieces}), 1)
        self.assertEqual(self.kept.shared.under_way, {})

    def test_lost_under_way(self) -> None:
        """When it cannot be read, all who wait are told."""
        self.kept.page_cache.works = False
        contents = [self.content() for _ in range(5)]
        self.flip(1)
        self.forget()
        for reading in [content.read(BLOCK_BYTES) for content in contents]:
            self.assertRaises(ContentLost, self.result, reading)
        self.assertEqual(self.kept.shared.under_way, {})
        self.assertEqual(self.kept.figures()["torn"], 1)
        self.assertEqual(self.result(contents[0].read(0)), FIRST)  # type: ignore[arg-type]

    def test_closed_under_way(self) -> None:
        """When the store is closed, all who wait are told."""
        self.kept.page_cache.works = False
        readings = [content.read(0) for content in [self.content() for _ in range(5)]]
        self.kept.close()
        for reading in readings:
            self.assertRaises(ContentLost, self.result, reading)

    def test_another_file(self) -> None:
        """What comes under the same key has blocks of its own."""
        self.octets(self.content())
        other = bytes(reversed(LONG))
        self.store(self.kept, b"a", other)
        self.assertEqual(self.octets(self.content()), other)

    def test_bound(self) -> None:
        """The one that was wanted least recently goes."""
        shared = Shared()
        for number in range(MAX_SHARED):
            shared.put((b"a", number), b"%d" % number)
        shared.get((b"a", 0))
        shared.put((b"b", 0), b"other")
        self.assertEqual(shared.get((b"a", 0)), b"0")
        self.assertIsNone(shared.get((b"a", 1)))
        self.assertEqual(shared.get((b"a", 2)), b"2")


class FlippedTests(ReadingCase):
    """A bit that turned over is found wherever a block comes from."""

    def lost(self, store: DiskStore, content: DiskContent, number: int) -> None:
        """See that a block is not given."""
        reading = content.read(number * BLOCK_BYTES)
        assert isinstance(reading, Deferred)
        self.assertRaises(ContentLost, self.result, reading)
        self.settle(store)
        self.assertEqual(store.figures()["torn"], 1)
        self.assertEqual(self.find(store, b"a"), [])
        self.assertEqual(self.files(), [])

    def test_in_memory(self) -> None:
        """What the kernel has in memory."""
        self.needs_page_cache()
        content = self.content()
        self.flip(2)
        self.assertEqual(content.read(0), FIRST)
        self.lost(self.kept, content, 2)

    def test_in_a_thread(self) -> None:
        """What a thread reads, of a file that is open."""
        self.kept.page_cache.works = False
        content = self.content()
        self.flip(3)
        self.lost(self.kept, content, 3)

    def test_opened_again(self) -> None:
        """What a thread reads, of a file that it has to open."""
        (entry,) = self.result(self.kept.entries(lambda key, head: True, 1))
        self.assertFalse(entry.content.is_open)
        self.flip(0)
        self.lost(self.kept, entry.content, 0)

    def test_read_with_the_head(self) -> None:
        """What is so short that it is read together with the head."""
        for length in (1, 1000, 5000, BLOCK_BYTES):
            self.store(self.kept, b"a", LONG[:length])
            extent = read(self.handle()).extent
            with self.file(b"a").open("r+b") as file:
                place = extent.start + length - 1
                os.pwrite(file.fileno(), bytes([LONG[length - 1] ^ 1]), place)
            self.assertEqual(self.find(self.kept, b"a"), [])
            self.settle(self.kept)
            self.assertEqual(self.files(), [])

    def test_while_it_is_written(self) -> None:
        """What is read back of a file that has no name yet."""
        filling = self.begin(self.kept, b"b", LONG)
        assert isinstance(filling, DiskFilling)
        self.settle(self.kept)
        self.assertEqual(self.octets(filling), LONG)
        self.forget()
        with open(filling.aside.path, "r+b") as file:
            os.pwrite(file.fileno(), b"\xff", filling.aside.start + STRIDE_BYTES)
        for works in (self.kept.page_cache.works, False):
            self.kept.page_cache.works = works
            reading = filling.read(BLOCK_BYTES)
            assert isinstance(reading, Deferred)
            self.assertRaises(ContentLost, self.result, reading)
        filling.drop()
        filling.release()


class ChecksumTests(ReadingCase):
    """What a checksum tells apart."""

    def test_each(self) -> None:
        """Another mark, another number, another octet, another length."""
        chance = random.Random(4711)
        mark, block = chance.randbytes(16), chance.randbytes(BLOCK_BYTES)
        good = checksum(mark, 1, block)
        self.assertEqual(len(good), CHECKSUM_BYTES)
        others = {checksum(mark, number, block) for number in (0, 2, 1 << 31)}
        others |= {checksum(chance.randbytes(16), 1, block) for _ in range(100)}
        others |= {checksum(mark, 1, block[:end]) for end in range(0, BLOCK_BYTES, 511)}
        for _ in range(500):
            octets = bytearray(block)
            octets[chance.randrange(BLOCK_BYTES)] ^= 1 << chance.randrange(8)
            others.add(checksum(mark, 1, bytes(octets)))
        for start in range(0, BLOCK_BYTES, 4096):
            octets = bytearray(block)
            octets[start : start + 4096] = bytes(4096)
            others.add(checksum(mark, 1, bytes(octets)))
        self.assertNotIn(good, others)
        self.assertNotEqual(checksum(mark, 0, bytes(BLOCK_BYTES)), bytes(CHECKSUM_BYTES))

    def test_places(self) -> None:
        """Blocks stand one behind the other, each with its checksum."""
        for count in (0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 5 * BLOCK_BYTES):
            extent, end = Extent(bytes(16), 100, count), 100
            for number in range(-(-count // BLOCK_BYTES)):
                place, length = extent.place(number)
                self.assertEqual(place, end)
                end += length + CHECKSUM_BYTES
            self.assertEqual(end, 100 + room_for(count))
