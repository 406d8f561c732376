"""How an origin behaves."""

from __future__ import annotations

from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.semantics.oddities import Oddity
from pyproxy.upstream.manners import Manners
from tests.upstream.kit import ORIGIN


class NoteTests(SynchronousTestCase):
    """What was odd stands in the log."""

    def test_once(self) -> None:
        """Once for each origin and kind, however often it comes."""
        one, other = Manners(ORIGIN), Manners(ORIGIN)
        with capturedLogs() as events:
            one.note({Oddity.FOLD, Oddity.BARE_LF})
            one.note({Oddity.FOLD, Oddity.CONTROL})
            one.note({Oddity.FOLD})
            other.note(frozenset({Oddity.FOLD}))
        said = [event["what"] for event in events]
        kinds = [Oddity.BARE_LF, Oddity.FOLD, Oddity.CONTROL, Oddity.FOLD]
        self.assertEqual([kind.value for kind in kinds], said)
        self.assertEqual({"127.0.0.1:9000"}, {event["authority"] for event in events})
