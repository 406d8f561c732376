"""Streams keep their moments, hold back for a full socket and end with their client."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from tests.demo.kit import DemoClient


class ClockTests(SynchronousTestCase):
    """``/sse/clock``."""

    def test_events_come_at_their_moments(self) -> None:
        """The first event comes at once, each other one an interval after the one before."""
        client = DemoClient()
        answer = client.ask("GET", "/sse/clock?interval_ms=200&count=3")
        self.assertEqual(answer.field("Content-Type"), "text/event-stream; charset=utf-8")
        self.assertEqual(len(answer.events), 1)
        client.clock.advance(0.19)
        self.assertEqual(len(client.answer().events), 1)
        client.clock.advance(0.01)
        self.assertEqual(len(client.answer().events), 2)
        self.assertFalse(client.answer().complete)
        client.clock.advance(0.2)
        answer = client.answer()
        self.assertTrue(answer.complete)
        ticks = [json.loads(data) for data in answer.events]
        self.assertEqual([tick["tick"] for tick in ticks], [1, 2, 3])
        self.assertEqual(ticks[2]["time"], "1970-01-01T00:00:00.400+00:00")
        self.assertIn(b"id: 3\ndata: ", answer.content)

    def test_a_late_timer_does_not_shift_the_others(self) -> None:
        """A moment counts from the moment before, not from when that was written."""
        client = DemoClient()
        client.send("GET", "/sse/clock?interval_ms=1000")
        client.clock.advance(1.4)
        self.assertEqual(len(client.answer().events), 2)
        client.clock.advance(0.6)
        self.assertEqual(len(client.answer().events), 3)

    def test_goes_on_after_last_event_id(self) -> None:
        """An EventSource that comes back gets the events after its last (WHATWG HTML 9.2)."""
        client = DemoClient()
        answer = client.ask("GET", "/sse/clock?count=1", fields={"Last-Event-ID": "41"})
        self.assertEqual(json.loads(answer.events[0])["tick"], 42)
        answer = client.ask("GET", "/sse/clock?count=1", fields={"Last-Event-ID": "x" * 40})
        self.assertEqual(json.loads(answer.events[0])["tick"], 1)

    def test_client_that_leaves_ends_it(self) -> None:
        """No timer is left when the client has gone."""
        client = DemoClient()
        client.send("GET", "/sse/clock")
        self.assertEqual(client.streams_waiting, 1)
        client.leave()
        self.assertEqual(client.streams_waiting, 0)

    def test_full_socket_holds_events_back(self) -> None:
        """A paused stream has no timer and writes nothing; it goes on without a burst."""
        client = DemoClient()
        client.send("GET", "/sse/clock?interval_ms=100")
        producer = client.producer
        producer.pauseProducing()
        self.assertEqual(client.streams_waiting, 0)
        client.clock.advance(10)
        self.assertEqual(len(client.answer().events), 1)
        producer.resumeProducing()
        self.assertEqual(len(client.answer().events), 2)
        client.clock.advance(0.1)
        self.assertEqual(len(client.answer().events), 3)

    def test_client_that_leaves_a_paused_stream_ends_it(self) -> None:
        """What resumes afterwards does not write."""
        client = DemoClient()
        client.send("GET", "/sse/clock?interval_ms=100")
        producer = client.producer
        producer.pauseProducing()
        client.leave()
        producer.resumeProducing()
        self.assertEqual(client.streams_waiting, 0)

    def test_head_has_no_content(self) -> None:
        """HEAD gets the head of the stream and nothing runs on (RFC 9110 9.3.2)."""
        client = DemoClient()
        answer = client.ask("HEAD", "/sse/clock")
        self.assertEqual((answer.status, answer.content), (200, b""))
        self.assertEqual(client.streams_waiting, 0)
        self.assertEqual(client.ask("GET", "/status/200").status, 200)

    def test_bad_interval_is_refused(self) -> None:
        """An endless stream without a wait is not offered."""
        answer = DemoClient().ask("GET", "/sse/clock?interval_ms=0")
        self.assertEqual(answer.status, 400)
        self.assertEqual(
            answer.sentence, "interval_ms must be a whole number from 1 to 3600000, not '0'."
        )


class SlowTests(SynchronousTestCase):
    """``/slow``."""

    def test_sends_nothing_before_its_time(self) -> None:
        """Not even a head."""
        client = DemoClient()
        client.send("GET", "/slow?first_byte_ms=2000")
        client.clock.advance(1.99)
        self.assertEqual(client.transport.value(), b"")
        client.clock.advance(0.01)
        self.assertEqual(client.answer().content, b"This took 2000 ms to its first byte.\n")
        self.assertTrue(client.answer().complete)

    def test_client_that_leaves_before_the_first_byte_ends_it(self) -> None:
        """The wait ends with the client."""
        client = DemoClient()
        client.send("GET", "/slow")
        client.leave()
        self.assertEqual(client.streams_waiting, 0)
        self.assertEqual(client.transport.value(), b"")
