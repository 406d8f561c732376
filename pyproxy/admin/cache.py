"""The cache at the admin site: its figures, a look at entries, and the purge."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NoReturn
from urllib.parse import parse_qsl

from twisted.internet.defer import CancelledError
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import NOT_DONE_YET, Request

from pyproxy.admin.channel import MAX_CONTENT, AdminRequest
from pyproxy.admin.pages import READ, Branch, Content, answer, in_json, problem
from pyproxy.life.condition import Condition, Serving
from pyproxy.life.desk import (
    MOST_ENTRIES,
    USUAL_ENTRIES,
    Asked,
    CacheQuestion,
    Counting,
    Document,
    Looking,
    NobodyAnswers,
    Purging,
)
from pyproxy.observe.masking import Mask

EXTRA = 5.0
"""Seconds that are waited after those in which all processes have to answer."""

MAX_PARAMETERS = 8
"""Parameters of a query; more than there are names."""

_NAMES = ("url", "prefix", "tag")

_NO_CACHE = problem(404, "Nothing is cached: no route has cache = true in the configuration.")

_log = Logger("pyproxy")


class Refused(Exception):
    """A request that asks for nothing that could be answered.  Attributes: ``content``."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.content = problem(status, detail)


class CachePage(Branch):
    """A path at which the cache is asked; the answer may come later.

    Args: methods by which it is asked; read says what is asked.
    """

    guarded = True

    def __init__(
        self,
        methods: tuple[bytes, ...],
        read: Callable[[AdminRequest], Asked],
        condition: Condition,
        serving: Serving,
        clock: IReactorTime,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._methods = methods
        self._read = read
        self._condition = condition
        self._serving = serving
        self._clock = clock

    def render(self, request: Request) -> bytes | int:  # type: ignore[override]
        """Answer as soon as it is known, or say how to ask."""
        if request.method not in self._methods:
            request.setHeader(b"Allow", b", ".join(self._methods))
            known = " or ".join(method.decode("ascii") for method in self._methods)
            return answer(request, problem(405, f"This goes with {known} only."))
        assert isinstance(request, AdminRequest)
        try:
            asked = self._read(request)
        except Refused as refused:
            return answer(request, refused.content)
        waiting = self._serving.ask_cache(asked)
        waiting.addTimeout(asked.limit + EXTRA, self._clock)
        answering = waiting.addCallbacks(self._known, self._unknown)
        left = request.notifyFinish()
        left.addErrback(lambda _: waiting.cancel())
        answering.addCallback(lambda content: _finish(request, content))
        answering.addErrback(_broken)
        return NOT_DONE_YET

    def _known(self, found: Document | None) -> Content:
        if found is None:
            return _NO_CACHE
        return in_json(_masked(found, Mask.of(self._condition.config.secrets)))

    def _unknown(self, failure: Failure) -> Content | None:
        """Return why there is no answer; None for nobody who waits for one any more."""
        if failure.check(CancelledError):
            return None
        if failure.check(NobodyAnswers):
            return problem(503, str(failure.value))
        if failure.check(DeferredTimeout):
            return problem(504, "The cache has not answered in time; what was asked may go on.")
        _log.failure("the cache could not be asked", failure)
        return problem(500, "The cache could not be asked; the log says why.")


def _finish(request: Request, content: Content | None) -> None:
    if content is not None:
        request.write(answer(request, content))
        request.finish()


def _broken(failure: Failure) -> None:
    _log.failure("an answer about the cache could not be written", failure)


def cache_pages(
    condition: Condition, serving: Serving, clock: IReactorTime
) -> tuple[CachePage, CachePage, CachePage]:
    """Return the pages of figures, entries and purges."""
    figures = CachePage(READ, counting, condition, serving, clock)
    entries = CachePage(READ, looking, condition, serving, clock)
    purge = CachePage((b"POST",), purging, condition, serving, clock)
    return figures, entries, purge


# what is asked


def counting(request: AdminRequest) -> Asked:
    """Return the question for figures, which has nothing in it."""
    return Counting()


def looking(request: AdminRequest) -> Asked:
    """Read which entries are looked for, from the query.  Raises: Refused."""
    found: dict[str, str] = {}
    query = request.uri.partition(b"?")[2].decode("ascii", "replace")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_PARAMETERS)
    except ValueError:
        _refuse("")
    for name, value in pairs:
        if name in found:
            _refuse(f"{name} stands there twice.  ")
        found[name] = value
    most = found.pop("limit", str(USUAL_ENTRIES))
    if not (most.isascii() and most.isdecimal() and 1 <= int(most[:9]) <= MOST_ENTRIES):
        raise Refused(400, f"limit has to be a number from 1 to {MOST_ENTRIES}.")
    return Looking(_question(found), int(most))


def purging(request: AdminRequest) -> Asked:
    """Read which entries are purged, from JSON.  Raises: Refused.

    That it has to be declared as JSON keeps a page from sending it as a form.
    """
    if not request.is_json:
        raise Refused(415, "It has to be sent as Content-Type: application/json.")
    if request.too_long:
        raise Refused(413, f"It has to be {MAX_CONTENT} bytes at most.")
    try:
        found = json.loads(b"" if request.content is None else request.content.read())
    except (ValueError, RecursionError):
        _refuse("")
    return Purging(_question(found))


def _question(found: Any) -> CacheQuestion:
    """Return which entries are meant.  Raises: Refused unless exactly one name says it."""
    if not isinstance(found, dict) or len(found) != 1 or not set(found) <= set(_NAMES):
        _refuse("")
    ((name, value),) = found.items()
    if not isinstance(value, str) or not value:
        _refuse(f"{name} is empty, or no text.  ")
    try:
        return CacheQuestion(**{name: value.encode("utf-8")})
    except UnicodeEncodeError:
        _refuse(f"{name} is no text.  ")


def _refuse(why: str) -> NoReturn:
    raise Refused(
        400,
        f"{why}Say exactly one of url, prefix and tag: /api/cache/entries?prefix=https://HOST/a, "
        'or {"tag": "a"} to purge.',
    )


def _masked(value: Any, mask: Mask) -> Any:
    """Return a value without a credential in any of its texts."""
    if isinstance(value, str):
        return mask.apply(value.encode("utf-8", "surrogateescape")).decode("utf-8", "replace")
    if isinstance(value, list | tuple):
        return [_masked(one, mask) for one in value]
    if isinstance(value, dict):
        return {_masked(name, mask): _masked(one, mask) for name, one in value.items()}
    return value
