"""Dashboard and alerts in ``deploy/`` ask, in well-formed queries, for what is exported."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from tests.documents import DOCS, ROOT
from tests.observe.ended import of_model, over
from tests.observe.exposed import Exposed, read, text_of

DASHBOARD = ROOT / "deploy" / "grafana" / "pyproxy.json"
PROMETHEUS = ROOT / "deploy" / "prometheus"
ALERTS = PROMETHEUS / "alerts.yml"

LIMIT = 60.0
"""Seconds for promtool to end."""

ALL = (
    over(cache="hit", closed_by="client", attempts=2),
    over(websocket=True, status=101, messages_sent=1),
    of_model(outcome="failed"),
    of_model(),
)
"""Exchanges that have something of every family."""

OF_PROMETHEUS = {"job", "instance", "le"}
"""Labels that Prometheus gives, and that of a bucket."""

_metric = re.compile(r"\b(?:http_server|gen_ai_server|pyproxy)_\w+")
_labels = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"')
_grouped = re.compile(r"\b(?:by|on)\s*\(([^)]*)\)")

RULE_TESTS = """
rule_files: [{alerts}]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - series: 'pyproxy_quiet_failures_total{{instance="i",http_route="/",outcome="truncated"}}'
        values: 0+6x30
      - series: 'pyproxy_quiet_failures_total{{instance="i",http_route="/",outcome="empty"}}'
        values: 0+0x30
      - series: 'pyproxy_event_streams_total{{instance="i",http_route="/"}}'
        values: 0+60x30
      - series: 'pyproxy_config_last_reload_successful{{instance="i"}}'
        values: 1x10 0x20
    alert_rule_test:
      - eval_time: 25m
        alertname: PyproxyQuietFailures
        exp_alerts:
          - exp_labels: {{severity: warning, instance: i, http_route: /, outcome: truncated}}
            exp_annotations:
              summary: "10% of / end truncated"
              description: "Answers of models that fail although their status says success."
      - eval_time: 9m
        alertname: PyproxyReloadRefused
        exp_alerts: []
      - eval_time: 20m
        alertname: PyproxyReloadRefused
        exp_alerts:
          - exp_labels: {{severity: warning, instance: i}}
            exp_annotations:
              summary: "i serves by an old configuration"
              description: "The last reload was refused; the log and /readyz say why."
"""


def promtool(*words: str | Path) -> str:
    """Return what promtool says when all is well.  Raises: AssertionError, SkipTest."""
    found = shutil.which("promtool")
    if found is None:
        raise SkipTest("promtool is in Debian's package prometheus")
    done = subprocess.run(
        [found, *map(str, words)], capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def exported() -> Exposed:
    """Return everything that can be exported."""
    return read(text_of(ALL))


def queries(found: Any) -> Iterator[str]:
    """Yield each query of a dashboard."""
    if isinstance(found, dict):
        for name, value in found.items():
            if name == "expr":
                yield value
            elif name == "definition":
                # It asks for the values of a label that a series has.
                yield value.removeprefix("label_values(").rpartition(",")[0]
            else:
                yield from queries(value)
    elif isinstance(found, list):
        for value in found:
            yield from queries(value)


def labels_in(query: str) -> set[str]:
    """Return the labels that a query names."""
    grouped = {name.strip() for group in _grouped.findall(query) for name in group.split(",")}
    return grouped | set(_labels.findall(query))


class MonitoringTestCase(SynchronousTestCase):
    """A case with queries to judge."""

    def judge(self, texts: list[str]) -> None:
        """Fail unless all metrics and labels are exported."""
        there = exported()
        names = there.names
        labels = {name for _, pairs in there.values for name, _ in pairs} | OF_PROMETHEUS
        self.assertGreater(len(texts), 5)
        for text in texts:
            used = set(_metric.findall(text)) - labels
            self.assertEqual(set(), used - names, text)
            self.assertTrue(used or "up{" in text, text)
            self.assertEqual(set(), labels_in(text) - labels, text)


class AlertTests(MonitoringTestCase):
    """The rules for Prometheus."""

    def test_rules(self) -> None:
        """They are accepted, and so is the configuration beside them."""
        self.assertIn("SUCCESS", promtool("check", "rules", ALERTS))
        self.assertIn("SUCCESS", promtool("check", "config", PROMETHEUS / "prometheus.yml"))

    def test_names(self) -> None:
        """They look at what is there."""
        text = ALERTS.read_text("utf-8")
        found = re.findall(r"expr: (?:\|\n((?: {10,}.*\n)+)|(.*)\n)", text)
        self.assertEqual(text.count("alert:"), len(found))
        self.judge([several or one for several, one in found])

    def test_alarm(self) -> None:
        """They are raised when they should be, and say what it is."""
        tests = Path(self.mktemp())
        tests.write_text(RULE_TESTS.format(alerts=ALERTS))
        self.assertIn("SUCCESS", promtool("test", "rules", tests))


class DashboardTests(MonitoringTestCase):
    """The dashboard for Grafana."""

    def setUp(self) -> None:
        """Read it."""
        self.dashboard = json.loads(DASHBOARD.read_text("utf-8"))

    def test_names(self) -> None:
        """It shows what is there, all of it."""
        texts = list(queries(self.dashboard))
        self.judge(texts)
        used = {re.sub("_(bucket|count|sum)$", "", one) for one in _metric.findall(str(texts))}
        there = {re.sub("_(bucket|count|sum)$", "", name) for name in exported().names}
        self.assertEqual(set(), there - used)

    def test_syntax(self) -> None:
        """Prometheus can read every query."""
        texts = [
            text.replace("$__rate_interval", "5m").replace("$job", "j").replace("$route", ".*")
            for text in queries(self.dashboard)
        ]
        rules = [{"record": f"r:{number}", "expr": text} for number, text in enumerate(texts)]
        path = Path(self.mktemp())
        path.write_text(json.dumps({"groups": [{"name": "g", "rules": rules}]}))
        self.assertIn(f"{len(texts)} rules found", promtool("check", "rules", path))

    def test_panels(self) -> None:
        """Each has a number of its own, a unit and its place; none lies on another."""
        panels = self.dashboard["panels"]
        self.assertEqual(len(panels), len({panel["id"] for panel in panels}))
        taken: set[tuple[int, int]] = set()
        for panel in panels:
            place = panel["gridPos"]
            own = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            self.assertEqual(set(), own & taken, panel["title"])
            self.assertLessEqual(place["x"] + place["w"], 24)
            taken |= own
            if panel["type"] != "row":
                self.assertTrue(panel["fieldConfig"]["defaults"]["unit"])


class PageTests(SynchronousTestCase):
    """The page about metrics names all of them, and nothing else."""

    def test_all(self) -> None:
        """Names, types and labels are those that are exported."""
        text = (DOCS / "metrics.rst").read_text("utf-8")
        described = dict(re.findall(r"^``(\w+)``\s+(counter|gauge|histogram)", text, re.MULTILINE))
        there = exported()
        kinds = {
            (f"{name}_total" if kind == "counter" else name): kind
            for name, kind in there.kinds.items()
        }
        self.assertEqual(kinds, described)
        labels = {name for _, pairs in there.values for name, _ in pairs}
        for name in labels - {"le"}:
            self.assertIn(f"``{name}``", text)
