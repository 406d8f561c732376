"""The store on disk: what may befall its files, its folder, its disk and its process."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import resource
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.logger import LogLevel, capturedLogs

from pyproxy.cache.disk.access import READERS
from pyproxy.cache.disk.block import Torn, read_block
from pyproxy.cache.disk.file import opened, read
from pyproxy.cache.disk.folder import LEFT_OVER_SECONDS, MAX_VARIANTS
from pyproxy.cache.disk.lane import nobody
from pyproxy.cache.disk.names import TALLY, TMP, Names, Unfit, check_folder
from pyproxy.cache.disk.store import FIND_SECONDS, UNWRITTEN_BYTES, DiskStore
from pyproxy.cache.seams import BLOCK_BYTES, ContentLost, Store
from pyproxy.semantics.stored import Varies
from tests.cache import head_of
from tests.cache.stores import BOUND, ENTRY, LONG, StoreCase, anything
from tests.cache.storing_child import is_whole
from tests.turning import PATIENCE

KILLS = 20
"""How often a process is killed while it stores."""


class DiskCase(StoreCase):
    """A case with a folder."""

    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(self.mktemp())
        self.folder.mkdir(0o700)

    def open(self, bound: int = BOUND, entry: int = ENTRY) -> DiskStore:
        """Open a store over the folder."""
        store = DiskStore.at(str(self.folder), bound, entry, self.reactor)
        store.patience = PATIENCE
        self.addCleanup(self.end, store)
        self.settle(store)
        return store

    def end(self, store: DiskStore) -> None:
        """Close a store, and wait for its threads."""
        store.close()
        self.settle(store)

    def settle(self, store: Store) -> None:
        """Wait until the disk has done everything."""
        assert isinstance(store, DiskStore)
        self.turn_until(lambda: not store.access.busy)

    def store(self, store: Store, key: bytes, content: bytes = b"", **head: Any) -> None:
        """Store a response, and wait for it."""
        super().store(store, key, content, **head)
        self.settle(store)

    def file(self, key: bytes, varies: Varies = ()) -> Path:
        """Return the path of an entry."""
        return self.folder / Names.of(key).one(varies)

    def files(self) -> list[Path]:
        """Return the paths of all entries."""
        return [path for path in self.folder.glob("[0-9a-f][0-9a-f]/**/*") if path.is_file()]

    def taken(self) -> int:
        """Return what the entries take on the disk, as the file system gives it."""
        return sum(-(-path.stat().st_size // 4096) * 4096 for path in self.files())

    @contextlib.contextmanager
    def errors(self) -> Iterator[list[str]]:
        """Gather what is logged as an error."""
        texts: list[str] = []
        with capturedLogs() as events:
            yield texts
        texts += [
            str(event["log_format"]).format(**event)
            for event in events
            if event["log_level"] >= LogLevel.error
        ]


class FileTests(DiskCase):
    """No file is served that is not, to the last octet, what was written."""

    def test_cut_anywhere(self) -> None:
        """A file of any shorter length, or of more octets, is nothing."""
        store = self.open()
        self.store(store, b"a", b"content")
        path = self.file(b"a")
        whole = path.read_bytes()
        other = self.folder / "tmp" / "copy"
        for end in range(len(whole)):
            other.write_bytes(whole[:end])
            self.assertRaises(Torn, self.known, other)
        other.write_bytes(whole + b"x")
        self.assertRaises(Torn, self.known, other)
        self.assertEqual(self.known(path).content, b"content")

    @staticmethod
    def known(path: Path) -> Any:
        """Read a file."""
        handle = opened(str(path))
        assert handle is not None
        known = read(handle)
        blocks = -(-known.extent.count // BLOCK_BYTES)
        for number in range(blocks if known.content is None else 0):
            read_block(handle, known.extent, number)
        return known

    def test_flipped_anywhere(self) -> None:
        """With any bit turned over a file is nothing, or it is as before."""
        store = self.open()
        chance = random.Random(7693)
        for key, content, times in ((b"a", b"content", 1), (b"b", LONG, 200)):
            self.store(store, key, content)
            whole = self.file(key).read_bytes()
            good = self.known(self.file(key))
            path = self.folder / "tmp" / "copy"
            places = range(len(whole)) if times == 1 else chance.sample(range(len(whole)), times)
            torn = 0
            for place in places:
                octets = bytearray(whole)
                octets[place] ^= 1 << chance.randrange(8)
                path.write_bytes(octets)
                try:
                    known = self.known(path)
                except Torn:
                    torn += 1
                else:
                    self.assertEqual(known.head, good.head)
                    self.assertEqual((known.key, known.content), (key, good.content))
            self.assertGreater(torn, 0)

    def test_torn_file_is_removed(self) -> None:
        """A lookup does not tell of a torn file, and removes it; the key can be stored again."""
        store = self.open()
        for cut in (0, 1, 40, 900):
            self.store(store, b"a", b"content")
            os.truncate(self.file(b"a"), cut)
            self.assertEqual(self.find(store, b"a"), [])
            self.settle(store)
            self.assertEqual(self.files(), [])
        self.assertEqual(store.figures()["torn"], 4)
        self.assertEqual(store.figures()["entries"], 0)

    def test_torn_block(self) -> None:
        """A block that is another is not given, and the file is removed."""
        store = self.open()
        self.store(store, b"a", LONG)
        path = self.file(b"a")
        octets = bytearray(path.read_bytes())
        octets[-2 * BLOCK_BYTES] ^= 1
        path.write_bytes(octets)
        content = self.one(store, b"a").content
        content.hold()
        self.assertEqual(self.result(maybeDeferred(content.read, 0)), LONG[:BLOCK_BYTES])
        with self.assertRaises(ContentLost):
            self.octets(content)
        content.release()
        self.settle(store)
        self.assertEqual(self.find(store, b"a"), [])
        self.assertEqual(self.files(), [])

    def test_cut_while_it_is_read(self) -> None:
        """A file that gets shorter under a reader ends in ContentLost."""
        store = self.open()
        self.store(store, b"a", LONG)
        content = self.one(store, b"a").content
        os.truncate(self.file(b"a"), 2 * BLOCK_BYTES)
        with self.assertRaises(ContentLost):
            self.octets(content)

    def test_foreign_files(self) -> None:
        """What others have put under an entry's name is not served."""
        store = self.open()
        self.store(store, b"other", b"content")
        path = self.file(b"a")
        shutil.copy(self.file(b"other"), path)
        self.assertEqual(self.find(store, b"a"), [])
        self.settle(store)
        self.assertFalse(path.exists())
        for octets in (b"", b"hello", random.Random(1).randbytes(100_000)):
            path.write_bytes(octets)
            self.assertEqual(self.find(store, b"a"), [])
            self.settle(store)
            self.assertFalse(path.exists())
        path.symlink_to(self.file(b"other"))
        self.assertEqual(self.find(store, b"a"), [])
        path.unlink()
        path.mkdir()
        self.assertEqual(self.find(store, b"a"), [])
        (self.folder / "00" / "README").write_text("of somebody else")
        self.assertEqual(self.keys(store), {b"other"})

    def test_torn_refresh(self) -> None:
        """A new head that was not written to its end leaves the old one."""
        store = self.open()
        self.store(store, b"a", b"content")
        before = self.file(b"a").read_bytes()
        store.refresh(self.one(store, b"a"), head_of(b"content", status=203))
        self.settle(store)
        after = bytearray(self.file(b"a").read_bytes())
        self.assertEqual(len(before), len(after))
        changed = [place for place in range(len(after)) if after[place] != before[place]]
        for cut in range(0, len(changed), 7):
            octets = bytearray(before)
            for place in changed[:cut]:
                octets[place] = after[place]
            self.file(b"a").write_bytes(octets)
            self.assertEqual(self.one(store, b"a").head.status, 200)
        self.file(b"a").write_bytes(after)
        self.assertEqual(self.one(store, b"a").head.status, 203)

    def test_outgrown_head(self) -> None:
        """An entry whose new head has no room in its file is removed."""
        store = self.open()
        self.store(store, b"a", b"content")
        store.refresh(self.one(store, b"a"), head_of(b"content", tags=[b"x" * 5000]))
        self.settle(store)
        self.assertEqual(self.find(store, b"a"), [])
        self.assertEqual(self.files(), [])

    def test_many_variants(self) -> None:
        """No more than MAX_VARIANTS entries of a key are kept; without any their folder goes."""
        store = self.open()
        for number in range(MAX_VARIANTS + 10):
            self.store(store, b"a", b"x", varies=((b"cookie", b"%d" % number),))
        found = self.find(store, b"a")
        self.assertLessEqual(len(found), MAX_VARIANTS)
        self.assertIn(
            ((b"cookie", b"%d" % (MAX_VARIANTS + 9)),), [one.head.varies for one in found]
        )
        store.invalidate(b"a")
        self.settle(store)
        self.assertEqual(list(self.folder.glob("??/*")), [])


