"""The board at the admin site: its page, the stream that feeds it, and its stop button."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import NOT_DONE_YET, Request

from pyproxy.admin.channel import MAX_CONTENT, AdminRequest
from pyproxy.admin.credential import Credential
from pyproxy.admin.feed import Feed
from pyproxy.admin.pages import Branch, Content, Page, answer, in_json, problem
from pyproxy.life.board import STOP_LIMIT, BoardAsked
from pyproxy.life.condition import Condition, Serving
from pyproxy.life.desk import Document, NobodyAnswers

EXTRA = 5.0
"""Seconds that are waited after those in which all processes have to answer."""

MOST_NAME = 512
"""Characters of what is to be stopped."""

_NO_BOARD = problem(404, "Nobody keeps accounts here.")

_GONE = problem(404, "That is not open, or not any more.")

_MEDIA_TYPES = {
    "html": b"text/html; charset=utf-8",
    "css": b"text/css; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "svg": b"image/svg+xml",
}

_log = Logger("pyproxy")


def asset(name: str, status: int = 200) -> Content:
    """Return a file that belongs to the page."""
    octets = files("pyproxy.admin").joinpath(name).read_bytes()
    return Content(octets, _MEDIA_TYPES[name.rpartition(".")[2]], status)


class Asset(Page):
    """A file that belongs to the page.

    Attributes: public, it is shown to those who have still to show the token.
    """

    def __init__(self, name: str, public: bool = False) -> None:
        content = asset(name)
        self.public = public
        super().__init__(lambda: content)


class Front(Asset):
    """The page, or the way in for those who have still to show the token."""

    def __init__(self, credential: Credential) -> None:
        super().__init__("board.html")
        self.private = True
        self.to_unknown = Login(credential)

    def render(self, request: Request) -> bytes:
        """Answer with the page; a token in the query has done its part, and is taken out of it."""
        shown: list[bytes] = (request.args or {}).get(b"token", [])
        if request.method == b"GET" and shown:
            request.setHeader(b"Location", b"./")
            return answer(request, Content(b"", b"text/plain", 303))
        return super().render(request)


class Login(Branch):
    """What stands in the page's place for those who have still to show the token."""

    def __init__(self, credential: Credential) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._credential = credential
        self._form = asset("login.html", 401)

    def render(self, request: Request) -> bytes:
        """Take a token from the query, or ask for it."""
        shown: list[bytes] = (request.args or {}).get(b"token", [])
        if request.method == b"GET" and len(shown) == 1 and self._credential.is_token(shown[0]):
            self._credential.remember(request)
            request.setHeader(b"Location", b"./")
            return answer(request, Content(b"", b"text/plain", 303))
        return answer(request, self._form)


class Posted(Branch):
    """What is asked by POST, as JSON, which no form of another site can send."""

    def read(self, request: Request) -> Any:
        """Return what was sent; a Content says what is wrong with it."""
        if request.method != b"POST":
            request.setHeader(b"Allow", b"POST")
            return problem(405, "This goes with POST only.")
        assert isinstance(request, AdminRequest)
        if not request.is_json:
            return problem(415, "It has to be sent as Content-Type: application/json.")
        if request.too_long:
            return problem(413, f"It has to be {MAX_CONTENT} bytes at most.")
        try:
            return json.loads(b"" if request.content is None else request.content.read())
        except (ValueError, RecursionError):
            return problem(400, "That is no JSON.")


class TokenPage(Posted):
    """Takes the token of the form."""

    public = True

    def __init__(self, credential: Credential) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._credential = credential

    def render(self, request: Request) -> bytes:
        """Let a browser in, or not."""
        said = self.read(request)
        if isinstance(said, Content):
            return answer(request, said)
        token = said.get("token") if isinstance(said, dict) else None
        shown = token.strip().encode("utf-8", "replace") if isinstance(token, str) else b""
        if not self._credential.is_token(shown):
            return answer(request, problem(403, "That is not the token."))
        self._credential.remember(request)
        return answer(request, in_json({"welcome": True}))


class EventsPage(Branch):
    """The stream that feeds the page."""

    private = True

    def __init__(self, feed: Feed) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._feed = feed

    def render(self, request: Request) -> bytes | int:  # type: ignore[override]
        """Begin to tell; it ends when the reader leaves."""
        if request.method != b"GET":
            request.setHeader(b"Allow", b"GET")
            return answer(request, problem(405, "This can be read only: use GET."))
        if self._feed.full:
            return answer(request, problem(503, "Too many boards are open already."))
        request.setHeader(b"Content-Type", b"text/event-stream; charset=utf-8")
        request.setHeader(b"X-Accel-Buffering", b"no")
        request.write(b"retry: 1000\n\n")
        left: Deferred[None] = request.notifyFinish()
        watcher = self._feed.watch(request)
        left.addBoth(lambda _: self._feed.leave(watcher))
        return NOT_DONE_YET


class StopPage(Posted):
    """Ends one exchange, or all of a route."""

    private = True

    def __init__(self, feed: Feed, clock: IReactorTime) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._feed = feed
        self._clock = clock

    def render(self, request: Request) -> bytes | int:  # type: ignore[override]
        """Answer with how many were ended."""
        said = self.read(request)
        if isinstance(said, Content):
            return answer(request, said)
        stopping = self._stop(said)
        if isinstance(stopping, Content):
            return answer(request, stopping)
        stopping.addTimeout(STOP_LIMIT + EXTRA, self._clock)
        answering = stopping.addCallbacks(_stopped, _unknown)
        left: Deferred[None] = request.notifyFinish()
        left.addErrback(lambda _: stopping.cancel())
        answering.addCallback(lambda content: _finish(request, content))
        answering.addErrback(lambda failure: _log.failure("a stop could not be answered", failure))
        return NOT_DONE_YET

    def _stop(self, said: Any) -> Deferred[Document | None] | Content:
        wrong = problem(400, 'Say {"id": "WORKER-NUMBER"} or {"route": "NAME"}.')
        if not isinstance(said, dict) or len(said) != 1:
            return wrong
        ((name, value),) = said.items()
        if not isinstance(value, str) or not 0 < len(value) <= MOST_NAME:
            return wrong
        if name == "id":
            return self._feed.stop(value) or _GONE
        return self._feed.stop_all(value) if name == "route" else wrong


def _stopped(found: Document | None) -> Content:
    if found is None:
        return _NO_BOARD
    return in_json(found) if found["stopped"] else _GONE


def _unknown(failure: Failure) -> Content | None:
    """Return why there is no answer; None for nobody who waits for one any more."""
    if failure.check(CancelledError):
        return None
    if failure.check(NobodyAnswers):
        return problem(503, str(failure.value))
    if failure.check(DeferredTimeout):
        return problem(504, "Not all processes have answered in time; it may still be ended.")
    _log.failure("nothing could be stopped", failure)
    return problem(500, "It could not be ended; the log says why.")


def _finish(request: Request, content: Content | None) -> None:
    if content is not None:
        request.write(answer(request, content))
        request.finish()


def feed_of(condition: Condition, serving: Serving, clock: IReactorTime) -> Feed:
    """Return what feeds the board's pages."""

    def ask(asked: BoardAsked) -> Deferred[Document | None]:
        return serving.ask_board(asked)

    def more() -> Document:
        return {
            "phase": condition.phase.value,
            "generation": condition.generation,
            "taken_at": condition.taken_at,
            "failures": len(condition.failures),
        }

    return Feed(ask, clock, more)
