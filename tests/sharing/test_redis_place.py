"""Where a Redis is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.sharing.redis_place import RedisPlace, place_of


class PlaceTests(SynchronousTestCase):
    """URLs of a Redis."""

    def test_forms(self) -> None:
        """Every form has its place."""
        for url, place in (
            ("redis://localhost", RedisPlace("localhost")),
            ("redis://10.0.0.1:7000/3", RedisPlace("10.0.0.1", 7000, db=3)),
            ("redis://[::1]:7000/", RedisPlace("::1", 7000)),
            ("redis://:p%40ss@h/0", RedisPlace("h", password="p@ss")),
            ("redis://u:p:q@h", RedisPlace("h", user="u", password="p:q")),
            ("rediss://cache.example", RedisPlace("cache.example", tls=True)),
            ("unix:///run/redis.sock", RedisPlace(path="/run/redis.sock")),
            ("unix:///run/a%20b?db=4", RedisPlace(path="/run/a b", db=4)),
            (
                "unix://u:p@/run/r",
                RedisPlace(path="/run/r", user="u", password="p"),
            ),
        ):
            self.assertEqual(place, place_of(url), url)

    def test_refused(self) -> None:
        """What is none gets a sentence that quotes nothing of it."""
        for url in (
            "",
            "localhost:6379",
            "http://SECRET@h",
            "redis://",
            "redis://:SECRET@",
            "redis://SECRET@h",
            "redis://u:@h",
            "redis://:SEC/RET@h",
            "redis://:SEC#RET@h",
            "redis://:SEC?RET@h",
            "redis://:SECRET@h:port",
            "redis://:SECRET@h:0",
            "redis://:SECRET@h:65536",
            "redis://:SECRET@h:",
            "redis://:SECRET@h/x",
            "redis://:SECRET@h/0/1",
            "redis://:SECRET@h?db=1",
            "redis://:SECRET@h/0?",
            "redis://:SECRET@h x",
            "redis://:SECRET@h\n",
            "redis://:SECRET@[::1",
            "redis://:SECRET%FF@h",
            "redis://:SECRET@h*",
            "unix://host/path",
            "unix://",
            "unix:///",
            "unix:///a%00b",
            "unix:///a?db=x",
            "unix:///a?db=1&db=2",
            "unix:///a?password=SECRET",
            "unix:///" + "a" * 107,
        ):
            with self.assertRaises(ValueError, msg=url) as caught:
                place_of(url)
            sentence = str(caught.exception)
            self.assertGreater(len(sentence), 20)
            for word in ("SEC", "RET"):
                self.assertNotIn(word, sentence)
            self.assertTrue(caught.exception.__cause__ is None)

    @given(st.text(max_size=30))
    def test_anything(self, text: str) -> None:
        """Any text is a place, or refused."""
        for url in (text, f"redis://{text}", f"unix:///{text}", f"redis://h:{text}"):
            try:
                place_of(url)
            except ValueError as error:
                self.assertIn("Redis", str(error))

    def test_password_is_not_shown(self) -> None:
        """Neither the place nor its name shows a login."""
        place = place_of("rediss://user:SECRET@[2001:db8::1]:7000/2")
        self.assertNotIn("SECRET", repr(place))
        self.assertEqual("[2001:db8::1]:7000 database 2", place.name)
        self.assertEqual("unix:/r database 0", place_of("unix://:SECRET@/r").name)
