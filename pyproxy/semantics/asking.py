"""Chat streams that are asked for what they took, and what comes of it taken out again.

What a client wrote stays as it is, octet by octet; a member is put in.
Sources: OpenAI's Chat Completions API, ``stream_options``; vLLM's ``continuous_usage_stats``.
"""

from __future__ import annotations

import re

from pyproxy.semantics.dialects.members import Members, members, parse, parse_members
from pyproxy.semantics.fields import Fields, essence, tokens, values
from pyproxy.semantics.messages import RequestHead
from pyproxy.semantics.sse import EventReader

MAX_ASKED_BYTES = 1024 * 1024
"""Octets of a request's content that is looked into; to parse a MiB of text takes about 5 ms."""

_UNTOUCHED = frozenset(
    {b"content-encoding", b"content-digest", b"digest", b"content-md5", b"signature", b"expect"}
)
"""Request fields by which content has to stay as it is, or is not sent before it is asked for."""

_BLANK = frozenset({b"\n", b"\r", b"\r\n"})

_options = re.compile(rb'"stream_options"\s*:\s*\{').finditer
_no_choices = re.compile(rb'"choices"\s{0,8}:\s{0,8}\[\s{0,8}\]').search


def may_be_read(head: RequestHead, length: int) -> bool:
    """Tell whether a request's content may be looked into before it is sent.

    Args: its declared length, not positive without one.
    """
    if head.method != b"POST" or not 0 < length <= MAX_ASKED_BYTES:
        return False
    if not _UNTOUCHED.isdisjoint(head.names):
        return False
    types = tokens(values(head.fields, b"content-type"))
    return len(types) == 1 and essence(types[0]) == b"application/json"


def is_chat(target: bytes) -> bool:
    """Tell whether a target is that of chat completions, or of completions."""
    return target.partition(b"?")[0].endswith(b"/completions")


def streams(content: bytes) -> bool:
    """Tell whether JSON content asks for a stream."""
    return _parsed(content).get("stream") is True


def asking(content: bytes, continuous: bool) -> bytes | None:
    """Return the content of a request for a chat stream, asking for its usage too.

    Args: continuous, to ask for it in every chunk.
    Returns: None where the client said whether it wants it, no stream is asked for, or it cannot be
        told where to write it.
    """
    said = _parsed(content)
    if said.get("stream") is not True or not ("messages" in said or "prompt" in said):
        return None
    wish = b'"include_usage":true'
    if continuous:
        wish += b',"continuous_usage_stats":true'
    if "stream_options" not in said:
        place = content.index(b"{") + 1
        return b'%b"stream_options":{%b},%b' % (content[:place], wish, content[place:])
    options = members(said, "stream_options")
    found = list(_options(content))
    if not isinstance(said["stream_options"], dict) or len(found) != 1:
        return None
    if "include_usage" in options or (continuous and "continuous_usage_stats" in options):
        return None
    place = found[0].end()
    comma = b"," if options else b""
    return b"%b%b%b%b" % (content[:place], wish, comma, content[place:])


def _parsed(content: bytes) -> Members:
    """Return the members of content that is an object in UTF-8."""
    if not content.lstrip(b" \t\r\n").startswith(b"{"):
        return {}
    value = parse(content)
    return value if isinstance(value, dict) else {}


def with_length(fields: Fields, length: int) -> Fields:
    """Return fields of a request whose content has another length now."""
    return [
        (name, b"%d" % length) if name.lower() == b"content-length" else (name, value)
        for name, value in fields
    ]


def without_usage(stream: bytes) -> bytes:
    """Return whole events of a chat stream, without one that has a usage and no choice."""
    if _no_choices(stream) is None or b'"usage"' not in stream:
        return stream
    kept: list[bytes] = []
    block: list[bytes] = []
    for line in stream.splitlines(keepends=True):
        block.append(line)
        if line in _BLANK:
            octets = b"".join(block)
            if not _is_usage(octets):
                kept.append(octets)
            block.clear()
    return b"".join((*kept, *block))


def _is_usage(block: bytes) -> bool:
    """Tell whether an event is the chunk that is sent for ``include_usage``."""
    events = EventReader().feed(block)
    if len(events) != 1:
        return False
    said = parse_members(events[0][1] or b"")
    return said.get("choices") == [] and isinstance(said.get("usage"), dict)
