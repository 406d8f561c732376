"""What a file says of the cache, and what cannot be."""

from __future__ import annotations

import tomllib
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from pyproxy.config.cache_tables import parse_redis, shown_redis
from pyproxy.config.kinds import Sources
from pyproxy.config.printing import printer
from pyproxy.config.schema import CacheConfig, Config
from pyproxy.policy.cache_policy import CachePolicy, PostPolicy
from tests.config.test_file import LISTENER, ROUTE, SMALL, UPSTREAM, FileTestCase

ENVIRONMENT = {"PASSWORD": "of-the-variable", "URL": "redis://:of-the-url@h"}

MIB = 1024**2


class RouteTests(FileTestCase):
    """What the cache may do on a route."""

    def policies(self, text: str) -> list[CachePolicy | None]:
        """Return what is said of each route."""
        return [route.cache for route in self.load(LISTENER + UPSTREAM + text).routes]

    def test_off(self) -> None:
        """Nothing is kept unless somebody says so."""
        self.assertEqual([None], self.policies(ROUTE))
        self.assertFalse(self.load(SMALL).caches)

    def test_on(self) -> None:
        """``true`` is a table with nothing in it, ``false`` none at all."""
        for said, policy in (("true", CachePolicy()), ("{}", CachePolicy()), ("false", None)):
            self.assertEqual([policy], self.policies(f"{ROUTE}cache = {said}\n"), said)
            config = self.load(f"{SMALL}cache = {said}\n")
            self.assertEqual(policy is not None, config.caches)

    def test_table(self) -> None:
        """Every key becomes a fact."""
        text = """
            [routes.cache]
            heuristic = true
            finish = true
            max_variants = 8
            [routes.cache.post]
            ttl = 60
            fields = ["X-Model", "accept"]
            whole = "64k"
            ignore = ["/user"]
            shared = true
            events = true
            pace = "as-recorded"
            """
        post = PostPolicy(
            60.0, (b"accept", b"x-model"), 65536, ("/user",), True, True, "as-recorded"
        )
        self.assertEqual([CachePolicy(True, True, post, 8)], self.policies(ROUTE + text))
        plain = CachePolicy(post=PostPolicy(60.0))
        self.assertEqual([plain], self.policies(ROUTE + "cache = { post = { ttl = 60 } }\n"))

    def test_defaults(self) -> None:
        """What [defaults] say holds for upstreams, where a route says nothing itself."""
        text = "[defaults]\ncache = { finish = true }\n" + ROUTE
        text += ROUTE + 'path = "/off"\ncache = false\n'
        text += ROUTE + 'path = "/own"\ncache = { heuristic = true }\n'
        text += '[[routes]]\npath = "/answer"\nanswer = {}\n'
        text += '[[routes]]\npath = "/redirect"\nredirect = { to = "/" }\ncache = false\n'
        finish, own = CachePolicy(finish=True), CachePolicy(heuristic=True)
        self.assertEqual([finish, None, own, None, None], self.policies(text))

    def test_wrong(self) -> None:
        """What cannot be is told, with what would be right."""
        for text, expected in (
            ("[[routes]]\nanswer = {}\ncache = true\n", "cache: there is nothing to keep"),
            ('[[routes]]\nredirect = { to = "/" }\ncache = {}\n', "cache: there is nothing to"),
            (ROUTE + "cache = 1\n", "cache = 1: it has to be true, false or a table"),
            (ROUTE + "cache = { heuristics = true }\n", "did you mean heuristic?"),
            (ROUTE + "cache = { post = {} }\n", "cache.post.ttl: it is missing"),
            (ROUTE + "cache = { post = { ttl = 0 } }\n", "greater than 0"),
            (ROUTE + "cache = { post = true }\n", "cache.post = true: it has to be a table"),
            (
                ROUTE + 'cache = { post = { ttl = 1, pace = "as-recorded" } }\n',
                "cache.post.pace: it is for event streams, which are not stored",
            ),
            (
                ROUTE + 'cache = { post = { ttl = 1, events = true, pace = "slow" } }\n',
                "at-once or as-recorded",
            ),
            (ROUTE + 'cache = { post = { ttl = 1, fields = ["Host"] } }\n', "every key already"),
            (ROUTE + 'cache = { post = { ttl = 1, fields = ["a b"] } }\n', "a field name"),
            (ROUTE + 'cache = { post = { ttl = 1, ignore = ["user"] } }\n', "a JSON Pointer"),
            (ROUTE + "cache = { post = { ttl = 1, whole = 0 } }\n", "more than 0 bytes"),
            (ROUTE + "cache = { max_variants = 1.5 }\n", "a whole number from 1 to"),
        ):
            (error,) = self.errors(LISTENER + UPSTREAM + text)
            self.assertIn(expected, error)

    def test_wrong_defaults(self) -> None:
        """What is wrong in [defaults] is told there, and once."""
        text = '[defaults]\ncache = { post = { ttl = 1, pace = "at-once" } }\n'
        (error,) = self.errors(LISTENER + UPSTREAM + text + ROUTE + ROUTE + 'path = "/b"\n')
        self.assertIn("defaults.cache.post.pace: ", error)


