"""The client, with a real Redis that comes, goes, hangs and refuses."""

from __future__ import annotations

import contextlib
import signal
import time
from typing import Any, cast

import attrs
import trustme
from twisted.internet import ssl
from twisted.internet.defer import CancelledError, gatherResults
from twisted.internet.protocol import Factory
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher

from pyproxy.sharing import redis_connection
from pyproxy.sharing.redis import RedisClient, Script
from pyproxy.sharing.redis_errors import (
    RedisAway,
    RedisBusy,
    RedisRefused,
    RedisSlow,
    RedisTrouble,
)
from pyproxy.sharing.redis_place import RedisPlace, place_of
from tests.sharing.kit import (
    NO_SERVER,
    SERVER,
    RedisTestCase,
    Server,
    Speaker,
    free_port,
    story,
    the_reactor,
)

LONG = 10.0
"""A limit that no answer needs on a machine at work."""

HEALED = 2.0 + 2.0
"""Seconds until Redis is there again: what is promised, and what a busy machine may take."""


class LogTestCase(RedisTestCase):
    """A case that knows what was logged."""

    def setUp(self) -> None:
        self.events: list[LogEvent] = []
        take = cast(ILogObserver, self.events.append)
        globalLogPublisher.addObserver(take)
        self.addCleanup(globalLogPublisher.removeObserver, take)

    def said(self, level: LogLevel = LogLevel.warn) -> list[str]:
        """Return what was said about Redis at a level."""
        return [
            str(event.get("why", "back"))
            for event in self.events
            if event["log_level"] is level and "Redis at" in (event.get("log_format") or "")
        ]

    async def said_back(self, times: int) -> None:
        """Wait until the log has told so many times, and no more, that it is back."""
        await self.until(lambda: len(self.said(LogLevel.info)) >= times)
        self.assertEqual(["back"] * times, self.said(LogLevel.info))


