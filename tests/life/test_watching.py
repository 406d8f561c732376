"""Files are watched by looking at them: real ones, with a clock in the test's hand."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.life.watching import INTERVAL, FileWatch


class FileWatchTests(SynchronousTestCase):
    """A change is told once, when it is over."""

    def setUp(self) -> None:
        """Watch two files."""
        temporary = tempfile.TemporaryDirectory(prefix="watching-")
        self.addCleanup(temporary.cleanup)
        self.directory = Path(temporary.name)
        self.file, self.other = self.write("file", "one"), self.write("other", "one")
        self.told = 0
        self.clock = Clock()
        self.watch = FileWatch(self.clock, self.changed)
        self.watch.watch({self.file, self.other})
        self.watch.start()
        self.addCleanup(self.watch.stop)

    def write(self, name: str, text: str) -> Path:
        """Write a file."""
        path = self.directory / name
        path.write_text(text)
        return path

    def changed(self) -> None:
        """Count."""
        self.told += 1

    def look(self, times: int = 1) -> int:
        """Let it look; return how often a change was told since this was asked last."""
        for _ in range(times):
            self.clock.advance(INTERVAL)
        told, self.told = self.told, 0
        return told

    def test_nothing(self) -> None:
        """What does not change is not told, however long one looks."""
        self.assertEqual(0, self.look(100))

    def test_written_into(self) -> None:
        """A file that is written into is told once, when two looks have seen the same."""
        for text in ("another length", "another once"):
            self.file.write_text(text)
            self.assertEqual(0, self.look())
            self.assertEqual(1, self.look())
            self.assertEqual(0, self.look(10))

    def test_in_two_steps(self) -> None:
        """A file that is still being written is left alone until it is not."""
        with self.file.open("w") as file:
            for step in range(5):
                file.write(f"step {step}\n")
                file.flush()
                self.assertEqual(0, self.look())
        self.assertEqual(1, self.look())
        self.assertEqual(0, self.look(10))

    def test_emptied_first(self) -> None:
        """An editor that empties the file and then writes it is told once."""
        self.file.write_text("")
        self.assertEqual(0, self.look())
        self.file.write_text("two, and more")
        self.assertEqual(0, self.look())
        self.assertEqual(1, self.look())

    def test_renamed_over(self) -> None:
        """A file that another one replaces is another one, though it has the same size and time."""
        found = self.file.stat()
        new = self.write("new", "two")
        os.utime(new, ns=(found.st_atime_ns, found.st_mtime_ns))
        os.replace(new, self.file)
        self.assertEqual(found.st_mtime_ns, self.file.stat().st_mtime_ns)
        self.assertEqual(1, self.look(2))
        self.assertEqual(0, self.look(10))

    def test_symlink(self) -> None:
        """A link that leads elsewhere now is a change of what it leads to (Kubernetes' way)."""
        for name in ("..one", "..two"):
            (self.directory / name).mkdir()
            self.write(f"{name}/config", "the same")
        data, link = self.directory / "..data", self.directory / "config"
        data.symlink_to("..one")
        link.symlink_to("..data/config")
        self.watch.watch({link})
        self.assertEqual(0, self.look(3))
        fresh = self.directory / "..data_tmp"
        fresh.symlink_to("..two")
        os.replace(fresh, data)
        self.assertEqual(1, self.look(2))
        self.assertEqual(0, self.look(10))

    def test_removed(self) -> None:
        """A file that is removed is told, and told again when it is back."""
        self.file.unlink()
        self.assertEqual(1, self.look(2))
        self.assertEqual(0, self.look(10))
        self.file.write_text("one")
        self.assertEqual(1, self.look(2))
        self.assertEqual(0, self.look(10))

    def test_back_at_once(self) -> None:
        """What is as it was before anybody could tell is no change."""
        found = self.file.stat()
        aside = self.directory / "aside"
        os.rename(self.file, aside)
        self.assertEqual(0, self.look())
        os.rename(aside, self.file)
        self.assertEqual(found.st_mtime_ns, self.file.stat().st_mtime_ns)
        self.assertEqual(0, self.look(10))

    def test_together(self) -> None:
        """Several files that change at once are one change; the last of them ends it."""
        self.file.write_text("two, and more")
        self.assertEqual(0, self.look())
        self.other.write_text("two, and more")
        self.assertEqual(0, self.look())
        self.assertEqual(1, self.look())
        self.assertEqual(0, self.look(10))

    def test_missing(self) -> None:
        """A file that was never there is looked for; a directory in its place is seen too."""
        missing = self.directory / "later"
        self.watch.watch({missing})
        self.assertEqual(0, self.look(10))
        missing.mkdir()
        self.assertEqual(1, self.look(2))

    def test_other_files(self) -> None:
        """Files that are named no more are not looked at; those that are new are."""
        new = self.write("new", "one")
        self.watch.watch({self.other, new})
        self.file.write_text("two, and more")
        self.assertEqual(0, self.look(3))
        new.write_text("two, and more")
        self.assertEqual(1, self.look(2))
        self.assertEqual(0, self.look(10))

    def test_before_the_start(self) -> None:
        """What changes between ``watch`` and ``start`` is noticed, as a start takes its time."""
        watch = FileWatch(self.clock, self.changed)
        watch.watch({self.file})
        self.file.write_text("two, and more")
        self.watch.stop()
        watch.start()
        self.addCleanup(watch.stop)
        self.assertEqual(1, self.look(2))
        self.assertEqual(0, self.look(10))

    def test_change_in_a_reload(self) -> None:
        """What changes while a reload reads is not taken for known, though it ends with ``watch``.

        The reload may have read what was there before.
        """
        self.file.write_text("two, and more")
        self.assertEqual(1, self.look(2))
        self.file.write_text("three, and still more")
        self.watch.watch({self.file, self.other})
        self.assertEqual(1, self.look(2))
        self.assertEqual(0, self.look(10))

    def test_stop(self) -> None:
        """After the end nothing is looked at, and no timer is left."""
        self.watch.stop()
        self.watch.stop()
        self.file.write_text("two, and more")
        self.assertEqual(0, self.look(10))
        self.assertEqual([], self.clock.getDelayedCalls())