class StoreTests(FileTestCase):
    """Where responses are kept."""

    def store(self, text: str) -> CacheConfig:
        """Return what is said of the store."""
        return self.load(f"[cache]\n{text}\n{SMALL}").cache

    def test_memory(self) -> None:
        """Bounds with a unit; one content is never larger than everything."""
        self.assertEqual(CacheConfig(), self.load(SMALL).cache)
        self.assertEqual(CacheConfig(), self.store(""))
        self.assertEqual(
            CacheConfig(memory=64 * MIB, entry=2 * MIB), self.store('memory = "64m"\nentry = "2m"')
        )
        self.assertEqual(MIB, self.store('memory = "1m"').entry)

    def test_disk(self) -> None:
        """A directory, and how large it may become."""
        found = self.store('disk = "/var/cache/pyproxy"')
        self.assertEqual(("/var/cache/pyproxy", 10 * 1024**3), found.place_on_disk)
        found = self.store('disk = "/var/cache/pyproxy"\ndisk_size = "1g"')
        self.assertEqual(("/var/cache/pyproxy", 1024**3), found.place_on_disk)
        self.assertIsNone(self.store("").place_on_disk)

    def test_redis(self) -> None:
        """A server, whose password is a secret but nothing that clients could spend."""
        config = self.load(
            '[cache]\nredis = "redis://:${KEY}@127.0.0.1/1"\n'
            "[[listeners]]\nendpoint = 'tcp:0'\n" + UPSTREAM + ROUTE
        )
        self.assertEqual("redis://:sk-secret-of-the-operator@127.0.0.1/1", config.cache.redis)
        self.assertEqual((b"sk-secret-of-the-operator",), config.secrets)
        self.assertFalse(config.injects)
        self.assertNotIn("sk-secret", repr(config))

    def test_redis_file(self) -> None:
        """The URL may stand in a file, which is one of the configuration's."""
        (self.path.parent / "redis").write_text("rediss://u:of-the-file@h:7000\n")
        found = self.load(f'[cache]\nredis = "@redis"\n{SMALL}')
        self.assertEqual("rediss://u:of-the-file@h:7000", found.cache.redis)
        self.assertEqual(("@redis", (b"of-the-file",)), (found.cache.redis_shown, found.secrets))
        self.assertIn((self.path.parent / "redis").absolute(), found.files)

    def test_wrong(self) -> None:
        """What cannot be is told, with what would be right."""
        for text, expected in (
            ("memory = 0", "memory = 0: it has to be more than 0 bytes"),
            ('memory = "1m"\nentry = "2m"', "entry: no response of that size is kept"),
            ('disk = "cache"', "the path of a directory, from / on"),
            ('disk_size = "1g"', "disk_size: it is for a directory; name one with disk"),
            ('disk = "/c"\nredis = "redis://h"', "redis: responses are kept in one place"),
            ("redis = 1", "redis: it has to be a string"),
            ('redis = "redis://:${NOPE}@h"', "NOPE is not set"),
            ('redis = "@nowhere"', "cannot be read"),
            ('sqlite = "x"', "there are disk, disk_size, entry, memory, redis"),
        ):
            (error,) = self.errors(f"[cache]\n{text}\n{SMALL}")
            self.assertIn(expected, error)

    def test_kept(self) -> None:
        """At a reload bounds of memory change, and places stay."""
        old = self.store('memory = "64m"\ndisk = "/a"\ndisk_size = "1g"')
        new = self.store('memory = "32m"\nredis = "redis://:sekret@h"')
        self.assertEqual(CacheConfig(32 * MIB, 8 * MIB, "/a", 1024**3), new.kept(old))
        self.assertEqual((new.redis, new.secrets), (old.kept(new).redis, old.kept(new).secrets))


