"""Spans of accounts: names, attributes, times, errors, and what must not stand in them."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pyproxy.account import Account
from pyproxy.observe.masking import Mask
from pyproxy.observe.spans import CLIENT, FAILED, SERVER, SpanSink
from pyproxy.observe.values import MAX_TEXT, attributes
from pyproxy.semantics.dialects.reading import Usage
from pyproxy.semantics.trace_context import SAMPLED, TraceContext
from tests.observe.collector import Span, decode, message_of

BEGAN = 1_800_000_000.25
TRACE, CALLER, MINE, ASKED = b"a" * 32, b"b" * 16, b"c" * 16, b"d" * 16
MASK = Mask.of([b"sekret"])


def account(**facts: Any) -> Account:
    """Return an account of an exchange that is recorded."""
    whole: dict[str, Any] = {
        "method": b"GET",
        "target": b"/a?b=c",
        "scheme": b"http",
        "client": b"192.0.2.1",
        "host": b"front.test:8000",
        "route": "/",
        "status": 200,
        "sent": 5,
        "ended": BEGAN + 0.5,
        "trace": TraceContext(TRACE, CALLER, SAMPLED),
        "span": TraceContext(TRACE, MINE, SAMPLED),
        "upstream_span": TraceContext(TRACE, ASKED, SAMPLED),
        **facts,
    }
    return Account(1, "id-1", float, lambda account: None, BEGAN, **whole)


def asked(**facts: Any) -> Account:
    """Return an account of one for which an upstream was asked."""
    whole: dict[str, Any] = {
        "passed": BEGAN + 0.001,
        "asked": BEGAN + 0.001,
        "connected": BEGAN + 0.01,
        "responded": BEGAN + 0.2,
        "first": BEGAN + 0.25,
        "last": BEGAN + 0.4,
        "peer": "https://api.example",
        "asked_target": b"/v1/a?b=c",
        **facts,
    }
    return account(**whole)


def model(**facts: Any) -> Account:
    """Return an account of a model's answer."""
    whole: dict[str, Any] = {
        "method": b"POST",
        "dialect": "openai-chat",
        "model": "gpt-4.1-2026",
        "events": 3,
        "output_events": 2,
        "outcome": "ended",
        "first_token": BEGAN + 0.26,
        "last_token": BEGAN + 0.39,
        "usage": Usage(11, 7, 3, 2, 1, 0.5),
        "asked_target": b"/v1/chat/completions",
        **facts,
    }
    return asked(**whole)


def spans(one: Account) -> list[Span]:
    """Return the spans of an account, as a collector reads them."""
    taken: list[bytes] = []
    SpanSink(MASK, taken.extend)(one)
    return decode(message_of(*taken))


