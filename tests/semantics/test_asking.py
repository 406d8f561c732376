"""Chat streams that are asked for their usage: what is put in, and what is taken out."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.semantics.asking import (
    MAX_ASKED_BYTES,
    asking,
    is_chat,
    may_be_read,
    with_length,
    without_usage,
)
from pyproxy.semantics.messages import RequestHead
from tests.semantics.test_sse import STREAMS

JSON = (b"Content-Type", b"application/json; charset=utf-8")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
OTHERS = st.dictionaries(st.text(max_size=6), VALUES, max_size=4)
USAGE = b'data: {"id":"1","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n'
WORD = b'data: {"choices":[{"delta":{"content":"a"}}],"usage":null}\n\n'
DONE = b"data: [DONE]\n\n"


class PutInTests(SynchronousTestCase):
    """The member that asks."""

    @given(OTHERS, st.none() | OTHERS, st.booleans(), st.integers(0, 3))
    def test_nothing_else(
        self, others: dict[str, Any], options: dict[str, Any] | None, continuous: bool, gap: int
    ) -> None:
        """The same members and that one, wherever they stand and however they are spaced."""
        said = {**others, "messages": [], "stream": True}
        if options is not None:
            said["stream_options"] = options
        written = (" " * gap + json.dumps(said, indent=gap or None)).encode()
        got = asking(written, continuous)
        wish = {"include_usage": True}
        if continuous:
            wish["continuous_usage_stats"] = True
        if options is not None and not wish.keys().isdisjoint(options):
            self.assertIsNone(got)
        elif got is not None:
            self.assertEqual(
                {**said, "stream_options": {**(options or {}), **wish}}, json.loads(got)
            )
        else:
            self.assertGreater(written.count(b'"stream_options"'), 1)

    def test_exactly(self) -> None:
        """The client's own octets stay as they are."""
        for content, wanted in (
            (
                b'{ "messages":[1.50],"stream":true}',
                b'{"stream_options":{"include_usage":true}, "messages":[1.50],"stream":true}',
            ),
            (
                b'{"prompt":1e2,"stream":true,"stream_options" : { }}',
                b'{"prompt":1e2,"stream":true,"stream_options" : {"include_usage":true }}',
            ),
            (
                b'{"messages":[],"stream":true,"stream_options":{"x":1}}',
                b'{"messages":[],"stream":true,"stream_options":{"include_usage":true,"x":1}}',
            ),
        ):
            self.assertEqual(wanted, asking(content, continuous=False))

    def test_not_for_us(self) -> None:
        """What is no such request, or said what it wants."""
        for content in (
            b'{"messages":[],"stream":false}',
            b'{"messages":[]}',
            b'{"stream":true}',
            b'{"messages":[],"stream":true,"stream_options":{"include_usage":false}}',
            b'{"messages":[],"stream":true,"stream_options":null}',
            b'{"messages":[],"stream":1}',
            b'[{"messages":[],"stream":true}]',
            b'{"messages":[],"stream":true',
            b"\xef\xbb\xbf{}",
            b"",
            b"[" * 100_000,
        ):
            self.assertIsNone(asking(content, continuous=False), content[:60])

    def test_may_be_read(self) -> None:
        """JSON of a known length in bounds, in no coding, which comes without being asked for."""
        for method, fields, length, may in (
            (b"POST", [JSON], 1, True),
            (b"POST", [JSON], MAX_ASKED_BYTES, True),
            (b"POST", [JSON], MAX_ASKED_BYTES + 1, False),
            (b"POST", [JSON], 0, False),
            (b"PUT", [JSON], 1, False),
            (b"POST", [], 1, False),
            (b"POST", [(b"Content-Type", b"text/plain")], 1, False),
            (b"POST", [(b"Content-Type", b"")], 1, False),
            (b"POST", [JSON, JSON], 1, False),
            (b"POST", [JSON, (b"Content-Encoding", b"gzip")], 1, False),
            (b"POST", [JSON, (b"Content-Digest", b"x")], 1, False),
            (b"POST", [JSON, (b"Expect", b"100-continue")], 1, False),
        ):
            head = RequestHead(method, b"/", 1, list(fields))
            self.assertIs(may, may_be_read(head, length), (method, fields, length))

    def test_targets(self) -> None:
        """Of chat alone: others do not know the member, and some refuse what they do not know."""
        for target, chat in (
            (b"/v1/chat/completions", True),
            (b"/v1/completions?a=b", True),
            (b"/v1/messages", False),
            (b"/v1/responses?x=/completions", False),
        ):
            self.assertIs(chat, is_chat(target), target)

    def test_length(self) -> None:
        """The length is mended, and nothing else."""
        fields = [(b"A", b"1"), (b"content-length", b"1")]
        self.assertEqual([(b"A", b"1"), (b"content-length", b"12")], with_length(fields, 12))


class TakenOutTests(SynchronousTestCase):
    """The chunk that is sent for it."""

    def test_chunk(self) -> None:
        """That one alone, wherever it stands and whatever ends its lines."""
        for end in (b"\n", b"\r\n", b"\r"):
            usage, word, done = (one.replace(b"\n", end) for one in (USAGE, WORD, DONE))
            self.assertEqual(word + done, without_usage(word + usage + done))
            self.assertEqual(b"", without_usage(usage))
            self.assertEqual(b": x" + end, without_usage(usage + b": x" + end))

    def test_others(self) -> None:
        """What has choices, no usage, or is none of chat's."""
        for event in (
            WORD,
            DONE,
            b'data: {"choices":[],"prompt_filter_results":[{"usage":1}]}\n\n',
            b'data: {"choices":[],"usage":null}\n\n',
            b'data: {"choices":[{"delta":{"x":{"choices":[]}}}],"usage":{"prompt_tokens":1}}\n\n',
            b'data: {"usage":"\\"choices\\":[]"}\n\n',
        ):
            self.assertEqual(event, without_usage(event), event)

    @given(STREAMS)
    def test_any_stream(self, stream: bytes) -> None:
        """A stream without such a chunk stays as it is, octet by octet."""
        self.assertEqual(stream, without_usage(stream))
        marked = stream + b'data: {"choices":[]}\n\ndata: "usage"\n\n'
        self.assertEqual(marked, without_usage(marked))
