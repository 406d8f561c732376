"""Trace context: ``traceparent`` is read strictly, and written so that it is read again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.semantics.trace_context import (
    RANDOM,
    SAMPLED,
    SPAN_ID_BYTES,
    TRACE_ID_BYTES,
    TraceContext,
    begin,
    begun_in,
    continued_in,
    is_sampled,
    parse,
)
from tests.semantics import strict

TRACE = b"4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = b"00f067aa0ba902b7"


class TraceContextTests(SynchronousTestCase):
    """W3C Trace Context 3.2."""

    def test_parsed(self) -> None:
        """Version 00, and as much of a later one as is like it; unknown flags go.  3.2.2, 4.3."""
        for value, flags in (
            (b"00-%b-%b-01", SAMPLED),
            (b"00-%b-%b-00", 0),
            (b"00-%b-%b-03", SAMPLED | RANDOM),
            (b"00-%b-%b-fd", SAMPLED),
            (b"cc-%b-%b-01", SAMPLED),
            (b"01-%b-%b-01-what-the-future-brings", SAMPLED),
            (b"01-%b-%b-01-", SAMPLED),
        ):
            context = parse(value % (TRACE, SPAN))
            self.assertEqual(TraceContext(TRACE, SPAN, flags), context, value)

    def test_refused(self) -> None:
        """Anything else is none.  3.2.2.1 to 3.2.2.3."""
        good = b"00-%b-%b-01" % (TRACE, SPAN)
        for value in (
            b"",
            good.upper(),
            b" " + good,
            good + b" ",
            good + b"\n",
            good + b"-",
            good + b"-more",
            good + b"," + good,
            b"ff" + good[2:],
            b"0" + good,
            good[:-1],
            good.replace(b"-", b"_"),
            b"01" + good[2:] + b".",
            b"00-%b-%b-01" % (b"0" * 32, SPAN),
            b"00-%b-%b-01" % (TRACE, b"0" * 16),
            b"00-%b-%b-01" % (TRACE[:-1], SPAN),
            b"00-%b-%b-0g" % (TRACE, SPAN),
        ):
            self.assertIsNone(parse(value), value)

    def test_child(self) -> None:
        """A child is in the same trace, with its flags and a span of its own.  4.3."""
        child = TraceContext(TRACE, SPAN, SAMPLED).child(b"\x01" * 8)
        self.assertEqual(b"00-%b-%b-01" % (TRACE, b"01" * 8), child.field_value)
        self.assertTrue(child.sampled)

    def test_not_all_zero(self) -> None:
        """No identifier is all zero, whatever the dice say."""
        context = begin(bytes(24), sampled=False)
        self.assertEqual(b"00-%032x-%016x-02" % (1, 1), context.field_value)
        self.assertFalse(context.sampled)
        self.assertEqual(b"%016x" % 1, context.child(bytes(8)).span_id)

    def test_size(self) -> None:
        """Too few or too many random octets are a mistake of the caller."""
        for size in (0, 23, 25):
            self.assertIn("octets", strict.complaint(begin, bytes(size), True))
        self.assertIn("octets", strict.complaint(TraceContext(TRACE, SPAN).child, bytes(7)))

    @given(
        st.binary(min_size=TRACE_ID_BYTES + SPAN_ID_BYTES, max_size=TRACE_ID_BYTES + SPAN_ID_BYTES),
        st.booleans(),
    )
    def test_read_again(self, octets: bytes, sampled: bool) -> None:
        """What is written is read as it was."""
        context = begin(octets, sampled)
        self.assertEqual(context, parse(context.field_value))
        self.assertEqual(sampled, context.sampled)

    @given(st.binary(max_size=60))
    def test_never_raises(self, octets: bytes) -> None:
        """Octets of a client are read or refused."""
        for value in (octets, b"00-%b-%b-" % (TRACE, SPAN) + octets):
            context = parse(value)
            self.assertTrue(context is None or value.startswith(context.field_value[:53]))

    def test_fields_of_a_begun_one(self) -> None:
        """It takes the place of what was malformed.  4.3."""
        context = TraceContext(TRACE, SPAN, RANDOM)
        for odd in ([], [(b"TraceParent", b"x"), (b"Tracestate", b"a=1"), (b"traceparent", b"y")]):
            fields = [(b"Host", b"h"), *odd, (b"X-Traceparent", b"z")]
            self.assertEqual(
                [
                    (b"Host", b"h"),
                    (b"X-Traceparent", b"z"),
                    (b"traceparent", context.field_value),
                ],
                begun_in(context, fields),
            )

    def test_continued(self) -> None:
        """A place further down takes the caller's; all else stays as and where it was.  3.4."""
        context = TraceContext(TRACE, b"c" * 16, SAMPLED)
        fields = [(b"A", b"b"), (b"TraceParent", b"x"), (b"tracestate", b"y"), (b"c", b"")]
        wanted = [fields[0], (b"TraceParent", context.field_value), *fields[2:]]
        self.assertEqual(wanted, continued_in(context, fields))


class SamplingTests(SynchronousTestCase):
    """OpenTelemetry, TraceState: Probability Sampling."""

    def test_share(self) -> None:
        """What is random decides: at least 1 - share of its range, none for 0, all for 1."""
        for end, share, sampled in (
            (b"0" * 14, 1, True),
            (b"f" * 14, 0, False),
            (b"8" + b"0" * 13, 0.5, True),
            (b"7" + b"f" * 13, 0.5, False),
            (b"e" + b"0" * 13, 0.125, True),
            (b"d" + b"f" * 13, 0.125, False),
        ):
            for start in (b"0", b"f"):
                self.assertIs(sampled, is_sampled(start * 18 + end, share), (end, share))