class ServedTests(SynchronousTestCase):
    """The span of what was served: OpenTelemetry's HTTP spans, Server."""

    def test_whole(self) -> None:
        """Names and types are those of the conventions; its parent is the caller's span."""
        (span,) = spans(
            account(user_agent=b"curl/8", received=3, first=BEGAN + 0.25, passed=BEGAN + 0.125)
        )
        self.assertEqual(
            {
                "http.request.method": "GET",
                "http.route": "/",
                "http.response.status_code": 200,
                "http.request.body.size": 3,
                "http.response.body.size": 5,
                "url.scheme": "http",
                "url.path": "/a",
                "url.query": "b=c",
                "server.address": "front.test",
                "server.port": 8000,
                "client.address": "192.0.2.1",
                "network.protocol.version": "1.1",
                "user_agent.original": "curl/8",
                "pyproxy.route": "/",
                "pyproxy.request_id": "id-1",
            },
            span.values,
        )
        self.assertEqual((TRACE.decode(), MINE.decode()), (span.trace_id, span.span_id))
        self.assertEqual(CALLER.decode(), span.parent_id)
        self.assertEqual(("GET /", SERVER, 0x301), (span.name, span.kind, span.flags))
        self.assertEqual(
            (1_800_000_000_250_000_000, 500_000_000), (span.begin, span.end - span.begin)
        )
        self.assertEqual((0, ""), span.status)
        self.assertEqual(
            {"passed": 1_800_000_000_375_000_000, "first": 1_800_000_000_500_000_000}, span.events
        )

    def test_not_recorded(self) -> None:
        """Nothing is made of what is not to be recorded."""
        self.assertEqual([], spans(asked(span=None, upstream_span=None)))

    def test_root(self) -> None:
        """A trace that was begun here has its first span here."""
        here = TraceContext(TRACE, MINE, SAMPLED)
        (span,) = spans(account(trace=here, trace_begun=True))
        self.assertEqual(("", 0x101), (span.parent_id, span.flags))

    def test_names(self) -> None:
        """A name has few values: of the route its path, of methods the known ones."""
        for facts, name in (
            ({"route": "/v1"}, "GET /v1"),
            ({"route": "chat.example/v1 exactly GET if accept"}, "GET /v1"),
            ({"route": ""}, "GET"),
            ({"method": b"BREW"}, "HTTP /"),
            ({"method": b""}, "HTTP /"),
        ):
            self.assertEqual(name, spans(account(**facts))[0].name)
        values = spans(account(method=b"BREW"))[0].values
        self.assertEqual("_OTHER", values["http.request.method"])
        self.assertEqual("BREW", values["http.request.method_original"])

    def test_errors(self) -> None:
        """What failed, and why; a client's mistake, or its leaving, is no failure here."""
        for facts, error in (
            ({"status": 404}, None),
            ({"status": 400, "error": "http_request_error", "closed_by": "proxy"}, None),
            ({"status": 0, "closed_by": "client"}, None),
            ({"status": 500}, "500"),
            ({"status": 502, "error": "connection_refused"}, "connection_refused"),
            ({"status": 200, "error": "http_response_incomplete"}, "http_response_incomplete"),
            ({"outcome": "ended"}, None),
            ({"outcome": "truncated"}, "truncated"),
            ({"outcome": "empty"}, "empty"),
            ({"outcome": "failed"}, "failed"),
        ):
            (span,) = spans(account(**facts, detail="a\nb"))
            self.assertEqual(error, span.values.get("error.type"), facts)
            self.assertEqual((FAILED, "a b") if error else (0, ""), span.status, facts)

    def test_websocket(self) -> None:
        """A WebSocket is one request."""
        (span,) = spans(account(websocket=True, status=101, messages_sent=3))
        self.assertIs(True, span.values["pyproxy.websocket"])
        self.assertEqual(3, span.values["pyproxy.messages_sent"])

    def test_odd(self) -> None:
        """Whatever a peer sends, the message can be read, and stays small."""
        (span,) = spans(
            account(
                target=b"/\xff?" + b"x" * 60_000,
                host=b"[::1]",
                user_agent=b"a\xc3\xa9",
                client=b"",
                detail="\ud800\u2028",
                status=500,
                ended=BEGAN - 5,
            )
        )
        self.assertEqual("/\\xff", span.values["url.path"])
        self.assertEqual("a\xe9", span.values["user_agent.original"])
        self.assertEqual(MAX_TEXT, len(span.values["url.query"]))
        self.assertEqual(("::1", 80), (span.values["server.address"], span.values["server.port"]))
        self.assertNotIn("client.address", span.values)
        self.assertEqual(span.begin, span.end)
        for host in (b"", b"a b", b"\xff"):
            self.assertNotIn("server.address", spans(account(host=host))[0].values)

    def test_nothing_known(self) -> None:
        """What was refused before anybody knew what it is."""
        trace = TraceContext(TRACE, MINE, SAMPLED)
        one = Account(1, "id-1", float, lambda account: None, BEGAN, trace=trace, span=trace)
        one.trace_begun = True
        (span,) = spans(one)
        self.assertEqual(("HTTP", 0), (span.name, span.end - span.begin))

    def test_secrets(self) -> None:
        """No credential stands in any of it."""
        found = spans(
            asked(
                target=b"/sekret?api_key=abc",
                host=b"sekret",
                asked_target=b"/v1/sekret?api_key=abc",
                user_agent=b"sekret",
                detail="sekret",
                status=502,
                error="connection_refused",
            )
        )
        self.assertEqual(2, len(found))
        self.assertNotIn("sekret", repr(found))
        self.assertNotIn("abc", repr(found))
        self.assertEqual("https://api.example/v1/***?api_key=***", found[1].values["url.full"])


