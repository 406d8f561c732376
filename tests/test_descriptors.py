"""The limit of descriptors."""

from __future__ import annotations

import resource

from twisted.trial.unittest import SynchronousTestCase

from pyproxy.descriptors import MOST_DESCRIPTORS, raise_descriptor_limit


class DescriptorTests(SynchronousTestCase):
    """An exchange takes two descriptors, and the usual soft limit is 1,024."""

    def setUp(self) -> None:
        """Leave the limit of the tests' own process as it was."""
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        self.hard = before[1]

    def test_raised_to_the_hard_limit(self) -> None:
        """A lower soft limit is raised as far as anybody may."""
        most = MOST_DESCRIPTORS if self.hard == resource.RLIM_INFINITY else self.hard
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, most), self.hard))
        raise_descriptor_limit()
        self.assertEqual((most, self.hard), resource.getrlimit(resource.RLIMIT_NOFILE))

    def test_never_lowered(self) -> None:
        """A limit that is there already stays."""
        raise_descriptor_limit()
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        raise_descriptor_limit()
        self.assertEqual(before, resource.getrlimit(resource.RLIMIT_NOFILE))
