"""What is asked of the metrics of every process."""

from __future__ import annotations

from typing import Protocol

import attrs
from twisted.internet.defer import Deferred

from pyproxy.life.desk import Document

MEASURE_LIMIT = 2.0
"""Seconds in which a process has to give some of its rows; Prometheus waits for 10."""


@attrs.frozen
class Measuring:
    """Ask for some rows.  Args: start, how many are known already."""

    start: int = 0
    limit: float = MEASURE_LIMIT


class Measured(Protocol):
    """Whoever asks all processes."""

    def ask_metrics(self, asked: Measuring) -> Deferred[Document | None]:
        """Ask the metrics of every process.

        Returns: ``workers``, by number what ``Metrics.page`` returns; None where nothing is
            counted.  It fails with NobodyAnswers.
        """
