"""What one process counts of exchanges, and the bounds of that."""

from __future__ import annotations

import json
from itertools import accumulate
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.observe.families import FAMILIES, NUMBERS, OTHER, OTHER_METHOD, Histogram
from pyproxy.observe.masking import Mask
from pyproxy.observe.metrics import ROWS_AT_ONCE, Metrics
from pyproxy.observe.rows import MAX_MODELS, MAX_NAME, MAX_ROUTES, MAX_ROWS, Key
from pyproxy.semantics.dialects.reading import Usage
from tests.observe.ended import of_model, over

FAMILY = {family.name: family for family in FAMILIES}


def rows_of(metrics: Metrics) -> dict[Key, list[float]]:
    """Return all rows, page by page."""
    rows: dict[Key, list[float]] = {}
    while True:
        page = metrics.page(len(rows))
        rows.update(page["rows"])
        if not page["more"]:
            return rows


class MetricsTestCase(SynchronousTestCase):
    """A case with what counts."""

    def setUp(self) -> None:
        """Count nothing yet."""
        self.metrics = Metrics.of(Clock())

    def said(self, name: str) -> Any:
        """Return what the only row says of a family: a number, or numbers by label, not 0.

        Of a histogram: how many, and their sum.
        """
        ((_, numbers),) = rows_of(self.metrics).items()
        self.assertEqual(NUMBERS, len(numbers))
        family = FAMILY[name]
        own = numbers[family.at : family.at + family.size]
        if isinstance(family, Histogram):
            return sum(own[:-1]), round(own[-1], 6)
        if not family.label:
            return own[0]
        return {value: number for value, number in zip(family.values, own, strict=True) if number}


