"""One at a time at a place, whatever becomes of those who were there."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from pyproxy.guard import Busy, Guard

ROOT = Path(__file__).parents[1]

KILLED = """
import os, signal, sys
from pyproxy.guard import Guard
assert Guard(os.fsencode(sys.argv[1])).acquire()
os.kill(os.getpid(), signal.SIGKILL)
"""

TURNS = """
import os, sys
from pathlib import Path
from pyproxy.guard import Guard
place = sys.argv[1]
count = Path(place)
for _ in range(100):
    guard = Guard(os.fsencode(place))
    assert guard.acquire(60)
    count.write_text(str(int(count.read_text()) + 1))
    guard.release()
"""


class GuardTests(SynchronousTestCase):
    """Who has the guard is alone."""

    def setUp(self) -> None:
        """Make a directory for a place."""
        temporary = tempfile.TemporaryDirectory(prefix="guard-")
        self.addCleanup(temporary.cleanup)
        self.place = Path(temporary.name, "place")
        self.file = Path(temporary.name, "place.guard")

    def guard(self, place: Path | None = None) -> Guard:
        """Return a guard, which is released at the end."""
        guard = Guard(os.fsencode(place or self.place))
        self.addCleanup(guard.release)
        return guard

    def test_one_at_a_time(self) -> None:
        """While one has it another one waits, up to its limit; then it is the other's turn."""
        first, second = self.guard(), self.guard()
        self.assertTrue(first.acquire())
        with self.assertRaises(Busy):
            second.acquire(0.02)
        first.release()
        self.assertTrue(second.acquire())

    def test_nothing_is_left(self) -> None:
        """Its file is there only while somebody has it; releasing twice is nothing."""
        guard = self.guard()
        guard.acquire()
        self.assertTrue(self.file.exists())
        guard.release()
        guard.release()
        self.assertFalse(self.file.exists())

    def test_after_a_kill(self) -> None:
        """A process that is killed leaves a file behind, and no guard."""
        subprocess.run([sys.executable, "-c", KILLED, str(self.place)], cwd=ROOT, check=False)
        self.assertTrue(self.file.exists())
        self.assertTrue(self.guard().acquire(0.0))

    def test_no_guard_possible(self) -> None:
        """Where no file can be it says so: no directory, a link in its place."""
        self.assertFalse(self.guard(self.place / "nowhere").acquire())
        self.file.symlink_to("elsewhere")
        self.assertFalse(self.guard().acquire())
        self.assertFalse(self.place.with_name("elsewhere").exists())

    def test_another_directory_of_that_name(self) -> None:
        """What it removes is its own file, also when the path means another one by then."""
        guard = self.guard()
        guard.acquire()
        moved = Path(f"{self.place.parent}.moved")
        self.place.parent.rename(moved)
        self.addCleanup(moved.rename, self.place.parent)
        guard.release()
        self.assertEqual([], os.listdir(moved))

    def test_turns(self) -> None:
        """Four processes that come and go a hundred times are never inside at the same time."""
        self.place.write_text("0")
        command = [sys.executable, "-c", TURNS, str(self.place)]
        running = [subprocess.Popen(command, cwd=ROOT) for _ in range(4)]
        self.assertEqual([0] * 4, [each.wait() for each in running])
        self.assertEqual("400", self.place.read_text())
