"""The text of metrics, made and read in tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_open
from prometheus_client.parser import text_string_to_metric_families as read_text
from twisted.internet.task import Clock

from pyproxy.account import Account
from pyproxy.observe.exposition import Samples, pieces
from pyproxy.observe.families import LAG, SINGLES
from pyproxy.observe.metrics import Metrics
from pyproxy.observe.rows import Key, Numbers


@attrs.frozen
class Exposed:
    """A text as ``prometheus_client`` reads it.

    Attributes: kinds, by the names of families; values, by name and labels of each sample.
    """

    kinds: Mapping[str, str]
    values: Mapping[tuple[str, frozenset[tuple[str, str]]], float]

    def value(self, name: str, **labels: str) -> float:
        """Return the sum of the samples that have such labels, among others."""
        wanted = set(labels.items())
        found = [v for (one, has), v in self.values.items() if one == name and wanted <= has]
        assert found, f"{name} {labels}"
        return sum(found)

    @property
    def names(self) -> set[str]:
        """The names of all samples."""
        return {name for name, _ in self.values}


def read(text: str) -> Exposed:
    """Read a text of either format; a sample that stands twice is an error."""
    reader: Any = read_open if text.endswith("# EOF\n") else read_text
    kinds: dict[str, str] = {}
    values: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in reader(text):
        assert family.name not in kinds, family.name
        assert family.documentation, family.name
        kinds[family.name] = family.type
        for sample in family.samples:
            labels = frozenset(sample.labels.items())
            assert (sample.name, labels) not in values, sample
            values[sample.name, labels] = sample.value
    return Exposed(kinds, values)


def rows_of(accounts: Iterable[Account]) -> dict[Key, Numbers]:
    """Return the rows in which exchanges are counted."""
    metrics = Metrics.of(Clock())
    for account in accounts:
        metrics.record(account)
    rows: dict[Key, Numbers] = {}
    while True:
        page = metrics.page(len(rows))
        rows.update(page["rows"])
        if not page["more"]:
            return rows


def text_of(accounts: Iterable[Account], open_metrics: bool = False) -> str:
    """Return the text of exchanges, with every other family too."""
    singles = [Samples(one, [(["v"] * len(one.labels), 1)]) for one in SINGLES]
    lag = [1.0] * LAG.size
    return "".join(pieces(rows_of(accounts), (LAG, lag), singles, open_metrics))
