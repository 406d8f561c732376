"""Questions of the parent that every worker answers, and who of them has not."""

from __future__ import annotations

import json
from collections.abc import Mapping

import attrs
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from pyproxy.life.desk import Document, NobodyAnswers
from pyproxy.workers.handover import Asking, Question
from pyproxy.workers.merging import merged
from pyproxy.workers.orders import OrderLine, octets_of

MOST_OPEN = 8
"""Questions that wait for their answers; no other is asked then."""

MOST_OWED = MOST_OPEN
"""Answers that a worker may owe; it is asked nothing more until it gives one."""


@attrs.define(eq=False)
class _Question:
    """A question that was asked.

    Attributes:
        waiting: the numbers of the workers that have not answered yet.
        silent: of those that will not, or not in time.
    """

    asked: Question
    done: Deferred[Document | None]
    waiting: set[int] = attrs.Factory(set)
    silent: set[int] = attrs.Factory(set)
    answers: dict[int, Document | None] = attrs.Factory(dict)
    limit: IDelayedCall | None = None


class Questions:
    """Asks the workers, and waits for each of them for so long as a question allows."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._number = 0
        self._open: dict[int, _Question] = {}
        self._owed: dict[int, set[int]] = {}

    def ask(self, asked: Question, workers: Mapping[int, OrderLine]) -> Deferred[Document | None]:
        """Ask workers, by their numbers.

        Returns: the answer of all, with the numbers of the ``silent``; None when they have nothing
            that could be asked.  It fails with NobodyAnswers.
        """
        if len(self._open) >= MOST_OPEN:
            return fail(NobodyAnswers("Too many questions are open already; ask again later."))
        self._number += 1
        number = self._number
        question = _Question(asked, Deferred(lambda _: self._forget(number)))
        self._open[number] = question
        order = octets_of(Asking(number, asked))
        for worker, line in workers.items():
            owed = self._owed.setdefault(worker, set())
            if len(owed) >= MOST_OWED:
                question.silent.add(worker)
                continue
            owed.add(number)
            question.waiting.add(worker)
            line.write(order)
        question.limit = self._clock.callLater(asked.limit, self._too_late, number)
        self._look(number)
        return question.done

    def answered(self, worker: int, text: str) -> None:
        """Take what a worker answers: JSON that ``answer_of`` has written."""
        said = json.loads(text)
        number = said["number"]
        self._owed.get(worker, set()).discard(number)
        question = self._open.get(number)
        if question is None or worker not in question.waiting:
            return
        question.waiting.discard(worker)
        if "answer" in said:
            question.answers[worker] = said["answer"]
        else:
            question.silent.add(worker)
        self._look(number)

    def gone(self, worker: int) -> None:
        """Wait no more for a worker that has ended; it owes nothing."""
        self._owed.pop(worker, None)
        for number, question in list(self._open.items()):
            if worker in question.waiting:
                question.waiting.discard(worker)
                question.silent.add(worker)
                self._look(number)

    def close(self) -> None:
        """Wait for nobody any more."""
        for number in list(self._open):
            self._too_late(number)

    def _too_late(self, number: int) -> None:
        question = self._open[number]
        question.silent |= question.waiting
        question.waiting.clear()
        self._look(number)

    def _forget(self, number: int) -> None:
        limit = self._open.pop(number).limit
        if limit is not None and limit.active():
            limit.cancel()

    def _look(self, number: int) -> None:
        """Answer, if nobody is waited for any more."""
        question = self._open[number]
        if question.waiting:
            return
        self._forget(number)
        known = {worker: one for worker, one in question.answers.items() if one is not None}
        if known:
            question.done.callback(merged(question.asked, known, question.silent))
        elif question.answers:
            question.done.callback(None)
        else:
            numbers = ", ".join(map(str, sorted(question.silent))) or "none runs"
            question.done.errback(NobodyAnswers(f"No worker has answered in time: {numbers}."))


def answer_of(number: int, answer: Document | None) -> str:
    """Return what a worker tells its parent.  Args: the question's number."""
    return json.dumps({"number": number, "answer": answer})


def failure_of(number: int) -> str:
    """Return what a worker tells that cannot answer."""
    return json.dumps({"number": number})