class CommandTests(RedisTestCase):
    """Commands and their replies."""

    if SERVER is None:
        skip = NO_SERVER

    @story
    async def test_replies(self) -> None:
        """Commands of one turn are answered in their order, errors among them."""
        client = self.client(self.server().place)
        await self.until(lambda: client.connected)
        answers = [
            client.call(b"SET", b"k", b"v", limit=LONG),
            client.call(b"INCR", b"k", limit=LONG),
            client.call(b"GET", b"k", limit=LONG),
            client.call(b"MGET", b"k", b"none", limit=LONG),
        ]
        self.assertEqual(b"OK", await answers[0])
        with self.assertRaises(RedisRefused) as caught:
            await answers[1]
        self.assertEqual("ERR", caught.exception.code)
        self.assertEqual(b"v", await answers[2])
        self.assertEqual([b"v", None], await answers[3])

    @story
    async def test_many(self) -> None:
        """As many as may wait, in one turn; one more fails at once, and no octet is lost."""
        client = self.client(self.server().place)
        await self.until(lambda: client.connected)
        answers = [
            client.call(b"ECHO", number, limit=LONG)
            for number in range(redis_connection.MAX_PENDING)
        ]
        with self.assertRaises(RedisBusy):
            await client.call(b"PING")
        replies = await gatherResults(answers)
        self.assertEqual([b"%d" % number for number in range(len(answers))], replies)
        self.assertEqual(b"PONG", await client.call(b"PING", limit=LONG))

    @story
    async def test_unsent_octets_are_bounded(self) -> None:
        """What waits to be sent has a bound; after it there is room again."""
        client = self.client(self.server().place)
        await self.until(lambda: client.connected)
        piece, taken = bytes(1024 * 1024), []
        busy = None
        for _ in range(10):
            answer = client.call(b"SET", b"k", piece, limit=LONG)
            if answer.called:
                busy = answer
                break
            taken.append(answer)
        assert busy is not None
        with self.assertRaises(RedisBusy):
            await busy
        self.assertLessEqual(client.unsent, redis_connection.MAX_UNSENT_BYTES)
        self.assertEqual([b"OK"] * len(taken), await gatherResults(taken))
        self.assertEqual(0, client.unsent)
        self.assertEqual(piece, await client.call(b"GET", b"k", limit=LONG))

    @story
    async def test_cancelled(self) -> None:
        """Who does not wait any more is not told, and the others get their own replies."""
        client = self.client(self.server().place)
        await self.until(lambda: client.connected)
        one, other = client.call(b"ECHO", b"1", limit=LONG), client.call(b"ECHO", b"2", limit=LONG)
        one.cancel()
        with self.assertRaises(CancelledError):
            await one
        self.assertEqual(b"2", await other)

    @story
    async def test_scripts(self) -> None:
        """A script runs by its digest, and whole where Redis does not know it (any more)."""
        client = self.client(self.server().place)
        await self.until(lambda: client.connected)
        script = Script(b"return {KEYS[1], ARGV[1] + 1}")
        for _ in range(3):
            self.assertEqual([b"a", 3], await client.run(script, [b"a"], [2], LONG))
            self.assertEqual([b"a", 3], await client.run(script, [b"a"], [2], LONG))
            await client.call(b"SCRIPT", b"FLUSH", limit=LONG)
        stats = await client.call(b"INFO", b"commandstats", limit=LONG)
        assert isinstance(stats, bytes)
        self.assertIn(b"cmdstat_evalsha:calls=5", stats)
        with self.assertRaises(RedisRefused):
            await client.run(Script(b"nonsense"), [], [], LONG)

    @story
    async def test_scripts_keep_their_place(self) -> None:
        """A script that Redis does not know yet runs after what was sent before it, and before
        what was sent after it.
        """
        client = self.client(self.server().place)
        await self.until(lambda: client.connected)
        script = Script(b"return redis.call('INCR', KEYS[1])")
        client.call(b"SET", b"k", 1, limit=LONG)
        first = client.run(script, [b"k"], [], LONG)
        client.call(b"SET", b"k", 10, limit=LONG)
        self.assertEqual(2, await first)
        self.assertEqual(11, await client.run(script, [b"k"], [], LONG))

    @story
    async def test_socket_and_database(self) -> None:
        """A Unix socket, another database, and the name that it is listed by."""
        server = self.server()
        client = self.client(RedisPlace(path=server.path, db=3))
        await self.until(lambda: client.connected)
        listed = await client.call(b"CLIENT", b"LIST", limit=LONG)
        assert isinstance(listed, bytes)
        self.assertIn(b"name=pyproxy", listed)
        self.assertIn(b" db=3 ", listed)

    @story
    async def test_names(self) -> None:
        """A name is looked up."""
        server = self.server()
        client = self.client(RedisPlace("localhost", server.port))
        await self.until(lambda: client.connected)

    @story
    async def test_closed(self) -> None:
        """After its end every command fails, what waits too, and nobody connects again."""
        server = self.server()
        client = self.client(server.place)
        await self.until(lambda: client.connected)
        server.signal(signal.SIGSTOP)
        answer = client.call(b"PING", limit=LONG)
        client.close()
        with self.assertRaises(RedisAway):
            await answer
        with self.assertRaises(RedisAway):
            await client.call(b"PING")
        client.start()
        await self.pause(0.3)
        self.assertFalse(client.connected)
        self.assertEqual("away", client.figures()["redis"])