class AskedTests(SynchronousTestCase):
    """The span of what an upstream was asked: OpenTelemetry's HTTP spans, Client."""

    def test_whole(self) -> None:
        """It lies in that of what was served, and has its own moments."""
        served, span = spans(asked(reused=True))
        self.assertEqual(
            {
                "http.request.method": "GET",
                "http.response.status_code": 200,
                "url.full": "https://api.example/v1/a?b=c",
                "server.address": "api.example",
                "server.port": 443,
                "network.protocol.version": "1.1",
                "pyproxy.reused": True,
            },
            span.values,
        )
        self.assertEqual(("GET", CLIENT, 0x101), (span.name, span.kind, span.flags))
        self.assertEqual((served.span_id, ASKED.decode()), (span.parent_id, span.span_id))
        self.assertLess(served.begin, span.begin)
        self.assertEqual(["connected", "responded"], list(span.events))
        self.assertEqual(399_000_000, span.end - span.begin)

    def test_asked_or_not(self) -> None:
        """There is none where no upstream was asked, and one where it could not be reached."""
        unasked = {"connected": None, "first": None, "last": None}
        for facts, count in (
            ({**unasked, "cache": "hit"}, 1),
            ({**unasked, "responded": None, "closed_by": "client"}, 1),
            ({"asked": None, **unasked, "responded": None}, 1),
            ({**unasked, "responded": None, "closed_by": "upstream", "error": "dns_error"}, 2),
            ({**unasked, "responded": None, "error": "connection_timeout"}, 2),
        ):
            self.assertEqual(count, len(spans(asked(**facts))), facts)

    def test_errors(self) -> None:
        """To who asks, a status of 4xx is a failure too."""
        for facts, error, status in (
            ({"status": 404}, "404", 404),
            ({"status": 503}, "503", 503),
            (
                {"status": 502, "error": "http_protocol_error", "first": None},
                "http_protocol_error",
                None,
            ),
            ({"error": "http_response_incomplete"}, "http_response_incomplete", 200),
            ({"cache": "stale"}, None, None),
        ):
            span = spans(asked(**facts))[1]
            self.assertEqual(error, span.values.get("error.type"), facts)
            self.assertEqual(status, span.values.get("http.response.status_code"), facts)
            self.assertEqual(FAILED if error else 0, span.status[0])

    def test_until(self) -> None:
        """It ends with the content, or with what ended it."""
        self.assertEqual(
            [199_000_000, 499_000_000],
            [
                span.end - span.begin
                for span in (
                    spans(asked(first=None, last=None))[1],
                    spans(asked(closed_by="client"))[1],
                )
            ],
        )

    def test_again(self) -> None:
        """A request that was sent again is one span."""
        self.assertEqual(1, spans(asked(attempts=2))[1].values["http.request.resend_count"])