class FolderTests(DiskCase):
    """The folder is the store's own, and nobody else's."""

    def test_names(self) -> None:
        """No octet of a client's stands in a name; nobody else may look."""
        store = self.open()
        self.store(store, b"../../secret", b"x", varies=((b"accept", b"../secret"),))
        self.store(store, b"\0/", LONG)
        for path in [self.folder, *self.folder.rglob("*")]:
            if path != self.folder:
                self.assertRegex(path.name, r"\A([0-9a-f]{2}|[0-9a-f]{32}(\.v)?|tmp|tally)\Z")
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o700 if path.is_dir() else 0o600)

    def test_unfit(self) -> None:
        """A folder that cannot be trusted is refused in words that name the option."""
        file = self.folder / "file"
        for path, words in (
            (self.folder / "none", "does not exist"),
            (file, "is no folder"),
            (self.folder, "holds what is not the cache's, as `file`"),
        ):
            file.write_text("x")
            with self.assertRaisesRegex(Unfit, rf"^cache\.disk: {path} {words}"):
                check_folder(str(path))
        file.unlink()
        for mode in (0o770, 0o702, 0o777):
            self.folder.chmod(mode)
            with self.assertRaisesRegex(Unfit, "can be written by others"):
                check_folder(str(self.folder))
        self.folder.chmod(0o755)
        check_folder(str(self.folder))
        if os.geteuid() == 0:
            os.chown(self.folder, 65534, 65534)
            with self.assertRaisesRegex(Unfit, "belongs to another user"):
                check_folder(str(self.folder))

    def test_opened_again(self) -> None:
        """What a store has kept, the next one over its folder finds."""
        store = self.open()
        self.store(store, b"a", b"short")
        self.store(store, b"b", LONG)
        self.end(store)
        store = self.open()
        self.assertEqual(self.octets(self.one(store, b"a").content), b"short")
        self.assertEqual(self.octets(self.one(store, b"b").content), LONG)
        self.assertEqual(store.figures()["entries"], 2)

    def test_left_over(self) -> None:
        """What a dead process was writing is removed, and what nobody has touched for an hour."""
        self.open()
        dead = subprocess.Popen([sys.executable, "-c", ""])
        dead.wait()
        folder = self.folder / TMP
        long_ago = time.time() - LEFT_OVER_SECONDS - 10
        names = {
            f"{dead.pid}-{'a' * 32}": False,
            f"{os.getpid()}-{'b' * 32}": True,
            f"{os.getpid()}-{'c' * 32}": False,
            f"99999999999999999999-{'d' * 32}": True,
            "something else": True,
        }
        for name in names:
            (folder / name).write_bytes(b"half")
        os.utime(folder / f"{os.getpid()}-{'c' * 32}", (long_ago, long_ago))
        store = self.open()
        self.assertEqual({name: (folder / name).exists() for name in names}, names)
        self.assertEqual(store.folder.left_over, 2)

    def test_wrong_tally(self) -> None:
        """A tally that is torn or wrong is put right by a count, and nothing leaves for it."""
        store = self.open()
        self.store(store, b"a", LONG)
        right = store.figures()["bytes"]
        self.end(store)
        tally = self.folder / TALLY
        for octets in (b"", b"short", b"\x7f" * 4096, b"\xff" * 4096, bytes(5000)):
            tally.write_bytes(octets)
            store = self.open()
            self.assertEqual((store.figures()["entries"], store.figures()["bytes"]), (1, right))
            self.assertEqual(store.figures()["evicted"], 0)
            self.end(store)

    def test_locked_tally(self) -> None:
        """Who holds the lock for too long, as a stopped process does, keeps nobody."""
        store = self.open()
        with (self.folder / TALLY).open("rb") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            self.store(store, b"a", b"content")
            self.assertEqual(self.octets(self.one(store, b"a").content), b"content")

    def test_shared(self) -> None:
        """Two stores over one folder see each other's entries, changes and removals at once."""
        one, two = self.open(), self.open()
        self.store(one, b"a", b"content", tags=[b"t"])
        self.store(two, b"b", LONG, tags=[b"t"])
        self.assertEqual(self.octets(self.one(two, b"a").content), b"content")
        self.assertEqual(self.octets(self.one(one, b"b").content), LONG)
        two.refresh(self.one(two, b"a"), head_of(b"content", status=203))
        self.settle(two)
        self.assertEqual(self.one(one, b"a").head.status, 203)
        two.remove(self.one(two, b"a"))
        self.settle(two)
        self.assertEqual(self.find(one, b"a"), [])
        self.assertEqual(self.keys(one), {b"b"})
        self.assertEqual(self.result(one.purge(anything)), 1)
        self.assertEqual(self.find(two, b"b"), [])
        self.store(one, b"c", b"x")
        two.invalidate(b"c")
        self.settle(two)
        self.assertEqual(self.find(one, b"c"), [])
        self.assertEqual(self.files(), [])

    def test_shared_bound(self) -> None:
        """Two stores that fill one folder keep its bound together."""
        bound = 1_000_000
        stores = [self.open(bound), self.open(bound)]
        most = 0
        for number in range(200):
            super().store(stores[number % 2], b"%d" % number, b"x" * (number * 997 % 70_000))
            if number % 9 == 0:
                for store in stores:
                    self.settle(store)
                most = max(most, self.taken())
        # What each was just storing may be over it.
        self.assertLessEqual(most, bound + 2 * 70_000)
        self.assertGreater(most, bound // 2)
        self.assertGreater(sum(int(store.figures()["evicted"]) for store in stores), 50)


class DeathTests(DiskCase):
    """A process may die at any time."""

    def test_killed_while_it_stores(self) -> None:
        """After ``kill -9`` every file is whole; what was half written is swept."""
        chance = random.Random(9)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        seen = 0
        for _ in range(KILLS):
            child = subprocess.Popen(
                [sys.executable, "-m", "tests.cache.storing_child", str(self.folder)],
                env=environment,
                stdout=subprocess.PIPE,
            )
            try:
                assert child.stdout is not None
                self.assertEqual(child.stdout.readline(), b"storing\n")
                time.sleep(chance.random() * 0.1)
            finally:
                child.send_signal(signal.SIGKILL)
                child.communicate()
            for path in self.files():
                known = FileTests.known(path)
                content = known.content
                if content is None:
                    handle, blocks = opened(str(path)), -(-known.extent.count // BLOCK_BYTES)
                    assert handle is not None
                    each = (read_block(handle, known.extent, number) for number in range(blocks))
                    content = b"".join(each)
                self.assertTrue(is_whole(content))
                seen += 1
        self.assertGreater(seen, 0)
        store = self.open()
        self.assertEqual(list((self.folder / TMP).iterdir()), [])
        self.assertEqual(store.figures()["entries"], len(self.files()))
        self.assertEqual(store.figures()["torn"], 0)

    def test_closed_while_it_writes(self) -> None:
        """What was being written when the store was closed leaves nothing behind."""
        store = self.open()
        self.begin(store, b"a", LONG)
        self.end(store)
        self.assertEqual(list((self.folder / TMP).iterdir()), [])
        self.assertEqual(self.files(), [])


MIB = 1024 * 1024


class FailingDiskTests(DiskCase):
    """A disk may be full, fail, or hang: what cannot be done is left out."""

    def test_full(self) -> None:
        """Nothing is stored, what was taken can be read, it is said once, and it heals."""
        store = self.open(64 * MIB, 16 * MIB)
        long = LONG * (12 * MIB // len(LONG))
        self.store(store, b"before", b"x")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        with self.errors() as errors:
            # The log of the tests is a file too, and shorter than that.
            resource.setrlimit(resource.RLIMIT_FSIZE, (8 * MIB, hard))
            try:
                for key in (b"a", b"b"):
                    filling = self.begin(store, key, long)
                    self.settle(store)
                    self.assertFalse(filling.write(b"more"))
                    filling.keep(head_of(long))
                    self.settle(store)
                    self.assertEqual(self.octets(filling), long)
                    self.assertEqual(self.find(store, key), [])
                    filling.release()
                    # The failure may also come with the last block.
                    self.store(store, key, long)
                    self.assertEqual(self.find(store, key), [])
                self.assertEqual(self.octets(self.one(store, b"before").content), b"x")
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        self.assertEqual(len(errors), 1, errors)
        self.assertIn("File too large", errors[0])
        self.assertEqual(store.figures()["unwritten"], 0)
        self.assertEqual(list((self.folder / TMP).iterdir()), [])
        self.store(store, b"a", long)
        self.assertEqual(self.octets(self.one(store, b"a").content), long)

    def test_folder_is_gone(self) -> None:
        """Without its folder a store finds nothing, stores nothing, and goes on."""
        store = self.open()
        self.store(store, b"a", b"x")
        with self.errors() as errors:
            shutil.rmtree(self.folder)
            self.assertEqual(self.find(store, b"a"), [])
            self.store(store, b"b", b"x")
            self.store(store, b"c", b"x")
            self.assertEqual(self.find(store, b"b"), [])
            self.assertEqual(self.result(store.purge(anything)), 0)
            store.invalidate(b"a")
            self.settle(store)
        self.assertEqual(len(errors), 1, errors)

    def test_hanging_reads(self) -> None:
        """A read that hangs keeps nobody: who asks is told of nothing."""
        store = self.open()
        self.store(store, b"a", b"x")
        store.patience = FIND_SECONDS
        pipes = [self.file(b"hangs %d" % number) for number in range(READERS)]
        for number, pipe in enumerate(pipes):
            # To open a pipe waits for who writes to it.
            os.mkfifo(pipe)
            self.assertEqual(self.find(store, b"hangs %d" % number), [])
        self.assertEqual(store.figures()["slow"], READERS)
        self.assertEqual(self.find(store, b"a"), [])
        for pipe in pipes:
            os.close(os.open(pipe, os.O_WRONLY))
        self.settle(store)
        store.patience = PATIENCE
        self.assertEqual(len(self.find(store, b"a")), 1)

    def test_hanging_writes(self) -> None:
        """Octets wait up to a bound while writes hang; then no more are taken."""
        store = self.open(2 * UNWRITTEN_BYTES, 2 * UNWRITTEN_BYTES)
        self.store(store, b"a", b"x")
        gate = Event()
        self.addCleanup(gate.set)
        store.access.change(nobody, gate.wait)
        filling = store.fill(b"b", head_of(), None)
        assert filling is not None
        filling.hold()
        piece = bytes(BLOCK_BYTES)
        while filling.write(piece):
            self.assertLessEqual(filling.count, UNWRITTEN_BYTES)
        self.assertEqual(filling.count, UNWRITTEN_BYTES)
        self.assertIsNone(store.fill(b"c", head_of(), None))
        self.assertEqual(len(self.octets(filling)), UNWRITTEN_BYTES)
        self.assertEqual(len(self.find(store, b"a")), 1)
        filling.drop()
        gate.set()
        self.settle(store)
        filling.release()
        self.assertEqual(store.figures()["unwritten"], 0)
        self.store(store, b"c", b"x")
        self.assertEqual(len(self.find(store, b"c")), 1)