class RedisTests(SynchronousTestCase):
    """URLs of Redis servers."""

    def setUp(self) -> None:
        """Have variables."""
        self.sources = Sources(Path(), ENVIRONMENT)

    def test_right(self) -> None:
        """The URL, what of it may be shown, and its password, decoded."""
        for text, url, shown, secrets in (
            ("redis://h", "redis://h", "redis://h", ()),
            ("redis://[::1]:6379/0", "redis://[::1]:6379/0", "redis://[::1]:6379/0", ()),
            ("unix:///run/r.sock?db=1", "unix:///run/r.sock?db=1", "unix:///run/r.sock?db=1", ()),
            ("rediss://u:p%40s@h:1/2", "rediss://u:p%40s@h:1/2", "rediss://u:***@h:1/2", (b"p@s",)),
            ("unix://:pw@/run/r", "unix://:pw@/run/r", "unix://:***@/run/r", (b"pw",)),
            (
                "redis://:${PASSWORD}@h",
                "redis://:of-the-variable@h",
                "redis://:${PASSWORD}@h",
                (b"of-the-variable",),
            ),
            (
                "redis://:x${PASSWORD}@h",
                "redis://:xof-the-variable@h",
                "redis://:***@h",
                (b"xof-the-variable",),
            ),
            ("${URL}", "redis://:of-the-url@h", "${URL}", (b"of-the-url",)),
        ):
            found = parse_redis(text, self.sources)
            self.assertEqual((url, shown, secrets), (found.url, found.shown, found.secrets))
            self.assertEqual(shown, shown_redis(text))

    def test_wrong(self) -> None:
        """Another scheme, a port that is none: told, and the password is not quoted."""
        for text, why in (
            ("http://:sekret@h", "redis://[user:password@]host"),
            ("sekret", "redis://[user:password@]host"),
            ("redis://:sekret@h:99999", "up to 65535"),
            ("redis://:sekret@h:sekret", "up to 65535"),
            ("redis://:se/kret@h", "are percent-encoded"),
            ("redis://[:sekret@h", "no URL"),
            ("redis://:sekret@h:0", "from 1 to 65535"),
            ("redis://:sekret@", "needs a host name"),
            ("redis://:sek#ret@h", "%23"),
            ("redis://:sekret@h/#sekret", "%23"),
            ("redis://:sek ret@h", "spaces"),
            ("redis://sekret@h", "needs a password"),
            ("redis://:sekret@h/zero", "has to be a number"),
            ("unix://", "has to be absolute"),
        ):
            error = self.assertRaises(ValueError, parse_redis, text, self.sources)
            self.assertIn(why, str(error), text)
            self.assertNotIn("sek", str(error), text)


class PrintedTests(FileTestCase):
    """A configuration with a cache, printed."""

    def printed(self, text: str, config: Config | None = None) -> str:
        """Return what is printed of a file, or of another configuration in its place."""
        loaded = self.load(text)
        return printer({"config": str(self.path)})(config or loaded)

    def test_again(self) -> None:
        """What is printed says the same."""
        text = f'[cache]\nmemory = "64m"\ndisk = "/a"\n{SMALL}cache = {{ post = {{ ttl = 9 }} }}\n'
        config = self.load(text)
        self.assertEqual(config, self.load(self.printed(text)))

    def test_password(self) -> None:
        """One that was written out is masked, one that is only named stays named."""
        text = self.printed(f'[cache]\nredis = "redis://:sekret@h"\n{SMALL}')
        self.assertNotIn("sekret", text)
        self.assertTrue(text.startswith("# Secrets are masked"))
        self.load(text)
        named = f'[cache]\nredis = "redis://:${{KEY}}@h:6379/0"\n{SMALL}'
        text = self.printed(named)
        self.assertEqual("redis://:${KEY}@h:6379/0", tomllib.loads(text)["cache"]["redis"])
        self.assertEqual(self.load(named), self.load(text))

    def test_kept(self) -> None:
        """The places are those in use, which a reload has not changed."""
        first = self.load(f'[cache]\nredis = "redis://:${{KEY}}@h"\n{SMALL}')
        second = f'[cache]\nmemory = "32m"\ndisk = "/a"\n{SMALL}'
        in_use = self.load(second).cache.kept(first.cache)
        config = self.load(self.printed(second, Config(first.routes, first.listen, cache=in_use)))
        self.assertEqual(in_use, config.cache)
        third = self.printed(SMALL, Config(first.routes, first.listen, cache=first.cache))
        self.assertEqual(first.cache, self.load(third).cache)
