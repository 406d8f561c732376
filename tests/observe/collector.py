"""Reads what a collector of spans is sent, with OpenTelemetry's own messages."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import attrs
import opentelemetry.proto.collector.trace.v1.trace_service_pb2 as trace_service_pb2
from google.protobuf import json_format


@attrs.frozen
class Span:
    """A span as a collector has it.

    Attributes:
        begin, end: nanoseconds of the epoch.
        status: its code and message.
        events: names, each with its nanoseconds.
        service: the attributes of who sent it.
    """

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: int
    flags: int
    begin: int
    end: int
    status: tuple[int, str]
    values: dict[str, Any]
    events: dict[str, int]
    service: dict[str, Any]


def decode(octets: bytes) -> list[Span]:
    """Return the spans of a message.

    Whatever is not in the message's definition is an error; identifiers alone are hexadecimal
    where Protobuf's JSON has base64.  Spec: OTLP/HTTP, JSON Protobuf Encoding.
    """
    document = json.loads(octets)
    for resource in document["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                for name in ("traceId", "spanId", "parentSpanId"):
                    if name in span:
                        span[name] = b64encode(bytes.fromhex(span[name])).decode("ascii")
    message = trace_service_pb2.ExportTraceServiceRequest()
    json_format.ParseDict(document, message)
    return [
        _span(span, _values(resource.resource.attributes))
        for resource in message.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def message_of(*spans: bytes) -> bytes:
    """Return spans in JSON as a message."""
    return b'{"resourceSpans":[{"scopeSpans":[{"spans":[%b]}]}]}' % b",".join(spans)


def _span(span: Any, service: dict[str, Any]) -> Span:
    return Span(
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.name,
        span.kind,
        span.flags,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        (span.status.code, span.status.message),
        _values(span.attributes),
        {event.name: event.time_unix_nano for event in span.events},
        service,
    )


def _values(pairs: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in pairs:
        if pair.key in found:
            raise AssertionError(f"{pair.key} stands there twice")
        found[pair.key] = getattr(pair.value, pair.value.WhichOneof("value"))
    return found
