"""The demo upstream's map: which path leads where, and the page that lists it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial

from twisted.internet.interfaces import IReactorTime
from twisted.web import http
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from pyproxy.demo.bodies import echo, sink, source, status
from pyproxy.demo.handshake import WebSockets, echo_messages
from pyproxy.demo.openai import chat_completions, models
from pyproxy.demo.places import ANY_METHOD, Branch, Place, text_content
from pyproxy.demo.playground import ASSETS, asset, page
from pyproxy.demo.realtime import realtime
from pyproxy.demo.request import DemoRequest
from pyproxy.demo.streams import tick_forever, wait_first

_INDEX = """\
This is the demo upstream: it speaks the OpenAI wire format, without a model.

A playground to open in a browser:
  {origin}/chat

Chat, word by word (interval_ms and first_byte_ms change the timing, words the length; and what goes
wrong is a fault: break, truncate, empty, error, stall):
  curl -N {origin}/v1/chat/completions -H 'Content-Type: application/json' \\
    -d '{{"model": "demo", "stream": true, "messages": [{{"role": "user", "content": "Hello"}}]}}'

Models:
  curl {origin}/v1/models
  curl {origin}/v1/models/demo

A clock of server-sent events (count ends it):
  curl -N '{origin}/sse/clock?interval_ms=500&count=5'

What arrives here, any method, any path below /echo (field names in twisted.web's spelling):
  curl -X PATCH '{origin}/echo/a%2Fb?c' -H 'Authorization: Bearer secret' -d 'body'

An upload that is counted, hashed and thrown away; a download of any size:
  head -c 100000000 /dev/zero | curl -T - {origin}/upload
  curl -o /dev/null '{origin}/download?bytes=100000000&chunked=1'

A status, any method; a late first byte:
  curl -i {origin}/status/429
  curl -i '{origin}/slow?first_byte_ms=2000'

A WebSocket that echoes; either line will do (pip install websockets):
  python -m websockets {ws_origin}/ws/echo
  npx wscat -c {ws_origin}/ws/echo

A WebSocket in the manner of OpenAI's Realtime API, and an event to paste into it:
  npx wscat -s realtime -c '{ws_origin}/v1/realtime?model=demo'
  {hello}
"""

_HELLO = {
    "type": "message",
    "role": "user",
    "content": [{"type": "input_text", "text": "Hello"}],
}
_HELLO_EVENT = json.dumps({"type": "response.create", "response": {"input": [_HELLO]}})

_AUTHORITY = re.compile(rb"[A-Za-z0-9.\-_\[\]:]{1,255}")


class DemoSite(Site):
    """The site; it writes no access log, since the proxy in front of it writes one."""

    noisy = False

    def __init__(self, root: Resource, clock: IReactorTime, websockets: WebSockets) -> None:
        Site.__init__(self, root, requestFactory=DemoRequest, reactor=clock)
        self._websockets = websockets

    def stopFactory(self) -> None:
        """Close the WebSockets when nothing listens for the site any more."""
        self._websockets.close()
        super().stopFactory()

    def log(self, request: http.Request) -> None:
        """Write nothing."""


def demo_site(clock: IReactorTime, board: Callable[[], str] = str) -> Site:
    """Build the demo upstream.

    Args:
        clock: what times its streams, and limits the ends of its WebSockets.
        board: tells where people see what passes, as ``http:8001``; empty for nowhere.
    """
    root = Branch()
    websockets = WebSockets(clock)
    root.putChild(b"", Place(index))
    root.putChild(b"chat", Place(page(board)))
    for name in ASSETS:
        root.putChild(name.encode("ascii"), Place(asset(name)))
    root.putChild(b"echo", Place(echo, methods=ANY_METHOD, deep=True))
    root.putChild(b"upload", Place(sink, methods=ANY_METHOD))
    root.putChild(b"download", Place(partial(source, clock=clock)))
    root.putChild(b"status", Place(status, methods=ANY_METHOD, deep=True))
    root.putChild(b"slow", Place(partial(wait_first, clock=clock)))
    root.putChild(b"sse", _branch(b"clock", Place(partial(tick_forever, clock=clock))))
    completions = Place(partial(chat_completions, clock=clock), methods=frozenset({b"POST"}))
    v1 = _branch(b"models", Place(models, deep=True))
    v1.putChild(b"chat", _branch(b"completions", completions))
    session = partial(realtime, clock=clock, websockets=websockets)
    v1.putChild(b"realtime", Place(session, methods=frozenset({b"GET"})))
    root.putChild(b"v1", v1)
    messages = partial(echo_messages, websockets=websockets)
    root.putChild(b"ws", _branch(b"echo", Place(messages, methods=frozenset({b"GET"}))))
    return DemoSite(root, clock, websockets)


def index(request: Request) -> bytes:
    """Answer ``GET /`` with what there is, as lines to paste into a shell."""
    http_origin = origin(request)
    # http becomes ws, and https wss.
    ws_origin = f"ws{http_origin.removeprefix('http')}"
    page = _INDEX.format(origin=http_origin, ws_origin=ws_origin, hello=_HELLO_EVENT)
    return text_content(request, page)


def origin(request: Request) -> str:
    """Return the origin under which the client knows this site.

    A host that would not be safe to paste into a shell is not repeated.
    """
    scheme: bytes = request.getHeader(b"X-Forwarded-Proto") or b"http"
    host: bytes = request.getHeader(b"X-Forwarded-Host") or request.getHeader(b"Host") or b""
    if scheme not in (b"http", b"https") or not _AUTHORITY.fullmatch(host):
        return "http://localhost"
    return f"{scheme.decode()}://{host.decode()}"


def _branch(name: bytes, place: Place | Branch) -> Branch:
    branch = Branch()
    branch.putChild(name, place)
    return branch