class ModelTests(SynchronousTestCase):
    """What a span says of a model: gen_ai.client.inference."""

    def test_whole(self) -> None:
        """A stream of OpenAI's."""
        _, span = spans(model(peer="https://api.openai.com"))
        values = {
            name: value
            for name, value in span.values.items()
            if name.startswith(("gen_ai.", "pyproxy."))
        }
        self.assertEqual(
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "openai",
                "gen_ai.request.stream": True,
                "gen_ai.response.model": "gpt-4.1-2026",
                "gen_ai.response.time_to_first_chunk": 0.24,
                "gen_ai.usage.input_tokens": 11,
                "gen_ai.usage.output_tokens": 7,
                "gen_ai.usage.cache_read.input_tokens": 3,
                "gen_ai.usage.cache_write.input_tokens": 2,
                "gen_ai.usage.reasoning.output_tokens": 1,
                "pyproxy.cost": 0.5,
            },
            values,
        )
        self.assertEqual(("chat gpt-4.1-2026", CLIENT), (span.name, span.kind))
        self.assertEqual(["connected", "responded", "first_token", "last_token"], list(span.events))

    def test_whole_answer(self) -> None:
        """An answer in one piece has no first chunk; what was not said is not there."""
        _, span = spans(model(events=0, usage=None, model=None))
        self.assertEqual("chat", span.name)
        self.assertEqual(
            ["gen_ai.operation.name", "gen_ai.provider.name"],
            [name for name in span.values if name.startswith("gen_ai.")],
        )

    def test_unknown(self) -> None:
        """What is in no known dialect is no model's."""
        _, span = spans(model(dialect=None))
        self.assertFalse([name for name in span.values if name.startswith("gen_ai.")])

    def test_operations(self) -> None:
        """As the conventions call them."""
        for dialect, path, name in (
            ("openai-chat", b"/v1/chat/completions?x=y", "chat"),
            ("openai-chat", b"/v1/completions", "text_completion"),
            ("openai-chat", b"/v1/embeddings/", "embeddings"),
            ("openai-responses", b"/v1/responses", "chat"),
            ("openai-realtime", b"/v1/realtime", "chat"),
            ("anthropic", b"/v1/messages", "chat"),
            ("gemini", b"/v1beta/models/g-2:streamGenerateContent", "generate_content"),
            ("gemini", b"/v1beta/models/g-2:embedContent", "embeddings"),
            ("ollama", b"/api/chat", "chat"),
            ("ollama", b"/api/generate", "text_completion"),
            ("ollama", b"/api/embed", "embeddings"),
        ):
            _, span = spans(model(dialect=dialect, asked_target=path))
            self.assertEqual(name, span.values["gen_ai.operation.name"], path)

    def test_asked_model(self) -> None:
        """Gemini's has the model that was asked for in its path."""
        _, span = spans(
            model(dialect="gemini", asked_target=b"/v1beta/models/g-2:streamGenerateContent")
        )
        self.assertEqual("g-2", span.values["gen_ai.request.model"])
        self.assertEqual("generate_content g-2", span.name)

    def test_providers(self) -> None:
        """Whose it is the upstream's name says, else the dialect."""
        for dialect, peer, name in (
            ("openai-chat", "http://127.0.0.1:8080", "openai"),
            ("openai-chat", "https://[::1]:8080", "openai"),
            ("openai-chat", "https://api.groq.com", "groq"),
            ("openai-chat", "https://api.x.ai", "x_ai"),
            ("openai-chat", "https://notx.ai", "openai"),
            ("openai-chat", "https://me.openai.azure.com:444", "azure.ai.openai"),
            ("gemini", "https://generativelanguage.googleapis.com", "gcp.gemini"),
            ("gemini", "https://europe-west1-aiplatform.googleapis.com", "gcp.vertex_ai"),
            ("anthropic", "https://bedrock-runtime.us-east-1.amazonaws.com", "aws.bedrock"),
            ("anthropic", "https://api.anthropic.com.", "anthropic"),
            ("ollama", "http://localhost:11434", "ollama"),
        ):
            _, span = spans(model(dialect=dialect, peer=peer))
            self.assertEqual(name, span.values["gen_ai.provider.name"], peer)

    def test_odd(self) -> None:
        """Figures and names that no collector could read do not cost the others."""
        _, span = spans(
            model(model="\ud800" + "x" * 5000, usage=Usage(2**63, -1, cost=float("inf")))
        )
        self.assertNotIn("gen_ai.usage.input_tokens", span.values)
        self.assertNotIn("pyproxy.cost", span.values)
        self.assertEqual(-1, span.values["gen_ai.usage.output_tokens"])
        self.assertTrue(span.values["gen_ai.response.model"].startswith("\\ud800xx"))


class ValuesTests(SynchronousTestCase):
    """OTLP, JSON Protobuf Encoding."""

    def test_types(self) -> None:
        """Integers of 64 bits are strings; a flag is no integer."""
        self.assertEqual(
            [
                {"key": "a", "value": {"intValue": "1"}},
                {"key": "b", "value": {"boolValue": True}},
                {"key": "c", "value": {"doubleValue": 0.5}},
                {"key": "d", "value": {"stringValue": "x"}},
            ],
            json.loads(attributes({"a": 1, "b": True, "c": 0.5, "d": "x", "e": None, "f": ""})),
        )
