"""Trace context: which trace a request belongs to.

Owns the ``traceparent`` field.  ``tracestate`` is passed on as it is with a valid ``traceparent``,
and dropped without one.
Spec: W3C Trace Context 3.2, 4.3; the random flag: Trace Context Level 2, 3.2.2.5.
"""

from __future__ import annotations

import re

import attrs

from pyproxy.semantics.fields import Fields, lacking

SAMPLED, RANDOM = 0x01, 0x02
"""Flags: whoever called may have recorded it; the last 7 octets of the trace ID are random."""

TRACE_ID_BYTES = 16
SPAN_ID_BYTES = 8

_RANDOM_DIGITS = 14
"""Hexadecimal digits at the end of a trace ID that are random.  Spec: Level 2, 3.2.2.5."""

_RANDOM_VALUES: int = 16**_RANDOM_DIGITS

_TRACE_FIELDS = (b"traceparent", b"tracestate")

_traceparent = re.compile(
    rb"(?!ff)([0-9a-f]{2})-((?!0{32})[0-9a-f]{32})-((?!0{16})[0-9a-f]{16})-([0-9a-f]{2})(-.*)?",
    re.DOTALL,
).fullmatch


@attrs.frozen
class TraceContext:
    """A place in a trace.

    Attributes:
        trace_id: 32 hexadecimal digits, in lower case, not all 0.
        span_id: 16 of them, likewise: the caller's span; the field calls it ``parent-id``.
        flags: SAMPLED and RANDOM; others are not passed on.
    """

    trace_id: bytes
    span_id: bytes
    flags: int = 0

    @property
    def sampled(self) -> bool:
        """Whether the caller may have recorded its span."""
        return bool(self.flags & SAMPLED)

    @property
    def field_value(self) -> bytes:
        """The value of ``traceparent``, in version 00."""
        return b"00-%b-%b-%02x" % (self.trace_id, self.span_id, self.flags)

    def child(self, random_octets: bytes) -> TraceContext:
        """Return the place of a span below this one.  Args: SPAN_ID_BYTES random octets."""
        return attrs.evolve(self, span_id=_identifier(random_octets, SPAN_ID_BYTES))


def parse(value: bytes) -> TraceContext | None:
    """Parse a ``traceparent``; None for a malformed one, with which a trace begins anew.

    A later version is read as far as it is like version 00, which has nothing behind its flags.
    More than one field, or more than one value in it, is malformed.
    """
    match = _traceparent(value)
    if match is None or (match[1] == b"00" and match[5] is not None):
        return None
    return TraceContext(match[2], match[3], int(match[4], 16) & (SAMPLED | RANDOM))


def begin(random_octets: bytes, sampled: bool) -> TraceContext:
    """Begin a trace.

    Args: TRACE_ID_BYTES and SPAN_ID_BYTES random octets in a row; whether it will be recorded.
    """
    return TraceContext(
        _identifier(random_octets[:TRACE_ID_BYTES], TRACE_ID_BYTES),
        _identifier(random_octets[TRACE_ID_BYTES:], SPAN_ID_BYTES),
        RANDOM | (SAMPLED if sampled else 0),
    )


def is_sampled(trace_id: bytes, ratio: float) -> bool:
    """Tell whether a trace is among those that are recorded, wherever that is asked.

    Args: as TraceContext has it, its last 7 octets random; how many of all are, from 0 to 1.
    Spec: OpenTelemetry's TraceState: Probability Sampling, where it is randomness >= threshold.
    """
    return int(trace_id[-_RANDOM_DIGITS:], 16) >= (1 - ratio) * _RANDOM_VALUES


def continued_in(context: TraceContext, fields: Fields) -> Fields:
    """Return a request's fields with a place further down in the trace that they have.

    Spec: W3C Trace Context 3.4, where ``tracestate`` stays.
    """
    return [
        (name, context.field_value) if name.lower() == b"traceparent" else (name, value)
        for name, value in fields
    ]


def begun_in(context: TraceContext, fields: Fields) -> Fields:
    """Return a request's fields with the trace that was begun for it, in place of a malformed one.

    Spec: W3C Trace Context 4.3, where a ``tracestate`` without a trace is dropped.
    """
    kept = lacking(fields, _TRACE_FIELDS)
    return [*kept, (b"traceparent", context.field_value)]


def _identifier(octets: bytes, size: int) -> bytes:
    """Write octets as an identifier.  Raises: ValueError for another number of them.

    All 0 is no identifier, and as likely as any other: it becomes 1.
    """
    if len(octets) != size:
        raise ValueError(f"{len(octets)} octets for an identifier of {size}")
    return octets.hex().encode() if any(octets) else b"%0*x" % (2 * size, 1)
