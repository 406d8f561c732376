"""OpenAI chat completions, and those that copy them; completions and embeddings too.

Sources: openai-python ``types/completion_usage.py``, ``types/chat/chat_completion_chunk.py``,
``_streaming.py``; vLLM's ``continuous_usage_stats``.
"""

from __future__ import annotations

from pyproxy.semantics.dialects.members import (
    NONE,
    Members,
    amount,
    count,
    first,
    items,
    members,
    parse_members,
)
from pyproxy.semantics.dialects.reading import Dialect, Reading

# In a JSON string quotes have a backslash before them: none of these can be in a text.  The more
# usual ones stand first; JSON is compact, or spaced as Python writes it.
_STARTS = (
    b'"content": "',
    b'"reasoning_content":"',
    b'"reasoning":"',
    b'"arguments":"',
    b'"text":"',
    b'"refusal":"',
    b'"reasoning_content": "',
    b'"reasoning": "',
    b'"arguments": "',
    b'"text": "',
    b'"refusal": "',
)


def knows(name: bytes, value: Members) -> bool:
    """Tell whether it is a chunk, a completion or what embeddings took."""
    return isinstance(value.get("choices"), list) or "prompt_tokens" in members(value, "usage")


def event(reading: Reading, name: bytes, data: bytes) -> bool:
    """Read a chunk.

    One with text is not taken apart: a few searches for octets are a fifth of what that costs.
    """
    at = data.find(b'"content":"')
    if at < 0 or data.startswith(b'"', at + 11):
        return _other(reading, name, data)
    if b'"usage":{' in data:
        reading.held = data
    return True


def _other(reading: Reading, name: bytes, data: bytes) -> bool:
    if data.startswith(b"[DONE]"):
        reading.finished = True
        return False
    for start in _STARTS:
        at = data.find(start)
        if at >= 0 and not data.startswith(b'"', at + len(start)):
            if b'"usage":{' in data or b'"usage": {' in data:
                reading.held = data
            return True
    return read(reading, name, parse_members(data))


def read(reading: Reading, name: bytes, value: Members) -> bool:
    """Read a chunk or a whole answer that was taken apart."""
    reading.name_model(value, "model")
    if name == b"error" or value.get("error"):
        reading.failed = True
    choice = first(value, "choices")
    # Groq and Moonshot have places of their own.
    for usage in (
        members(value, "usage"),
        members(value, "x_groq", "usage"),
        members(choice, "usage"),
    ):
        if usage:
            _read_usage(reading, usage)
            reading.held = b""
            break
    return bool(items(value, "data")) or any(
        _is_said(one) for one in items(value, "choices") if isinstance(one, dict)
    )


def _is_said(choice: Members) -> bool:
    """Tell whether a choice has a piece of the answer: anything in it but whose turn it is."""
    said = members(choice, "delta") or members(choice, "message") or NONE
    return bool(choice.get("text")) or any(value for name, value in said.items() if name != "role")


def _read_usage(reading: Reading, said: Members) -> None:
    prompt = members(said, "prompt_tokens_details")
    completion = members(said, "completion_tokens_details")
    reading.usage.take(
        input_tokens=count(said, "prompt_tokens"),
        output_tokens=count(said, "completion_tokens"),
        cached_tokens=count(prompt, "cached_tokens"),
        cache_write_tokens=count(prompt, "cache_write_tokens"),
        reasoning_tokens=count(completion, "reasoning_tokens"),
        cost=amount(said, "cost"),
    )


CHAT = Dialect("openai-chat", True, knows, event, read)
