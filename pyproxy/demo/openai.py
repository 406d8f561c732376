"""The OpenAI wire format without a model: models and chat completions, whole or streamed.

The answer is made of the last user message's words; ``pyproxy.demo.realtime`` gives the same one.
What the clients of OpenAI do not know, and one may give in the query or in the JSON object (an
SDK's ``extra_body``):

``interval_ms``
    the wait between two words of a streamed answer (40; of the model ``demo-slow`` 400).
``first_byte_ms``
    the wait before anything is sent, head included, streamed or not (0).
``words``
    how many words the answer has, instead of what comes of itself.
``fault``
    what goes wrong with a streamed answer: see ``pyproxy.demo.faults``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import cycle, islice
from typing import Any

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.web.server import Request

from pyproxy.demo.faults import end_of, fault_asked, spoilt
from pyproxy.demo.places import Refusal, json_content, whole_number, within
from pyproxy.demo.request import CONTENT_LIMIT, DemoRequest
from pyproxy.demo.streams import LONGEST_MS, TimedPiece, declare_event_stream, event, stream

MODELS = {"demo": 40, "demo-slow": 400}
"""The models, and the milliseconds between two of their words."""

WORDS_LIMIT = 100_000

QUOTED_WORDS = 50
"""Words of the question that the answer repeats."""

RoleAndText = tuple[str, str]
"""Who says something, and what."""

_CREATED = 1_700_000_000

_EXPLANATION = (
    "I am the demo upstream: no model thinks here. "
    "I send one word at a time, each in an event of its own, "
    "so that you can watch a stream pass through the proxy. "
    "Stop reading, and the words end at once."
)


@attrs.frozen
class Completion:
    """An answer, known before its first word is sent.

    Attributes:
        id: of the completion; the same for the same content.
        created: seconds since 1970.
        words: with the spaces before them; joined they are the answer.
        finish_reason: ``stop``, or ``length`` if the client's limit cut the answer.
        prompt_tokens: a token is a word here.
    """

    id: str
    created: int
    model: str
    words: tuple[str, ...]
    finish_reason: str
    prompt_tokens: int

    @property
    def usage(self) -> dict[str, int]:
        """The usage object."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": len(self.words),
            "total_tokens": self.prompt_tokens + len(self.words),
        }

    def whole(self) -> dict[str, Any]:
        """Return the ``chat.completion`` object."""
        message = {"role": "assistant", "content": "".join(self.words), "refusal": None}
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": self.finish_reason,
        }
        return {**self._common("chat.completion"), "choices": [choice], "usage": self.usage}

    def chunks(self, include_usage: bool) -> Iterator[dict[str, Any]]:
        """Yield the ``chat.completion.chunk`` objects: the role, each word, the end, the usage."""
        unknown: dict[str, Any] = {"usage": None} if include_usage else {}
        common = {**self._common("chat.completion.chunk"), **unknown}

        def chunk(delta: dict[str, str], finish_reason: str | None) -> dict[str, Any]:
            choice = {
                "index": 0,
                "delta": delta,
                "logprobs": None,
                "finish_reason": finish_reason,
            }
            return {**common, "choices": [choice]}

        yield chunk({"role": "assistant", "content": ""}, None)
        for word in self.words:
            yield chunk({"content": word}, None)
        yield chunk({}, self.finish_reason)
        if include_usage:
            yield {**common, "choices": [], "usage": self.usage}

    def _common(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": "fp_demo",
        }


def models(request: Request) -> bytes:
    """Answer ``GET /v1/models`` and ``GET /v1/models/{id}``."""
    name = b"/".join(request.postpath or []).decode("utf-8", "replace")
    if name:
        return json_content(request, _model_object(known_model(name)))
    return json_content(
        request, {"object": "list", "data": [_model_object(model) for model in MODELS]}
    )


def chat_completions(request: DemoRequest, clock: IReactorTime) -> int:
    """Answer ``POST /v1/chat/completions``."""
    question = _question(request)
    completion = _completion(question, request, int(clock.seconds()))
    delay = _number(request, question, "first_byte_ms", default=0, most=LONGEST_MS) / 1000
    fault = fault_asked(request, question)
    if not _flag(question, "stream", "stream"):
        if fault is not None:
            raise Refusal(400, "A fault needs stream: true.", param="fault")
        content = json_content(request, completion.whole())
        request.responseHeaders.setRawHeaders(b"Content-Length", [str(len(content)).encode()])
        return stream(request, clock, [(content, 0.0)], delay=delay)
    interval_ms = _number(
        request, question, "interval_ms", default=MODELS[completion.model], most=LONGEST_MS
    )
    options = question.get("stream_options") or {}
    if not isinstance(options, dict):
        raise Refusal(400, "stream_options must be an object.", param="stream_options")
    include_usage = _flag(options, "include_usage", "stream_options.include_usage")
    declare_event_stream(request)
    pieces = _events(completion, include_usage, interval_ms / 1000)
    if fault is not None:
        pieces = spoilt(fault, pieces, len(completion.words))
    return stream(request, clock, pieces, delay=delay, end=end_of(fault))


