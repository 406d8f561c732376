"""One at a time at a place, whatever becomes of those who were there."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from pyproxy.turn import Busy, Turn

ROOT = Path(__file__).parents[1]

KILLED = """
import os, signal, sys
from pyproxy.turn import Turn
assert Turn(os.fsencode(sys.argv[1])).acquire()
os.kill(os.getpid(), signal.SIGKILL)
"""

TURNS = """
import os, sys
from pathlib import Path
from pyproxy.turn import Turn
place = sys.argv[1]
count = Path(place)
for _ in range(100):
    turn = Turn(os.fsencode(place))
    assert turn.acquire(60)
    count.write_text(str(int(count.read_text()) + 1))
    turn.release()
"""


class TurnTests(SynchronousTestCase):
    """Whose turn it is, is alone."""

    def setUp(self) -> None:
        """Make a directory for a place."""
        temporary = tempfile.TemporaryDirectory(prefix="turn-")
        self.addCleanup(temporary.cleanup)
        self.place = Path(temporary.name, "place")
        self.file = Path(temporary.name, "place.guard")

    def turn(self, place: Path | None = None) -> Turn:
        """Return a turn, which is over at the end."""
        turn = Turn(os.fsencode(place or self.place))
        self.addCleanup(turn.release)
        return turn

    def test_one_at_a_time(self) -> None:
        """While one has it another one waits, up to its limit; then it is the other's turn."""
        first, second = self.turn(), self.turn()
        self.assertTrue(first.acquire())
        with self.assertRaises(Busy):
            second.acquire(0.02)
        first.release()
        self.assertTrue(second.acquire())

    def test_nothing_is_left(self) -> None:
        """Its file is there only while somebody has it; releasing twice is nothing."""
        turn = self.turn()
        turn.acquire()
        self.assertTrue(self.file.exists())
        turn.release()
        turn.release()
        self.assertFalse(self.file.exists())

    def test_after_a_kill(self) -> None:
        """A process that is killed leaves a file behind, and it is nobody's turn."""
        subprocess.run([sys.executable, "-c", KILLED, str(self.place)], cwd=ROOT, check=False)
        self.assertTrue(self.file.exists())
        self.assertTrue(self.turn().acquire(0.0))

    def test_no_turns_possible(self) -> None:
        """Where no file can be it says so: no directory, a link in its place."""
        self.assertFalse(self.turn(self.place / "nowhere").acquire())
        self.file.symlink_to("elsewhere")
        self.assertFalse(self.turn().acquire())
        self.assertFalse(self.place.with_name("elsewhere").exists())

    def test_another_directory_of_that_name(self) -> None:
        """What it removes is its own file, also when the path means another one by then."""
        turn = self.turn()
        turn.acquire()
        moved = Path(f"{self.place.parent}.moved")
        self.place.parent.rename(moved)
        self.addCleanup(moved.rename, self.place.parent)
        turn.release()
        self.assertEqual([], os.listdir(moved))

    def test_turns(self) -> None:
        """Four processes that come and go a hundred times are never inside at the same time."""
        self.place.write_text("0")
        command = [sys.executable, "-c", TURNS, str(self.place)]
        running = [subprocess.Popen(command, cwd=ROOT) for _ in range(4)]
        self.assertEqual([0] * 4, [each.wait() for each in running])
        self.assertEqual("400", self.place.read_text())
