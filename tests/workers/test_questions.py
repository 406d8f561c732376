"""What the parent asks of its workers' caches, and whom it waits for."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessTerminated

from pyproxy.life.board import BoardAsked, BoardLook, BoardStop, BoardStopAll
from pyproxy.life.desk import (
    ASK_LIMIT,
    PURGE_LIMIT,
    Asked,
    CacheDesk,
    CacheQuestion,
    Counting,
    Looking,
    NobodyAnswers,
    Purging,
    ask,
)
from pyproxy.life.measuring import Measuring
from pyproxy.workers.handover import Asking
from pyproxy.workers.questions import MOST_OPEN, MOST_OWED, answer_of, failure_of
from pyproxy.workers.records import ANSWER
from tests.cache_desk import DictDesk, desk_of
from tests.workers.test_service import FakeProcess, WorkersTestCase

TAG = CacheQuestion(tag=b"a")


class QuestionsTestCase(WorkersTestCase):
    """A case with a parent and two workers, each with a cache of its own."""

    def setUp(self) -> None:
        """Start it."""
        super().setUp()
        self.start_ready()
        self.workers = {1: self.one, 2: self.two}
        self.desks: dict[int, CacheDesk | None] = {
            1: desk_of("http://h/a", "http://h/b"),
            2: desk_of("http://h/a"),
        }

    def asked(self, process: FakeProcess) -> list[Asking]:
        """Return what a worker was asked since this was asked last."""
        orders, _ = process.obey()
        return [order for order in orders if isinstance(order, Asking)]

    def answer(self, *numbers: int) -> None:
        """Let workers answer all that they were asked."""
        for number in numbers:
            for asking in self.asked(self.workers[number]):
                assert isinstance(asking.asked, Counting | Looking | Purging)
                found = self.successResultOf(ask(self.desks[number], asking.asked))
                self.workers[number].tell(ANSWER, answer_of(asking.number, found))

    def result(self, asked: Asked) -> Any:
        """Return what both workers answer together."""
        found = self.service.ask_cache(asked)
        self.answer(1)
        self.assertNoResult(found)
        self.answer(2)
        return self.successResultOf(found)

    def refusal(self, found: Deferred[Any]) -> str:
        """Return why nobody answers."""
        return str(self.failureResultOf(found, NobodyAnswers).value)


class AnswerTests(QuestionsTestCase):
    """All answer."""

    def setUp(self) -> None:
        """Leave nothing behind."""
        super().setUp()
        self.addCleanup(lambda: self.stop(self.service))

    def test_counts(self) -> None:
        """Numbers are added, and rates follow from the sums."""
        found = self.result(Counting())
        self.assertEqual([], found["silent"])
        store = {"entries": 3, "bytes": 300, "bound": 2000, "evicted": 2, "shared": False}
        self.assertEqual({"store": "memory", **store}, found["store"])
        route = found["routes"]["/"]
        self.assertEqual((12, 6, 3), (route["requests"], route["hits"], route["misses"]))
        self.assertAlmostEqual(2 / 3, route["hit_rate"])

    def test_no_lookups(self) -> None:
        """Without a lookup the rate is 0."""
        self.desks = {1: DictDesk(), 2: DictDesk()}
        self.assertEqual(0.0, self.result(Counting())["routes"]["/"]["hit_rate"])

    def test_shared(self) -> None:
        """What all workers have together is told once; what each has done is added."""
        for number, urls in ((1, ("http://h/a",)), (2, ("http://h/a",))):
            self.desks[number] = desk_of(*urls, shared=True)
        found = self.result(Counting())
        self.assertEqual((1, 1000), (found["store"]["entries"], found["store"]["bound"]))
        self.assertEqual(8, found["routes"]["/"]["requests"])
        self.assertEqual(1, len(self.result(Looking(TAG))["entries"]))

    def test_entries(self) -> None:
        """Entries of each, with whose they are; no more than were wanted."""
        found = self.result(Looking(CacheQuestion(prefix=b"http://h/"), 3))
        said = [(entry["worker"], entry["url"]) for entry in found["entries"]]
        self.assertEqual([(1, "http://h/a"), (1, "http://h/b"), (2, "http://h/a")], said)
        self.assertEqual((False, []), (found["more"], found["silent"]))
        found = self.result(Looking(CacheQuestion(prefix=b"http://h/"), 2))
        self.assertEqual((2, True), (len(found["entries"]), found["more"]))

    def test_purge(self) -> None:
        """Each purges its own; how many there were is added."""
        self.assertEqual({"purged": 2, "silent": []}, self.result(Purging(TAG)))
        self.assertEqual({"purged": 0, "silent": []}, self.result(Purging(TAG)))

    def test_no_cache(self) -> None:
        """Where no worker has a cache there is none; one that has it is enough."""
        self.desks = {1: None, 2: None}
        self.assertIsNone(self.result(Counting()))
        self.desks = {1: None, 2: desk_of("http://h/a")}
        self.assertEqual({"purged": 1, "silent": []}, self.result(Purging(TAG)))

    def test_several(self) -> None:
        """Questions may be open at the same time; each has its own answer."""
        purged = [self.service.ask_cache(Purging(TAG)) for _ in range(2)]
        self.answer(2, 1)
        self.assertEqual([2, 0], [(self.successResultOf(one) or {})["purged"] for one in purged])


class MeasureTests(QuestionsTestCase):
    """What they have counted is not added here: who asks keeps it apart, by worker."""

    def test_pages(self) -> None:
        """Each worker's own, by its number; None where nothing is counted."""
        found = self.service.ask_metrics(Measuring(5))
        for number, answer in ((1, {"rows": []}), (2, None)):
            (asking,) = self.asked(self.workers[number])
            self.assertEqual(Measuring(5), asking.asked)
            self.workers[number].tell(ANSWER, answer_of(asking.number, answer))
        self.assertEqual({"workers": {1: {"rows": []}}, "silent": []}, self.successResultOf(found))


