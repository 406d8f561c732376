"""What a page of the admin site is: a content for whoever reads, and a refusal for everything else.

Must not know what any page is about, nor who may read it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from http import HTTPStatus

import attrs
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request

READ = (b"GET", b"HEAD")


@attrs.frozen
class Content:
    """What is answered."""

    octets: bytes
    media_type: bytes = b"application/json"
    status: int = 200


def in_json(value: object, status: int = 200, media_type: bytes = b"application/json") -> Content:
    """Return a value in JSON, with a line end for those who read it in a terminal."""
    return Content(json.dumps(value, indent=2).encode("ascii") + b"\n", media_type, status)


def problem(status: int, detail: str) -> Content:
    """Return what says why there is nothing else.  Spec: RFC 9457 3."""
    document = {"title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return in_json(document, status, b"application/problem+json")


def answer(request: Request, content: Content) -> bytes:
    """Declare a content; return what is left to write of it."""
    request.setResponseCode(content.status, HTTPStatus(content.status).phrase.encode("ascii"))
    request.setHeader(b"Content-Type", content.media_type)
    request.setHeader(b"Content-Length", b"%d" % len(content.octets))
    # twisted.web would cut it off by itself, and say so in the log.
    return b"" if request.method == b"HEAD" else content.octets


class Refusal(Resource):
    """The same answer to everything, here and below."""

    isLeaf = True

    def __init__(self, content: Content) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._content = content

    def render(self, request: Request) -> bytes:
        """Answer."""
        return answer(request, self._content)


NOTHING = Refusal(problem(404, "Nothing is here; GET /api lists what there is."))


class Branch(Resource):
    """A path that only leads to others."""

    def getChild(self, path: bytes, request: Request) -> IResource:
        """Return what says that there is nothing here."""
        return NOTHING

    def render(self, request: Request) -> bytes:
        """Say that there is nothing here."""
        return NOTHING.render(request)


class Page(Branch):
    """A path that can be read; others may lie below it.

    Attributes:
        guarded: a web page of another site must not read it.
        to_strangers: what such a page reads instead; None for a refusal.
    """

    to_strangers: Page | None = None

    def __init__(self, content: Callable[[], Content], guarded: bool = True) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._content = content
        self.guarded = guarded

    def render(self, request: Request) -> bytes:
        """Answer, or say how to ask."""
        if request.method in READ:
            return answer(request, self._content())
        request.setHeader(b"Allow", b", ".join(READ))
        return answer(request, problem(405, "This can be read only: use GET or HEAD."))


def paths(resource: Resource, above: str = "") -> Iterator[str]:
    """Give the path of everything below a resource that is more than a branch."""
    for name, child in sorted(resource.children.items()):
        path = f"{above}/{name.decode('ascii')}"
        if type(child) is not Branch:
            yield path
        if isinstance(child, Resource):
            yield from paths(child, path)