class LoginTests(LogTestCase):
    """Who may come in."""

    if SERVER is None:
        skip = NO_SERVER

    @story
    async def test_password(self) -> None:
        """A password alone, and a user with one."""
        server = self.server("--requirepass", "s3cret")
        client = self.client(attrs.evolve(server.place, password="s3cret"))
        await self.until(lambda: client.connected)
        rules = (b"on", b">o3ther", b"+get", b"+ping")
        self.assertEqual(b"OK", await client.call(b"ACL", b"SETUSER", b"u", *rules, limit=LONG))
        other = self.client(attrs.evolve(server.place, user="u", password="o3ther"))
        await self.until(lambda: other.connected)
        self.assertEqual(b"PONG", await other.call(b"PING", limit=LONG))

    @story
    async def test_wrong_password(self) -> None:
        """It is away, says why once, tries again, and is there when it is let in."""
        server = self.server("--requirepass", "right")
        client = self.client(attrs.evolve(server.place, password="WR0NG"))
        await self.until(lambda: client.tally.refused >= 4)
        self.assertFalse(client.connected)
        with self.assertRaises(RedisAway):
            await client.call(b"PING")
        self.assertEqual(["it refuses the user or the password (WRONGPASS)"], self.said())
        admin = self.client(attrs.evolve(server.place, password="right"))
        await self.until(lambda: admin.connected)
        await admin.call(b"CONFIG", b"SET", b"requirepass", b"WR0NG", limit=LONG)
        await self.until(lambda: client.connected, HEALED)
        await self.said_back(1)
        self.assertNotIn("WR0NG", repr(self.events))

    @story
    async def test_no_password(self) -> None:
        """One that wants a password is away for who has none, and for whom it lacks a database."""
        server = self.server("--requirepass", "right")
        self.client(server.place)
        await self.until(self.said)
        self.assertEqual(["it wants a password (NOAUTH)"], self.said())
        self.client(attrs.evolve(server.place, password="right", db=99))
        await self.until(lambda: len(self.said()) > 1)
        self.assertIn("database", self.said()[1])


def be_busy() -> None:
    """Let the reactor have no turn for longer than any limit of a lookup."""
    time.sleep(4 * redis_connection.SILENCE)


class AwayTests(LogTestCase):
    """A Redis that is not there."""

    if SERVER is None:
        skip = NO_SERVER

    async def assert_away(self, client: RedisClient) -> None:
        """Check that many commands fail, and none of them waits."""
        began = time.monotonic()
        for _ in range(100):
            with self.assertRaises(RedisAway):
                await client.call(b"PING", limit=LONG)
        self.assertLess(time.monotonic() - began, LONG)

    @story
    async def test_never_there(self) -> None:
        """Commands fail at once while nobody listens, also before the first attempt."""
        client = self.client(RedisPlace("127.0.0.1", free_port()))
        await self.assert_away(client)
        await self.until(self.said)
        await self.assert_away(client)
        await self.pause(0.5)
        self.assertEqual(["nobody listens there"], self.said())

    @story
    async def test_killed_and_back(self) -> None:
        """What waits fails when it dies; it is back within two seconds, each said once."""
        server = self.server()
        client = self.client(server.place)
        told: list[bool] = []
        client.watch(lambda: told.append(client.connected))
        await self.until(lambda: client.connected)
        for number in range(1, 4):
            server.signal(signal.SIGSTOP)
            waiting = [client.call(b"PING", limit=LONG) for _ in range(5)]
            server.stop()
            for answer in waiting:
                with self.assertRaises(RedisAway):
                    await answer
            await self.assert_away(client)
            await self.pause(0.7)
            server.start()
            await self.until(lambda: client.connected, HEALED)
            self.assertEqual(b"PONG", await client.call(b"PING", limit=LONG))
            await self.said_back(number)
            self.assertEqual([True] * (number + 1), told)
        self.assertLessEqual(len(self.said()), 6)

    @story
    async def test_hanging(self) -> None:
        """One that hangs costs the first few their limit; then it is away, and heals itself."""
        server = self.server()
        client = self.client(server.place)
        await self.until(lambda: client.connected)
        for _ in range(2):
            server.signal(signal.SIGSTOP)
            for _ in range(redis_connection.MAX_UNANSWERED):
                with self.assertRaises(RedisTrouble):
                    await client.call(b"PING")
            await self.until(lambda: not client.connected)
            await self.assert_away(client)
            # Attempts meanwhile are accepted by the kernel, and answered by nobody.
            await self.pause(1.5)
            self.assertFalse(client.connected)
            server.signal(signal.SIGCONT)
            await self.until(lambda: client.connected, HEALED)
            self.assertEqual(b"PONG", await client.call(b"PING", limit=LONG))
        self.assertEqual(2 * redis_connection.MAX_UNANSWERED, client.tally.timeouts)
        self.assertEqual({"it does not answer"}, set(self.said()))

    @story
    async def test_late_itself(self) -> None:
        """A process that was busy for longer than the limit reads first what has come meanwhile."""
        client = self.client(self.server().place)
        await self.until(lambda: client.connected)
        answers = [client.call(b"ECHO", number) for number in range(100)]
        # In the first turn they are sent; after the second nothing is read while it is busy.
        await self.pause(0)
        await self.pause(0)
        be_busy()
        replies = await gatherResults(answers)
        self.assertEqual([b"%d" % number for number in range(100)], replies)

    @story
    async def test_one_pause(self) -> None:
        """One pause that is too long for all who wait costs no connection."""
        client = self.client(self.impostor(Slow))
        await self.until(lambda: client.connected)
        Slow.delay, before = 0.07, Slow.delay
        self.addCleanup(setattr, Slow, "delay", before)
        answers = [client.call(b"GET", number) for number in range(50)]
        ended: list[Any] = []
        for answer in answers:
            answer.addBoth(ended.append)
        await self.until(lambda: len(ended) == len(answers))
        await self.pause(0.2)
        self.assertEqual([], self.said())

    @story
    async def test_limits_are_kept(self) -> None:
        """Each command has its own limit, whichever was sent first; late replies go to nobody."""
        server = self.server()
        client = self.client(server.place)
        await self.until(lambda: client.connected)
        server.signal(signal.SIGSTOP)
        ended: list[Any] = []
        long, short = client.call(b"ECHO", b"1", limit=LONG), client.call(b"ECHO", b"2")
        short.addBoth(lambda outcome: ended.append(outcome.type))
        await self.until(lambda: ended)
        self.assertEqual([RedisSlow], ended)
        self.assertFalse(long.called)
        server.signal(signal.SIGCONT)
        self.assertEqual(b"1", await long)
        self.assertEqual(b"3", await client.call(b"ECHO", b"3", limit=LONG))

    @story
    async def test_slow(self) -> None:
        """One that answers late, but answers, keeps its connection; who waits goes on in time."""
        client = self.client(self.impostor(Slow))
        await self.until(lambda: client.connected)
        for _ in range(2 * redis_connection.MAX_UNANSWERED):
            began = time.monotonic()
            with self.assertRaises(RedisSlow):
                await client.call(b"GET", b"k")
            self.assertLess(time.monotonic() - began, 2 * Slow.delay)
            await self.pause(Slow.delay)
        self.assertTrue(client.connected)
        self.assertEqual([], self.said())