class RecordTests(MetricsTestCase):
    """What is counted of an exchange."""

    def test_plain(self) -> None:
        """An exchange that was none of a model's."""
        self.metrics.record(over(received=5, sent=9))
        self.assertEqual([("/", "GET", "2xx", "")], list(rows_of(self.metrics)))
        self.assertEqual((1, 0.03), self.said("http_server_request_duration_seconds"))
        self.assertEqual((1, 0.02), self.said("pyproxy_time_to_first_byte_seconds"))
        self.assertEqual((0, 0), self.said("gen_ai_server_time_to_first_token_seconds"))
        self.assertEqual((0, 0), self.said("gen_ai_server_time_per_output_token_seconds"))
        self.assertEqual({"received": 5, "sent": 9}, self.said("pyproxy_content_bytes_total"))
        self.assertEqual({"new": 1}, self.said("pyproxy_upstream_requests_total"))
        for name in (
            *("pyproxy_tokens_total", "pyproxy_quiet_failures_total", "pyproxy_ended_early_total"),
            *("pyproxy_websocket_messages_total", "pyproxy_cache_results_total"),
        ):
            self.assertEqual({}, self.said(name), name)

    def test_model(self) -> None:
        """Times and tokens of a model's answer."""
        self.metrics.record(of_model())
        self.assertEqual([("/", "POST", "2xx", "m")], list(rows_of(self.metrics)))
        self.assertEqual((1, 0.5), self.said("gen_ai_server_time_to_first_token_seconds"))
        self.assertEqual((1, 0.2), self.said("gen_ai_server_time_per_output_token_seconds"))
        self.assertEqual({"input": 7, "output": 11}, self.said("pyproxy_tokens_total"))
        self.assertEqual({"cached": 3, "reasoning": 2}, self.said("pyproxy_token_details_total"))
        self.assertEqual(1, self.said("pyproxy_event_streams_total"))

    def test_no_time_per_token(self) -> None:
        """There is none of one token, of none that were told, of a stream that did not end well."""
        for one in (
            of_model(output=1),
            of_model(usage=None),
            of_model(usage=Usage()),
            of_model(outcome="truncated"),
            of_model(closed_by="client"),
            of_model(first_token=None),
        ):
            self.metrics.record(one)
        self.assertEqual((0, 0), self.said("gen_ai_server_time_per_output_token_seconds"))

    def test_quiet_failures(self) -> None:
        """Each outcome that is none of the good ones."""
        for outcome in ("ended", "truncated", "empty", "empty", "failed", "new"):
            self.metrics.record(over(outcome=outcome))
        found = self.said("pyproxy_quiet_failures_total")
        self.assertEqual({"truncated": 1, "empty": 2, "failed": 1}, found)
        self.assertEqual(6, self.said("pyproxy_event_streams_total"))

    def test_ends(self) -> None:
        """Who ended it; whoever is unknown makes no series."""
        for who in ("", "client", "client", "upstream", "proxy", "operator", "nobody"):
            self.metrics.record(over(closed_by=who))
        self.assertEqual(
            {"client": 2, "upstream": 1, "proxy": 1, "operator": 1},
            self.said("pyproxy_ended_early_total"),
        )

    def test_websocket(self) -> None:
        """Its messages; an exchange that is none has none."""
        self.metrics.record(
            over(websocket=True, status=101, messages_received=3, messages_sent=4, ended=4600.0)
        )
        self.assertEqual([("/", "GET", "1xx", "")], list(rows_of(self.metrics)))
        self.assertEqual({"received": 3, "sent": 4}, self.said("pyproxy_websocket_messages_total"))
        self.assertEqual((1, 3600.0), self.said("http_server_request_duration_seconds"))

    def test_connections(self) -> None:
        """New and kept ones, and what was sent again; none where no upstream was asked."""
        self.metrics.record(over(reused=True))
        self.metrics.record(over(reused=False, attempts=3))
        self.metrics.record(over(connected=None, attempts=2))
        self.assertEqual({"new": 1, "reused": 1}, self.said("pyproxy_upstream_requests_total"))
        self.assertEqual(2, self.said("pyproxy_upstream_retries_total"))

    def test_cache(self) -> None:
        """In the words of Cache-Status; others are one."""
        for result in ("hit", "uri-miss", "hit", "", "odd", "odder"):
            self.metrics.record(over(cache=result))
        expected = {"hit": 2, "uri-miss": 1, OTHER: 2}
        self.assertEqual(expected, self.said("pyproxy_cache_results_total"))

    def test_no_response(self) -> None:
        """An exchange that had neither a status nor any time but its first."""
        self.metrics.record(over(status=0, responded=None, connected=None, ended=None))
        self.assertEqual([("/", "GET", "none", "")], list(rows_of(self.metrics)))
        self.assertEqual((0, 0), self.said("http_server_request_duration_seconds"))

    def test_clock_set_back(self) -> None:
        """Nothing takes less than no time: a sum that falls would look like a restart."""
        self.metrics.record(over(ended=10.0, responded=20.0))
        self.assertEqual((1, 0.0), self.said("http_server_request_duration_seconds"))

    @given(st.lists(st.floats(0, 1000, allow_nan=False), min_size=1))
    def test_buckets(self, times: list[float]) -> None:
        """A bucket has all that took its bound or less, as Prometheus has it."""
        metrics = Metrics.of(Clock())
        for seconds in times:
            metrics.record(over(began=0.0, ended=seconds))
        family = FAMILY["http_server_request_duration_seconds"]
        assert isinstance(family, Histogram)
        ((_, numbers),) = rows_of(metrics).items()
        counts = list(accumulate(numbers[family.at : family.at + family.size - 1]))
        for bound, count in zip(family.bounds, counts, strict=False):
            self.assertEqual(sum(seconds <= bound for seconds in times), count)
        self.assertEqual(len(times), counts[-1])


