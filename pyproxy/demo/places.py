"""What answers at a path: the method's check, the parameters, and refusals with a sentence.

Every refusal has the shape of an OpenAI error object, so that an SDK shows its sentence.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from twisted.web.resource import IResource, Resource
from twisted.web.server import Request

from pyproxy.demo.request import DemoRequest

Answer = Callable[[DemoRequest], bytes | int]
"""Take a request; return the whole content, or ``NOT_DONE_YET`` when it is written elsewhere."""

READ = frozenset({b"GET", b"HEAD"})
ANY_METHOD: frozenset[bytes] = frozenset()

PLAIN = "text/plain; charset=utf-8"

_DIGITS_LIMIT = 18


class Refusal(Exception):
    """The request is answered with an error object.

    Args:
        status: the status code, 4xx.
        sentence: what is wrong and what would be right.
        code: OpenAI's short name for it, if there is one.
        param: the parameter at fault, if it is one.
    """

    def __init__(
        self, status: int, sentence: str, *, code: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.code = code
        self.param = param


class Place(Resource):
    """A path and, if ``deep``, everything below it.

    Args:
        answer: what happens with a request.
        methods: those allowed; empty for any.
        deep: whether paths below this one belong to it too.
    """

    isLeaf = True

    def __init__(
        self, answer: Answer, *, methods: frozenset[bytes] = READ, deep: bool = False
    ) -> None:
        Resource.__init__(self)
        self._answer = answer
        self._methods = methods
        self._deep = deep

    def render(self, request: DemoRequest) -> bytes | int:
        """Answer, or say why not."""
        try:
            if request.postpath and not self._deep:
                nothing_here(request)
            if self._methods and request.method not in self._methods:
                allow = b", ".join(sorted(self._methods))
                request.responseHeaders.setRawHeaders(b"Allow", [allow])
                raise Refusal(405, f"Use {allow.decode()} here.", code="method_not_allowed")
            return self._answer(request)
        except Refusal as refusal:
            phrase = HTTPStatus(refusal.status).phrase  # twisted.web has none for 426
            request.setResponseCode(refusal.status, phrase.encode("ascii"))
            return json_content(request, error_object(refusal))


class Branch(Resource):
    """A path that only leads to others."""

    def __init__(self) -> None:
        Resource.__init__(self)

    def getChild(self, path: bytes, request: DemoRequest) -> IResource:
        """Return what says that there is nothing here."""
        return Place(nothing_here, methods=ANY_METHOD, deep=True)

    def render(self, request: DemoRequest) -> bytes | int:
        """Say that there is nothing here."""
        return Place(nothing_here, methods=ANY_METHOD, deep=True).render(request)


def nothing_here(request: Request) -> bytes:
    """Refuse a path that nothing answers.

    Raises: Refusal, always.
    """
    path = request.path.decode("latin-1")
    raise Refusal(404, f"Nothing is at {path}; GET / lists what there is.", code="not_found")


def error_object(refusal: Refusal) -> dict[str, Any]:
    """Return a refusal in OpenAI's shape."""
    return {
        "error": {
            "message": refusal.sentence,
            "type": "invalid_request_error",
            "param": refusal.param,
            "code": refusal.code,
        }
    }


def json_content(request: Request, value: object) -> bytes:
    """Declare JSON and return it, with a line end for those who read it in a terminal."""
    request.setHeader(b"Content-Type", b"application/json")
    return json.dumps(value, indent=2).encode() + b"\n"


def text_content(request: Request, text: str) -> bytes:
    """Declare plain text and return it."""
    request.setHeader(b"Content-Type", PLAIN.encode())
    request.setHeader(b"X-Content-Type-Options", b"nosniff")
    return text.encode()


def whole_number(request: Request, name: str, *, default: int, least: int, most: int) -> int:
    """Return a query parameter.

    Args:
        default: what its absence means.
        least: the smallest value allowed, and ``most`` the largest.
    Raises: Refusal if it is there more than once, is no decimal number, or out of bounds.
    """
    given: list[bytes] = request.args.get(name.encode(), [])
    if not given:
        return default
    if len(given) > 1:
        raise Refusal(400, f"{name} may be given only once.", param=name)
    return within(name, given[0], least=least, most=most)


def within(name: str, given: object, *, least: int, most: int) -> int:
    """Return a number between two bounds.

    Args: given: digits from a query, or whatever stood in a JSON object.
    Raises: Refusal if it is anything else.
    """
    number = None
    if isinstance(given, bytes):
        if given.isdigit() and len(given) <= _DIGITS_LIMIT:
            number = int(given)
        given = given.decode("latin-1")
    elif isinstance(given, int) and not isinstance(given, bool):
        number = given
    if number is None or not least <= number <= most:
        raise Refusal(
            400, f"{name} must be a whole number from {least} to {most}, not {given!r}.", param=name
        )
    return number
