"""What the cache may do on a route."""

from __future__ import annotations

import pickle

import attrs
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.policy.cache_policy import MAX_VARIANTS, PACES, WHOLE, CachePolicy, PostPolicy


class CachePolicyTests(SynchronousTestCase):
    """What holds where nothing is said."""

    def test_nothing_beyond(self) -> None:
        """By itself the cache does no more than every shared cache may."""
        policy = CachePolicy()
        self.assertFalse(policy.heuristic or policy.finish or policy.post)
        self.assertEqual(MAX_VARIANTS, policy.max_variants)

    def test_fact(self) -> None:
        """It is a fact, which goes to workers as it is."""
        policy = CachePolicy(heuristic=True, post=PostPolicy(60.0, (b"accept",)))
        self.assertEqual(policy, pickle.loads(pickle.dumps(policy)))
        with self.assertRaises(attrs.exceptions.FrozenInstanceError):
            policy.finish = True  # type: ignore[misc]


class PostPolicyTests(SynchronousTestCase):
    """Answers to POST."""

    def test_nothing_beyond(self) -> None:
        """Only how long is said; everything else is the careful choice."""
        post = PostPolicy(60.0)
        self.assertFalse(post.shared or post.events or post.fields or post.ignore)
        self.assertEqual(WHOLE, post.whole)

    def test_paced(self) -> None:
        """Pauses are kept of event streams alone, and only where that is asked for."""
        for events in (False, True):
            for pace in PACES:
                post = PostPolicy(60.0, events=events, pace=pace)
                self.assertEqual(events and pace == "as-recorded", post.paced)