class BoundTests(MetricsTestCase):
    """What clients and upstreams make up makes no series without end."""

    def test_models(self) -> None:
        """Beyond a number of models all others are one, and those that were there stay."""
        for number in range(MAX_MODELS + 50):
            self.metrics.record(over(model=f"m{number}"))
        self.metrics.record(over(model="m0"))
        rows = rows_of(self.metrics)
        self.assertEqual(MAX_MODELS + 1, len(rows))
        at = FAMILY["http_server_request_duration_seconds"].at
        counted = {key[3]: sum(numbers[at : at + 18]) for key, numbers in rows.items()}
        self.assertEqual((2, 1, 50), (counted["m0"], counted["m1"], counted[OTHER]))

    def test_methods(self) -> None:
        """A method that nobody knows is one of them all."""
        for method in (b"GET", b"BREW", b"WHEN", b"\xff", b"get"):
            self.metrics.record(over(method=method))
        self.assertEqual({"GET", OTHER_METHOD}, {key[1] for key in rows_of(self.metrics)})

    def test_status(self) -> None:
        """Nor can a status that is none."""
        for status in (100, 204, 302, 404, 599, 600, 999, 0):
            self.metrics.record(over(status=status))
        expected = {"1xx", "2xx", "3xx", "4xx", "5xx", "none"}
        self.assertEqual(expected, {key[2] for key in rows_of(self.metrics)})

    def test_routes(self) -> None:
        """Routes come from the operator; those of ever new configurations are bounded too."""
        for number in range(MAX_ROUTES + 5):
            self.metrics.record(over(route=f"/{number}"))
        self.assertEqual(MAX_ROUTES + 1, len(rows_of(self.metrics)))

    def test_rows(self) -> None:
        """All together have a bound: what comes later is counted, but not apart."""
        for route in range(80):
            for model in range(MAX_MODELS):
                self.metrics.record(over(route=f"/{route}", model=f"m{model}"))
        rows = rows_of(self.metrics)
        self.assertEqual(MAX_ROWS + 1, len(rows))
        at = FAMILY["http_server_request_duration_seconds"].at
        self.assertEqual(80 * MAX_MODELS, sum(sum(row[at : at + 18]) for row in rows.values()))
        self.assertIn((OTHER, OTHER_METHOD, "2xx", OTHER), rows)

    def test_names(self) -> None:
        """A long name is cut, a credential in one masked, half a character replaced."""
        self.metrics.mask = Mask.of([b"hunter2-hunter2"])
        for name in ("n" * 1000, "m-hunter2-hunter2", "sk-abcdefghijkl", "a\ud800b"):
            self.metrics.record(over(model=name))
        names = {key[3] for key in rows_of(self.metrics)}
        self.assertIn("n" * MAX_NAME, names)
        self.assertIn("a?b", names)
        self.assertNotIn("hunter2", "".join(names))
        self.assertNotIn("abcdefghijkl", "".join(names))


class PageTests(MetricsTestCase):
    """What a process tells."""

    def test_pages(self) -> None:
        """Some rows at a time; what comes meanwhile stands behind them; JSON can hold it."""
        for number in range(ROWS_AT_ONCE + 1):
            self.metrics.record(over(route=f"/{number}"))
        first = json.loads(json.dumps(self.metrics.page(0)))
        self.assertEqual((ROWS_AT_ONCE, True), (len(first["rows"]), first["more"]))
        self.metrics.record(over(route="/late"))
        second = json.loads(json.dumps(self.metrics.page(ROWS_AT_ONCE)))
        routes = [key[0] for key, _ in second["rows"]]
        self.assertEqual(([f"/{ROWS_AT_ONCE}", "/late"], False), (routes, second["more"]))
        self.assertEqual(first["process"], second["process"])
        self.assertNotEqual(first["process"], Metrics.of(Clock()).page(0)["process"])

    def test_gauges(self) -> None:
        """What is open, by route, and what else is measured at that moment."""
        opened = [over(route="/a"), over(route="/a"), over(route="/b", websocket=True)]
        self.metrics.opened = lambda: opened
        self.metrics.gauges["pyproxy_client_connections"] = lambda: 7
        page = self.metrics.page(0)
        self.assertEqual({"/a": [2, 0], "/b": [0, 1]}, page["open"])
        self.assertEqual({"pyproxy_client_connections": 7}, page["gauges"])