def _events(completion: Completion, include_usage: bool, interval: float) -> Iterator[TimedPiece]:
    """Yield the events; the wait stands between the words, and nothing waits after the last."""
    waits = len(completion.words)  # the event of the role, and those of all words but the last
    for place, chunk in enumerate(completion.chunks(include_usage)):
        yield event(json.dumps(chunk, separators=(",", ":"))), interval if place < waits else 0.0
    yield event("[DONE]"), 0.0


def _question(request: DemoRequest) -> dict[str, Any]:
    """Return the content's JSON object.

    Raises: Refusal if it is none, or too large.
    """
    if not request.is_json:
        raise Refusal(400, "Send a JSON object, with Content-Type: application/json.")
    if request.content_length > CONTENT_LIMIT:
        raise Refusal(413, f"The content must not exceed {CONTENT_LIMIT} bytes.")
    try:
        question = json.loads(bytes(request.kept))
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"The content is not valid JSON: {error}.") from error
    if not isinstance(question, dict):
        raise Refusal(400, "The content must be a JSON object.")
    return question


def _completion(question: dict[str, Any], request: DemoRequest, now: int) -> Completion:
    """Return the answer to a question.

    Raises: Refusal if the question lacks what OpenAI requires, or asks for more than one choice.
    """
    if "model" not in question:
        raise Refusal(400, "You must provide a model parameter.", param="model")
    model = known_model(question["model"])
    texts = _texts(question)
    if question.get("n") not in (None, 1):
        raise Refusal(400, "n must be 1: the demo has one answer only.", param="n")
    words = answer_words(texts, _number(request, question, "words", default=0, most=WORDS_LIMIT))
    limit = _token_limit(question)
    return Completion(
        id=f"chatcmpl-{request.content_sha256[:24]}",
        created=now,
        model=model,
        words=tuple(words[:limit]),
        finish_reason="length" if limit is not None and limit < len(words) else "stop",
        prompt_tokens=count_words(texts),
    )


def answer_words(texts: list[RoleAndText], wanted: int) -> list[str]:
    """Return the words of an answer, with the spaces before them.

    Args: wanted: how many; 0 for as many as come of themselves.
    """
    asked = next((text for role, text in reversed(texts) if role == "user"), "")
    words = re.findall(r"\s*\S+", _answer(asked))
    if wanted:
        words = [f" {word.lstrip()}" for word in islice(cycle(words), wanted)]
        words[0] = words[0].lstrip()
    return words


def count_words(texts: list[RoleAndText]) -> int:
    """Return how many words there are; a token is a word here."""
    return sum(len(text.split()) for _, text in texts)


def _answer(asked: str) -> str:
    words = asked.split()
    quoted = " ".join(words[:QUOTED_WORDS]) + (" ..." if len(words) > QUOTED_WORDS else "")
    unit = "word" if len(words) == 1 else "words"
    return f'You wrote "{quoted}", which is {len(words)} {unit}. {_EXPLANATION}'


def _texts(question: dict[str, Any]) -> list[RoleAndText]:
    """Return the role and the text of each message.

    Raises: Refusal if there is no message, or one that is none.
    """
    messages = question.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refusal(
            400, "messages is required, and must hold at least one message.", param="messages"
        )
    return [role_and_text(f"messages[{place}]", message) for place, message in enumerate(messages)]


def role_and_text(param: str, message: object) -> RoleAndText:
    """Return who says a message, and its text: of several parts, that of those which have one.

    Raises: Refusal, naming ``param``, if it is no message.
    """
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise Refusal(400, f"{param} must be an object with a role.", param=param)
    content = message.get("content")
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        content = " ".join(part for part in parts if isinstance(part, str))
    if not isinstance(content, str | None):
        raise Refusal(
            400,
            f"{param}.content must be a text or a list of parts.",
            param=f"{param}.content",
        )
    return message["role"], content or ""


def _token_limit(question: dict[str, Any]) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        if question.get(name) is not None:
            return within(name, question[name], least=1, most=2**31)
    return None


def _number(
    request: Request, question: dict[str, Any], name: str, *, default: int, most: int
) -> int:
    """Return a number from the query, else from the question, else the default."""
    default = number_in(question, name, default=default, most=most)
    return whole_number(request, name, default=default, least=0, most=most)


def number_in(owner: dict[str, Any], name: str, *, default: int, most: int) -> int:
    """Return a number from 0 to ``most`` that stands in a JSON object, else the default.

    Raises: Refusal if something else stands there.
    """
    given = owner.get(name)
    return default if given is None else within(name, given, least=0, most=most)


def _flag(owner: dict[str, Any], name: str, param: str) -> bool:
    given = owner.get(name)
    if not isinstance(given, bool | None):
        raise Refusal(400, f"{param} must be true or false.", param=param)
    return bool(given)


def known_model(model: object) -> str:
    """Return a model's name.

    Raises: Refusal if there is no such model.
    """
    if not isinstance(model, str) or model not in MODELS:
        names = " and ".join(MODELS)
        raise Refusal(
            404,
            f"The model {model!r} does not exist; there are {names}.",
            code="model_not_found",
            param="model",
        )
    return model


def _model_object(model: str) -> dict[str, str | int]:
    return {"id": model, "object": "model", "created": _CREATED, "owned_by": "pyproxy"}