class BoardTests(QuestionsTestCase):
    """What is open in them is not added either; what was ended is."""

    def tell(self, asked: BoardAsked, *answers: dict[str, Any] | None) -> Any:
        """Let the workers answer; return that of both."""
        found = self.service.ask_board(asked)
        for number, answer in enumerate(answers, 1):
            (asking,) = self.asked(self.workers[number])
            self.assertEqual(asked, asking.asked)
            self.workers[number].tell(ANSWER, answer_of(asking.number, answer))
        return self.successResultOf(found)

    def test_look(self) -> None:
        """Each worker's own, by its number."""
        found = self.tell(BoardLook({1: (7, 3)}), {"version": 4}, {"version": 1})
        rows = {1: {"version": 4}, 2: {"version": 1}}
        self.assertEqual({"processes": rows, "silent": []}, found)

    def test_stop(self) -> None:
        """How many were ended, of one request or of a whole route; None where there is no board."""
        ended = {"stopped": 1}, {"stopped": 2}
        for asked in (BoardStop(1, 7, 4), BoardStopAll("/v1")):
            self.assertEqual({"stopped": 3, "silent": []}, self.tell(asked, *ended))
        self.assertIsNone(self.tell(BoardStopAll("/v1"), None, None))


class SilenceTests(QuestionsTestCase):
    """Some do not answer."""

    def test_too_late(self) -> None:
        """A worker that does not answer in time is named; the others' answer counts."""
        for asked, limit in ((Counting(), ASK_LIMIT), (Purging(TAG), PURGE_LIMIT)):
            found = self.service.ask_cache(asked)
            self.answer(1)
            self.reactor.advance(limit - 0.1)
            self.assertNoResult(found)
            self.reactor.advance(0.2)
            self.assertEqual([2], (self.successResultOf(found) or {})["silent"])
            self.answer(2)

    def test_all(self) -> None:
        """When nobody answers that is an error which names them."""
        found = self.service.ask_cache(Counting())
        self.reactor.advance(ASK_LIMIT)
        self.assertIn("1, 2", self.refusal(found))

    def test_failure(self) -> None:
        """A worker that cannot answer is as good as silent."""
        found = self.service.ask_cache(Purging(TAG))
        self.answer(1)
        (asking,) = self.asked(self.two)
        self.two.tell(ANSWER, failure_of(asking.number))
        self.assertEqual({"purged": 1, "silent": [2]}, self.successResultOf(found))

    def test_gone(self) -> None:
        """A worker that ends is waited for no more."""
        found = self.service.ask_cache(Purging(TAG))
        self.answer(1)
        self.two.end(ProcessTerminated(None, 9))
        self.assertEqual({"purged": 1, "silent": [2]}, self.successResultOf(found))
        found = self.service.ask_cache(Purging(TAG))
        self.answer(1)
        self.assertEqual({"purged": 0, "silent": []}, self.successResultOf(found))

    def test_none_runs(self) -> None:
        """Without a worker nobody is asked."""
        for process in (self.one, self.two):
            process.end(ProcessTerminated(None, 9))
        self.assertIn("none runs", self.refusal(self.service.ask_cache(Counting())))

    def test_odd_answers(self) -> None:
        """An answer that comes twice, or to no question, changes nothing."""
        found = self.service.ask_cache(Purging(TAG))
        (asking,) = self.asked(self.one)
        for number in (asking.number, asking.number, 99):
            self.one.tell(ANSWER, answer_of(number, {"purged": 5}))
        self.assertNoResult(found)
        self.answer(2)
        self.assertEqual({"purged": 6, "silent": []}, self.successResultOf(found))

    def test_owing(self) -> None:
        """Who owes many answers is asked nothing more until it gives one: nothing piles up."""
        for _ in range(MOST_OWED + 3):
            found = self.service.ask_cache(Counting())
            self.answer(1)
            self.reactor.advance(ASK_LIMIT)
            self.assertEqual([2], (self.successResultOf(found) or {})["silent"])
        self.assertEqual(MOST_OWED, len(owed := self.asked(self.two)))
        self.two.tell(ANSWER, answer_of(owed[0].number, None))
        found = self.service.ask_cache(Counting())
        self.answer(1, 2)
        self.assertEqual([], (self.successResultOf(found) or {})["silent"])

    def test_many(self) -> None:
        """Only so many questions are open at once."""
        found = [self.service.ask_cache(Counting()) for _ in range(MOST_OPEN)]
        self.assertIn("again later", self.refusal(self.service.ask_cache(Counting())))
        self.reactor.advance(ASK_LIMIT)
        for one in found:
            self.failureResultOf(one, NobodyAnswers)

    def test_cancel(self) -> None:
        """Who does not want to know any more is told nothing, and takes no place."""
        for _ in range(MOST_OPEN + 1):
            found = self.service.ask_cache(Counting())
            found.addErrback(lambda failure: None)
            found.cancel()
            self.answer(1, 2)

    def test_end(self) -> None:
        """The end of the service waits for no answer."""
        found = self.service.ask_cache(Counting())
        self.stop(self.service)
        self.failureResultOf(found, NobodyAnswers)
