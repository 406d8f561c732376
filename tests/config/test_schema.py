"""The configuration as facts."""

from __future__ import annotations

import attrs
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.config.schema import CacheConfig, Listen
from tests.configs import one_route


class SchemaTests(SynchronousTestCase):
    """What a configuration says of itself."""

    def test_loopback(self) -> None:
        """A place to listen knows whether only this machine reaches it."""
        for listen, expected in (
            (Listen(), True),
            (Listen(interface="::1"), True),
            (Listen(interface=""), False),
            (Listen(interface="0.0.0.0"), False),
            (Listen("unix:/tmp/s"), True),
            (Listen("tcp:1:interface=127.0.0.1"), True),
            (Listen("tcp:1"), False),
        ):
            self.assertEqual(expected, listen.loopback, listen)

    def test_secrets(self) -> None:
        """A store's password is not to be shown; clients can spend what routes add alone."""
        for secrets, cache, injects in (
            ((), CacheConfig(), False),
            ((), CacheConfig(secrets=(b"of-redis",)), False),
            ((b"sk-key",), CacheConfig(secrets=(b"of-redis",)), True),
        ):
            config = one_route(secrets=secrets, cache=cache)
            self.assertEqual((*secrets, *cache.secrets), config.secrets)
            self.assertEqual(injects, config.injects)

    def test_frozen(self) -> None:
        """A configuration is a fact: a running exchange never sees it change."""
        config = one_route()
        with self.assertRaises(attrs.exceptions.FrozenInstanceError):
            config.routes = ()  # type: ignore[misc]