class Slow(Speaker):
    """Answers each piece that comes with as many replies, the later ones late."""

    delay = 0.25
    greeted = False

    def dataReceived(self, data: bytes) -> None:
        reply = b"+OK\r\n" * data.count(b"*")
        if self.greeted:
            the_reactor().callLater(self.delay, self.send, reply)
        else:
            self.greeted = True
            self.send(reply)


class Web(Speaker):
    """A server of something else."""

    def dataReceived(self, data: bytes) -> None:
        self.send(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        self.transport.loseConnection()  # type: ignore[union-attr]


class Silent(Speaker):
    """Takes everything and says nothing."""


class Echo(Speaker):
    """Repeats the login in an error."""

    def dataReceived(self, data: bytes) -> None:
        self.send(b"-S3CRET S3CRET\r\n" * data.count(b"*"))


class Babbler(Speaker):
    """Says more than it was asked for."""

    def dataReceived(self, data: bytes) -> None:
        self.send(b"+OK\r\n" * 50)


class ImpostorTests(LogTestCase):
    """Something that is no Redis: it is away, and the log says why without what it said."""

    async def assert_away(self, protocol: type[Speaker], words: str) -> None:
        """Check what is said of somebody."""
        client = self.client(attrs.evolve(self.impostor(protocol), user="u", password="S3CRET"))
        await self.until(self.said)
        await self.pause(0.4)
        self.assertFalse(client.connected and protocol is not Babbler)
        self.assertIn(words, self.said()[0])
        self.assertEqual(1, len(self.said()))
        self.assertNotIn("S3CRET", repr(self.events))

    @story
    async def test_web(self) -> None:
        """A web server."""
        await self.assert_away(Web, "does not speak Redis' protocol")

    @story
    async def test_silent(self) -> None:
        """Nobody behind the port."""
        await self.assert_away(Silent, "does not answer")

    @story
    async def test_echo(self) -> None:
        """One that sends the password back."""
        await self.assert_away(Echo, "it refuses us (other)")

    @story
    async def test_babbler(self) -> None:
        """Replies that nobody waits for: which reply is whose would not be known any more."""
        await self.assert_away(Babbler, "a reply came that nobody waits for")

    @story
    async def test_no_socket(self) -> None:
        """A path without a socket."""
        self.client(place_of("unix:///nowhere/redis.sock"))
        await self.until(self.said)
        self.assertIn("it cannot be reached", self.said()[0])

    @story
    async def test_no_name(self) -> None:
        """A name without an address."""
        self.client(place_of("redis://nowhere.invalid"))
        await self.until(self.said)
        self.assertTrue(self.said()[0] in ("its name has no address", "it does not answer"))


class Polite(Speaker):
    """Answers each command with OK."""

    def dataReceived(self, data: bytes) -> None:
        self.send(b"+OK\r\n" * data.count(b"*"))


class TLSTests(LogTestCase):
    """An encrypted connection."""

    def place(self, name: str) -> tuple[RedisPlace, trustme.CA]:
        """Let somebody with a certificate listen."""
        authority = trustme.CA()
        leaf = authority.issue_cert(name)
        pem = leaf.private_key_and_cert_chain_pem.bytes()
        options = ssl.PrivateCertificate.loadPEM(pem).options()
        port = the_reactor().listenSSL(
            0, Factory.forProtocol(Polite), options, interface="127.0.0.1"
        )
        self.addCleanup(port.stopListening)
        return RedisPlace("localhost", port.getHost().port, tls=True), authority

    def trusting(self, authority: trustme.CA) -> Any:
        """Return what makes connections that trust an authority."""
        certificate = ssl.Certificate.loadPEM(authority.cert_pem.bytes())
        return ssl.optionsForClientTLS("localhost", certificate)

    @story
    async def test_trusted(self) -> None:
        """One with a certificate of an authority that is trusted is let in."""
        place, authority = self.place("localhost")
        client = self.client(place, creator=self.trusting(authority))
        await self.until(lambda: client.connected)
        self.assertEqual(b"OK", await client.call(b"GET", b"k", limit=LONG))

    @story
    async def test_not_trusted(self) -> None:
        """Others are not: of an unknown authority, or for another name."""
        place, _ = self.place("localhost")
        client = self.client(place)
        await self.until(self.said)
        self.assertEqual(["TLS with it failed"], self.said())
        self.assertFalse(client.connected)
        place, authority = self.place("other.example")
        self.client(place, creator=self.trusting(authority))
        await self.until(lambda: len(self.said()) > 1)
        self.assertIn("TLS with it failed", self.said()[1])


class FullTests(RedisTestCase):
    """A Redis without room."""

    if SERVER is None:
        skip = NO_SERVER

    @story
    async def test_full(self) -> None:
        """What writes is refused, what reads is not."""
        server: Server = self.server("--maxmemory", "3mb", "--maxmemory-policy", "noeviction")
        client = self.client(server.place)
        await self.until(lambda: client.connected)
        await client.call(b"SET", b"here", b"1", limit=LONG)
        codes = set()
        for number in range(100):
            with contextlib.suppress(RedisTrouble):
                await client.call(b"SET", b"k%d" % number, bytes(100_000), limit=LONG)
                continue
            break
        try:
            await client.call(b"SET", b"k", bytes(100_000), limit=LONG)
        except RedisRefused as refused:
            codes.add(refused.code)
        self.assertEqual({"OOM"}, codes)
        self.assertEqual(b"1", await client.call(b"GET", b"here", limit=LONG))
