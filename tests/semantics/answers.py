"""Answers of models in each dialect, shaped as the vendors' documents and SDKs have them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import attrs

from pyproxy.semantics.dialects.reading import Usage

Event = tuple[bytes, Any]
"""Name and data of an event; data that are no octets are written as JSON."""


@attrs.frozen
class Answer:
    """A streamed answer.

    Attributes:
        said: numbers of the events that carry a piece of it.
    """

    dialect: str
    model: str | None
    usage: Usage
    events: list[Event]
    said: set[int]

    def octets(
        self, indent: int | None = None, compact: bool = True
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield each event with its data as octets."""
        for name, data in self.events:
            yield name, written(data, indent, compact)


def written(data: Any, indent: int | None = None, compact: bool = True) -> bytes:
    """Write data as JSON in one of its styles, if they are no octets already."""
    if isinstance(data, bytes):
        return data
    separators = (",", ":") if compact else None
    return json.dumps(data, indent=indent, separators=separators).encode()


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> Event:
    """Return a chunk of a chat completion."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    common = {"id": "chatcmpl-7", "object": "chat.completion.chunk", "created": 1741569952}
    return b"", {**common, "model": "gpt-4.1-mini", "choices": [choice], **more}


def typed(kind: str, **more: Any) -> Event:
    """Return an event that is named by its kind."""
    return kind.encode(), {"type": kind, **more}


DONE: Event = (b"", b"[DONE]")

CHAT_USAGE = {
    "prompt_tokens": 19,
    "completion_tokens": 30,
    "total_tokens": 49,
    "prompt_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 4, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 20, "audio_tokens": 0},
}
CHAT_READ = Usage(19, 30, 8, 4, 20)

CHAT = Answer(
    "openai-chat",
    "gpt-4.1-mini",
    CHAT_READ,
    [
        chunk({"role": "assistant", "content": "", "refusal": None}, usage=None),
        chunk({"content": 'Say "usage": {"prompt_tokens": 1}'}, usage=None),
        chunk({"content": " twice"}, usage=None),
        chunk({}, "stop", usage=None),
        (b"", {**chunk({})[1], "choices": [], "usage": CHAT_USAGE}),
        DONE,
    ],
    {1, 2},
)

AZURE_CHAT = Answer(
    "openai-chat",
    "gpt-4.1-mini",
    Usage(),
    [
        (b"", {"choices": [], "created": 0, "id": "", "model": "", "prompt_filter_results": []}),
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "Hello"}),
        DONE,
    ],
    {2},
)

TOOL_CHAT = Answer(
    "openai-chat",
    "gpt-4.1-mini",
    Usage(19, 30, 8, 4, 20, 0.0125),
    [
        chunk({"role": "assistant", "content": None}),
        chunk({"tool_calls": [{"index": 0, "function": {"name": "now", "arguments": ""}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"usage":{'}}]}),
        chunk({"content": None, "reasoning_content": "Hm"}),
        chunk({"content": None, "reasoning": "Hm", "reasoning_content": None}),
        chunk({"refusal": "No"}),
        chunk({}, "tool_calls", usage={**CHAT_USAGE, "cost": 0.0125}),
        DONE,
    ],
    {1, 2, 3, 4, 5},
)

VLLM_CHAT = Answer(
    "openai-chat",
    "gpt-4.1-mini",
    Usage(7, 3),
    [
        chunk(
            {"role": "assistant", "content": ""}, usage={"prompt_tokens": 7, "completion_tokens": 0}
        ),
        chunk({"content": "Good"}, usage={"prompt_tokens": 7, "completion_tokens": 1}),
        chunk({"reasoning": "Hm"}, usage={"prompt_tokens": 7, "completion_tokens": 2}),
        chunk({"content": " day"}, usage={"prompt_tokens": 7, "completion_tokens": 3}),
        DONE,
    ],
    {1, 2, 3},
)

GROQ_CHAT = Answer(
    "openai-chat",
    "gpt-4.1-mini",
    Usage(5, 2),
    [
        chunk({"content": "Hi"}, x_groq={"id": "req_1"}),
        chunk({}, "stop", x_groq={"usage": {"prompt_tokens": 5, "completion_tokens": 2}}),
        DONE,
    ],
    {0},
)

MOONSHOT_CHAT = Answer(
    "openai-chat",
    "kimi",
    Usage(5, 2),
    [
        (b"", {"model": "kimi", "choices": [{"delta": {"content": "Hi"}}]}),
        (
            b"",
            {"choices": [{"delta": {}, "usage": {"prompt_tokens": 5, "completion_tokens": 2}}]},
        ),
        DONE,
    ],
    {0},
)

COMPLETION = Answer(
    "openai-chat",
    "davinci",
    Usage(5, 2),
    [
        (b"", {"object": "text_completion", "model": "davinci", "choices": [{"text": "Once"}]}),
        (b"", {"object": "text_completion", "model": "davinci", "choices": [{"text": " more"}]}),
        (
            b"",
            {
                "model": "davinci",
                "choices": [{"text": ""}],
                "usage": {"prompt_tokens": 5, "completion_tokens": 2},
            },
        ),
        DONE,
    ],
    {0, 1},
)

RESPONSE: dict[str, Any] = {
    "id": "resp_7",
    "object": "response",
    "status": "in_progress",
    "error": None,
    "model": "gpt-5",
    "output": [],
    "tools": [{"type": "image_generation", "model": "gpt-image-1"}],
    "usage": None,
}
RESPONSE_DONE: dict[str, Any] = {
    **RESPONSE,
    "status": "completed",
    "output": [
        {"type": "reasoning", "summary": []},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Hi"}],
        },
    ],
    "usage": {
        "input_tokens": 36,
        "input_tokens_details": {"cached_tokens": 12, "cache_write_tokens": 3},
        "output_tokens": 87,
        "output_tokens_details": {"reasoning_tokens": 60},
        "total_tokens": 123,
    },
}
RESPONSES_READ = Usage(36, 87, 12, 3, 60)

RESPONSES = Answer(
    "openai-responses",
    "gpt-5",
    RESPONSES_READ,
    [
        typed("response.created", sequence_number=0, response=RESPONSE),
        typed("response.in_progress", sequence_number=1, response=RESPONSE),
        typed("response.output_item.added", item={"type": "message", "content": []}),
        typed("response.reasoning_summary_text.delta", delta="Hm"),
        typed("response.output_text.delta", delta="", item_id="msg_1"),
        typed("response.output_text.delta", delta="Hi", item_id="msg_1"),
        typed("response.image_generation_call.partial_image", partial_image_b64="AAAA"),
        typed("response.output_text.done", text="Hi"),
        typed("response.completed", response=RESPONSE_DONE),
    ],
    {3, 5, 6},
)

QUIET_RESPONSES = Answer(
    "openai-responses",
    "gpt-5",
    RESPONSES_READ,
    [
        typed("response.created", response=RESPONSE),
        typed(
            "response.incomplete",
            response={**RESPONSE_DONE, "output": [{"type": "web_search_call", "id": "ws_1"}]},
        ),
    ],
    {1},
)

ANTHROPIC = Answer(
    "anthropic",
    "claude-sonnet-4-5",
    Usage(25 + 100 + 50, 15, 100, 50, 9),
    [
        typed("ping"),
        typed(
            "message_start",
            message={
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "model": "claude-sonnet-4-5",
                "content": [],
                "stop_reason": None,
                "usage": {
                    "input_tokens": 25,
                    "cache_creation_input_tokens": 50,
                    "cache_read_input_tokens": 100,
                    "output_tokens": 1,
                },
            },
        ),
        typed("content_block_start", index=0, content_block={"type": "thinking", "thinking": ""}),
        typed("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "Hm"}),
        typed("content_block_stop", index=0),
        typed("content_block_start", index=1, content_block={"type": "text", "text": ""}),
        typed("ping"),
        typed("content_block_delta", index=1, delta={"type": "text_delta", "text": ""}),
        typed("content_block_delta", index=1, delta={"type": "text_delta", "text": 'Say ""'}),
        typed("content_block_stop", index=1),
        typed("content_block_start", index=2, content_block={"type": "tool_use", "input": {}}),
        typed("content_block_delta", delta={"type": "input_json_delta", "partial_json": ""}),
        typed("content_block_delta", delta={"type": "input_json_delta", "partial_json": '{"a"'}),
        typed(
            "message_delta",
            delta={"stop_reason": "tool_use", "stop_sequence": None},
            usage={"output_tokens": 15, "output_tokens_details": {"thinking_tokens": 9}},
        ),
        typed("message_stop"),
    ],
    {3, 8, 10, 12},
)


def piece(*parts: dict[str, Any], **more: Any) -> Event:
    """Return a piece of a Gemini answer."""
    content = {"parts": list(parts), "role": "model"}
    return b"", {
        "candidates": [{"content": content, "index": 0}],
        **more,
        "modelVersion": "gemini-2.5-flash",
        "responseId": "r7",
    }


GEMINI = Answer(
    "gemini",
    "gemini-2.5-flash",
    Usage(8, 20 + 100, 4, None, 100),
    [
        piece({"text": "Hm", "thought": True}, usageMetadata={"promptTokenCount": 8}),
        piece({"text": "Hello"}, usageMetadata={"promptTokenCount": 8, "candidatesTokenCount": 2}),
        piece(
            {"functionCall": {"name": "f", "args": {"usageMetadata": {"promptTokenCount": 1}}}},
            usageMetadata={"promptTokenCount": 8, "candidatesTokenCount": 9},
        ),
        piece({"inlineData": {"mimeType": "image/png", "data": "AAAA"}}),
        piece(
            {"text": "", "thoughtSignature": "c2ln"},
            usageMetadata={
                "promptTokenCount": 8,
                "candidatesTokenCount": 20,
                "thoughtsTokenCount": 100,
                "cachedContentTokenCount": 4,
                "totalTokenCount": 128,
            },
        ),
    ],
    {0, 1, 2, 3},
)

OLLAMA = Answer(
    "ollama",
    "llama3.2",
    Usage(26, 298, durations_ns={"total_duration": 4_883_583_458, "eval_duration": 4_799_921_000}),
    [
        (
            b"",
            {"model": "llama3.2", "message": {"role": "assistant", "content": ""}, "done": False},
        ),
        (
            b"",
            {"model": "llama3.2", "message": {"role": "assistant", "content": "Hi"}, "done": False},
        ),
        (
            b"",
            {
                "model": "llama3.2",
                "message": {"role": "assistant", "content": "", "thinking": "Hm"},
                "done": False,
            },
        ),
        (
            b"",
            {
                "model": "llama3.2",
                "message": {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [{"function": {"name": "now", "arguments": {}}}],
                },
                "done": False,
            },
        ),
        (
            b"",
            {
                "model": "llama3.2",
                "message": {"role": "assistant", "content": ""},
                "done_reason": "stop",
                "done": True,
                "total_duration": 4_883_583_458,
                "prompt_eval_count": 26,
                "eval_count": 298,
                "eval_duration": 4_799_921_000,
            },
        ),
    ],
    {1, 2, 3},
)

OLLAMA_GENERATE = Answer(
    "ollama",
    "llama3.2",
    Usage(None, 2),
    [
        (b"", {"model": "llama3.2", "response": "Hi", "done": False}),
        (b"", {"model": "llama3.2", "response": "", "done": True, "eval_count": 2}),
    ],
    {0},
)

STREAMS = (
    CHAT,
    AZURE_CHAT,
    TOOL_CHAT,
    VLLM_CHAT,
    GROQ_CHAT,
    MOONSHOT_CHAT,
    COMPLETION,
    RESPONSES,
    QUIET_RESPONSES,
    ANTHROPIC,
    GEMINI,
    OLLAMA,
    OLLAMA_GENERATE,
)


def _spent(input_tokens: int, output_tokens: int, cached: int) -> dict[str, Any]:
    return {
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "input_token_details": {"text_tokens": input_tokens, "cached_tokens": cached},
        "output_token_details": {"text_tokens": 1, "audio_tokens": output_tokens - 1},
    }


REALTIME = Answer(
    "openai-realtime",
    "gpt-realtime",
    Usage(30, 12, 4),
    [
        (b"", {"type": "session.created", "event_id": "e1", "session": {"model": "gpt-realtime"}}),
        (b"", {"type": "input_audio_buffer.speech_started", "event_id": "e2"}),
        (
            b"",
            {"event_id": "e3", "type": "response.created", "response": {"status": "in_progress"}},
        ),
        (b"", {"type": "response.output_audio.delta", "event_id": "e4", "delta": "AAAA" * 100}),
        (b"", {"type": "response.output_audio_transcript.delta", "delta": "Hi"}),
        (b"", {"type": "conversation.item.input_audio_transcription.delta", "delta": "Hey"}),
        (b"", {"type": "error", "error": {"type": "invalid_request_error", "message": "No"}}),
        (
            b"",
            {
                "type": "response.done",
                "response": {"status": "completed", "usage": _spent(10, 5, 4)},
            },
        ),
        (
            b"",
            {
                "response": {"status": "cancelled", "usage": _spent(20, 7, 0)},
                "type": "response.done",
            },
        ),
    ],
    {3, 4},
)

WEBSOCKET_RESPONSES = Answer(
    "openai-realtime",
    "gpt-5",
    Usage(72, 174, 24, 6, 120),
    [(name, data) for _ in range(2) for name, data in RESPONSES.events if b"ima" not in name],
    {3, 4, 5, 11, 12, 13},
)

SESSIONS = (REALTIME, WEBSOCKET_RESPONSES)

EMBEDDINGS = {
    "object": "list",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.25, -1e-05] * 200}],
    "model": "text-embedding-3-small",
    "usage": {"prompt_tokens": 8, "total_tokens": 8},
}

WHOLE: tuple[tuple[Any, str, str, Usage], ...] = (
    (
        {
            "object": "chat.completion",
            "model": "gpt-4.1-mini",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}}],
            "usage": CHAT_USAGE,
        },
        "openai-chat",
        "gpt-4.1-mini",
        CHAT_READ,
    ),
    (EMBEDDINGS, "openai-chat", "text-embedding-3-small", Usage(8)),
    (RESPONSE_DONE, "openai-responses", "gpt-5", RESPONSES_READ),
    (
        {
            "type": "message",
            "model": "claude-sonnet-4-5",
            "content": [{"type": "text", "text": "Hi"}],
            "usage": {"input_tokens": 5, "output_tokens": 2, "cache_read_input_tokens": 3},
        },
        "anthropic",
        "claude-sonnet-4-5",
        Usage(8, 2, 3),
    ),
    (GEMINI.events[1][1], "gemini", "gemini-2.5-flash", Usage(8, 2)),
    ([data for _, data in GEMINI.events], "gemini", "gemini-2.5-flash", GEMINI.usage),
    (
        {**OLLAMA.events[-1][1], "message": {"role": "assistant", "content": "Hi"}},
        "ollama",
        "llama3.2",
        OLLAMA.usage,
    ),
)
"""Answers that are no streams: content, dialect, model, usage."""
