"""The text that Prometheus reads: its own parser and its own linter accept it."""

from __future__ import annotations

import shutil
import subprocess
from unittest import SkipTest

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.observe.exposition import escape, labels_of, pieces, wants_open_metrics
from pyproxy.observe.families import FAMILIES, LABELS, LAG, SINGLES, Histogram
from tests.observe.ended import of_model, over
from tests.observe.exposed import read, rows_of, text_of

LIMIT = 60
"""Seconds for promtool to end."""

ACCOUNTS = [
    over(route="/a", received=5, sent=9, cache="hit"),
    over(route="/a", status=502, closed_by="upstream"),
    over(route="", status=404, connected=None),
    over(route="/ws", websocket=True, status=101, messages_sent=4),
    of_model("gpt", route="/v1"),
    of_model("gpt", route="/v1", outcome="truncated"),
]

NAMES = st.text(st.characters(codec="utf-8"))


class TextTests(SynchronousTestCase):
    """The whole text."""

    def test_both_formats(self) -> None:
        """Both are read, and say the same; all families are there, each with its own kind."""
        plain = read(text_of(ACCOUNTS))
        opened = read(text_of(ACCOUNTS, open_metrics=True))
        self.assertEqual(plain.values, opened.values)
        for family in (*FAMILIES, LAG):
            kind = "histogram" if isinstance(family, Histogram) else "counter"
            name = family.name.removesuffix("_total")
            self.assertEqual((kind, kind), (plain.kinds[name], opened.kinds[name]), name)
        for single in SINGLES:
            self.assertIn(single.name, plain.names)
        self.assertEqual("info", opened.kinds["pyproxy_build"])
        self.assertEqual("counter", opened.kinds["pyproxy_config_reload_failures"])

    def test_values(self) -> None:
        """What was counted stands there, by its labels."""
        found = read(text_of(ACCOUNTS))
        count = "http_server_request_duration_seconds_count"
        self.assertEqual(2, found.value(count, http_route="/a"))
        self.assertEqual(1, found.value(count, http_route="/a", http_response_status_class="5xx"))
        self.assertEqual(2, found.value(count, gen_ai_response_model="gpt"))
        tokens = "pyproxy_tokens_total"
        self.assertEqual(22, found.value(tokens, http_route="/v1", gen_ai_token_type="output"))
        self.assertEqual(1, found.value("pyproxy_cache_results_total", result="hit"))
        failures = "pyproxy_quiet_failures_total"
        self.assertEqual(1, found.value(failures, http_route="/v1", outcome="truncated"))
        # It is there before the first one, or its rate would miss that.
        self.assertEqual(0, found.value(failures, http_route="/a"))

    def test_buckets(self) -> None:
        """They are cumulated, and the last has all."""
        found = read(text_of(ACCOUNTS))
        bucket = "http_server_request_duration_seconds_bucket"
        self.assertEqual(0, found.value(bucket, le="0.025", http_route="/a"))
        self.assertEqual(2, found.value(bucket, le="0.05", http_route="/a"))
        self.assertEqual(2, found.value(bucket, le="+Inf", http_route="/a"))

    def test_rare(self) -> None:
        """Routes without models, caches and WebSockets have no lines for them."""
        names = read(text_of([over()])).names
        for name in ("pyproxy_tokens_total", "pyproxy_cache_results_total"):
            self.assertNotIn(name, names)
        self.assertNotIn("gen_ai_server_time_to_first_token_seconds_count", names)

    def test_nothing_counted(self) -> None:
        """A proxy that was just started."""
        self.assertIn("pyproxy_event_loop_lag_seconds_count", read(text_of([])).names)
        read(text_of([], open_metrics=True))

    def test_promtool(self) -> None:
        """Prometheus' linter finds nothing to say."""
        promtool = shutil.which("promtool")
        if promtool is None:
            raise SkipTest("promtool is in Debian's package prometheus")
        checked = subprocess.run(
            [promtool, "check", "metrics"],
            input=text_of(ACCOUNTS),
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        self.assertEqual((0, "", ""), (checked.returncode, checked.stdout, checked.stderr))

    @given(NAMES, NAMES)
    def test_any_name(self, route: str, model: str) -> None:
        """Whatever a route or a model is called, it is read as that."""
        for open_metrics in (False, True):
            text = text_of([over(route=route, model=model)], open_metrics)
            labels = {"http_route": route, "gen_ai_response_model": model[:128]}
            expected = {name: value for name, value in labels.items() if value}
            # The mask takes out what looks like a credential.
            if b"=" in model.encode() or b"@" in model.encode() or "-" in model:
                expected.pop("gen_ai_response_model", None)
            found = read(text)
            count = "http_server_request_duration_seconds_count"
            self.assertEqual(1, found.value(count, **expected))

    def test_pieces(self) -> None:
        """No piece is long, however much there is, and together they are the whole."""
        rows = rows_of([of_model(route=f"/{number}") for number in range(500)])
        made = list(pieces(rows, (LAG, [0.0] * LAG.size), []))
        self.assertLess(max(piece.count("\n") for piece in made), 400)
        self.assertGreater("".join(made).count("\n"), 30_000)


class LabelTests(SynchronousTestCase):
    """Labels."""

    def test_escape(self) -> None:
        """What would end a value, and what would end a line."""
        self.assertEqual(r"a\\b\"c\nd", escape('a\\b"c\nd'))
        self.assertEqual("é\t", escape("é\t"))

    def test_empty(self) -> None:
        """A label without a value is none."""
        self.assertEqual(f'{LABELS[0]}="/"', labels_of(LABELS, ("/", "", "", "")))
        self.assertEqual("", labels_of(LABELS, ("", "", "", "")))


class AcceptTests(SynchronousTestCase):
    """Which format a reader likes."""

    def test_formats(self) -> None:
        """OpenMetrics only for who asks for it, in a version that is known, before plain text."""
        prometheus = (
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
            "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
        )
        for accept, expected in (
            ("", False),
            ("*/*", False),
            ("text/plain", False),
            (prometheus, True),
            ("Application/OpenMetrics-Text; Version=1.0.0", True),
            ("application/openmetrics-text", True),
            ("application/openmetrics-text;version=2.0.0", False),
            ("application/openmetrics-text;q=0.4,text/plain;q=0.5", False),
            ("application/openmetrics-text;q=0", False),
            ("application/openmetrics-text;q=nan", False),
            ("application/openmetrics-text;q=odd;=;,;", False),
        ):
            self.assertEqual(expected, wants_open_metrics(accept), accept)
