"""What a route's cache has done, in numbers."""

from __future__ import annotations

import attrs


@attrs.define
class Counts:
    """How often what happened, since the process began.

    Attributes:
        hits: served from the store without a question to the upstream.
        misses: the upstream was asked, since nothing that was stored would do; to validate it too.
        stale: served although stale.
        validated: the upstream said that what is stored may be used.
        collapsed: served by what somebody else's question brought.
        stored: responses that were kept.
        passed: requests that the cache has nothing to do with.
    """

    hits: int = 0
    misses: int = 0
    stale: int = 0
    validated: int = 0
    collapsed: int = 0
    stored: int = 0
    passed: int = 0

    @property
    def hit_rate(self) -> float:
        """The share of lookups that needed no content from the upstream; 0 without any."""
        served = self.hits + self.stale + self.validated + self.collapsed
        lookups = self.hits + self.stale + self.misses + self.collapsed
        return served / lookups if lookups else 0.0

    def shown(self) -> dict[str, int | float]:
        """Return all of it by name."""
        return {
            "requests": self.hits + self.stale + self.misses + self.collapsed + self.passed,
            "hits": self.hits,
            "stale": self.stale,
            "validated": self.validated,
            "collapsed": self.collapsed,
            "misses": self.misses,
            "stored": self.stored,
            "passed": self.passed,
            "hit_rate": round(self.hit_rate, 4),
        }
