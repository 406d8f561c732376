"""What a file says of logs, and what cannot be."""

from __future__ import annotations

import os

from pyproxy.config.file import KEPT_LOGS, MAX_LOG_BYTES
from pyproxy.config.schema import LogConfig
from pyproxy.observe.output import LogPlace
from pyproxy.policy.insertions import Asks, Insertions
from tests.config.test_file import ROUTE, SMALL, FileTestCase


class LogTests(FileTestCase):
    """The table [log]."""

    def log(self, text: str) -> LogConfig:
        """Return what a table says."""
        return self.load(f"{SMALL}[log]\n{text}").log

    def test_default(self) -> None:
        """The combined format, in twistd's log; nobody keeps an account."""
        config = self.load(SMALL)
        self.assertEqual(LogConfig("combined", None, False), config.log)
        self.assertFalse(config.needs_accounts)
        self.assertFalse(config.routes[0].usage)
        self.assertFalse(config.routes[0].server_timing)

    def test_access(self) -> None:
        """By name, or by a format."""
        for access in ("combined", "json", "{client} {{x}} {status}"):
            self.assertEqual(access, self.log(f'access = "{access}"').access)
        for access, why in (
            ("Json", "it is combined, json or a format"),
            ("", "it is combined, json or a format"),
            ("{secret}", "{secret} is no fact"),
            ("{}", "{} is no fact"),
            ("{status:d}", "{status} is no fact"),
            ("{status!r}", "{status} is no fact"),
            ("{status.real}", "{status.real} is no fact"),
            ("{status", "braces come in pairs"),
            ("{status}\\t", "a control character"),
        ):
            (error,) = self.errors(f'{SMALL}[log]\naccess = "{access}"')
            self.assertIn("log.access", error)
            self.assertIn(why, error)

    def test_file(self) -> None:
        """Relative to the configuration; it is no file of that, whose change reloads."""
        directory = self.path.parent.absolute()
        config = self.load(f'{SMALL}[log]\nfile = "access.log"')
        place = LogPlace(str(directory / "access.log"), MAX_LOG_BYTES, KEPT_LOGS)
        self.assertEqual(place, config.log.place)
        self.assertEqual(frozenset({self.path.absolute()}), config.files)
        log = self.log(f'file = "{directory}/a.log"\nmax_size = "1m"\nkeep = 3')
        self.assertEqual(LogPlace(f"{directory}/a.log", 1024**2, 3), log.place)

    def test_no_file(self) -> None:
        """What cannot be written, and what is for a file only."""
        (self.path.parent / "log").mkdir()
        for text, key, why in (
            ('file = "log"', "log.file", "a directory that is there"),
            ('file = "no/such.log"', "log.file", "a directory that is there"),
            ("keep = 3", "log.keep", "it is for a file of its own"),
            ("max_size = 3", "log.max_size", "it is for a file of its own"),
            ('file = "a"\nkeep = 0', "log.keep", "a whole number from 1"),
            ('file = "a"\nmax_size = 0', "log.max_size", "0"),
        ):
            (error,) = self.errors(f"{SMALL}[log]\n{text}")
            self.assertIn(key, error)
            self.assertIn(why, error)

    def test_not_to_be_written(self) -> None:
        """A file of somebody else."""
        if os.geteuid() == 0:
            self.skipTest("root may write everything")
        file = self.path.parent / "a.log"
        file.touch(0o400)
        (error,) = self.errors(f'{SMALL}[log]\nfile = "a.log"')
        self.assertIn("it cannot be written", error)


class AccountTests(FileTestCase):
    """Who wants to know what happened."""

    def test_needs(self) -> None:
        """A log of accounts, a trace, a route that is watched or tells times."""
        for text, needs in (
            ("", False),
            ("usage = true", True),
            ("server_timing = true", True),
            ("usage = false", False),
            ("[log]\ntrace = true", True),
            ('[log]\naccess = "json"', True),
            ('[log]\naccess = "{status}"', True),
            ('[log]\nfile = "a.log"', False),
            ('access_log = false\n[log]\naccess = "json"', False),
        ):
            self.assertIs(needs, self.load(f"{SMALL}{text}\n").needs_accounts, text)

    def test_defaults(self) -> None:
        """For all routes that ask an upstream."""
        text = f"[defaults]\nusage = true\nserver_timing = true\n{SMALL}"
        text += f'{ROUTE}path = "/off"\nusage = false\nserver_timing = false\n'
        text += '[[routes]]\npath = "/answer"\nanswer = {}\n'
        routes = self.load(text).routes
        self.assertEqual([True, False, False], [route.usage for route in routes])
        self.assertEqual([True, False, False], [route.server_timing for route in routes])


class InsertionTests(FileTestCase):
    """What is put into event streams."""

    def test_options(self) -> None:
        """Each by its key; with none there is nothing."""
        for text, insertions in (
            ("", None),
            ("usage = true\nerror_event = false", None),
            ("ping = 15", Insertions(ping=15.0)),
            ("stall_timeout = 2", Insertions(stall=2.0)),
            ("error_event = true", Insertions(error_event=True)),
            ("early = true", Insertions(ping=15.0, early=True, error_event=True)),
            ("early = true\nping = 3", Insertions(ping=3.0, early=True, error_event=True)),
            ('usage = "ask"', Insertions(asks=Asks.AT_END)),
            ('usage = "ask-continuous"', Insertions(asks=Asks.IN_EVERY_EVENT)),
        ):
            config = self.load(f"{SMALL}{text}\n")
            self.assertEqual(insertions, config.routes[0].insertions, text)
        self.assertIs(True, self.load(f'{SMALL}usage = "ask"\n').routes[0].usage)

    def test_waits(self) -> None:
        """They are kept as exactly as other limits."""
        self.assertIn(0.2, self.load(f"{SMALL}ping = 0.2\n").waits)
        self.assertIn(0.2, self.load(f"{SMALL}stall_timeout = 0.2\n").waits)

    def test_wrong(self) -> None:
        """What is no such value, and what does not go together."""
        for text, why in (
            ("ping = 0", "greater than 0"),
            ('usage = "often"', '"ask-continuous"'),
            ('usage = "ask"\ncache = { post = { ttl = 5 } }', "say usage = true"),
            ('cache = { post = { ttl = 5 } }\n[defaults]\nusage = "ask"', "say usage = true"),
        ):
            (error,) = self.errors(f"{SMALL}{text}\n")
            self.assertIn(why, error)
