"""What a file says of spans, and what cannot be."""

from __future__ import annotations

from pyproxy.config.printing import printer
from pyproxy.config.schema import TracesConfig
from pyproxy.semantics.urls import parse_target
from tests.config.test_file import SMALL, FileTestCase

ENDPOINT = 'endpoint = "http://127.0.0.1:4318"\n'


class TracesTests(FileTestCase):
    """The table [traces]."""

    def test_default(self) -> None:
        """There are none, and nobody keeps an account."""
        for text in (SMALL, f"{SMALL}[traces]\n"):
            config = self.load(text)
            self.assertEqual((None, False), (config.traces, config.needs_accounts))

    def test_small(self) -> None:
        """An endpoint is enough; all is recorded then."""
        config = self.load(f"{SMALL}[traces]\n{ENDPOINT}")
        self.assertEqual(TracesConfig(parse_target("http://127.0.0.1:4318")), config.traces)
        self.assertTrue(config.needs_accounts)
        self.assertEqual((), config.secrets)

    def test_whole(self) -> None:
        """Every key; what is secret of the fields is known, and guards no listener."""
        config = self.load(
            f"{SMALL}[traces]\n"
            'endpoint = "https://otel.example/x"\n'
            'headers = { Authorization = "Bearer ${KEY}", X-Team = "a" }\n'
            'service_name = "front"\nsample = 0.25\n',
        )
        self.assertEqual(
            TracesConfig(
                parse_target("https://otel.example/x"),
                ((b"Authorization", b"Bearer sk-secret-of-the-operator"), (b"X-Team", b"a")),
                config.secrets,
                "front",
                0.25,
            ),
            config.traces,
        )
        self.assertIn(b"sk-secret-of-the-operator", config.secrets)
        self.assertNotIn("secret-of", repr(config))
        self.assertFalse(config.injects)

    def test_wrong(self) -> None:
        """Each mistake has its sentence, which quotes no secret."""
        for text, key, why in (
            ('endpoint = "unix:/run/otel.sock"', "endpoint", "it has to be http://HOST"),
            ('endpoint = "ftp://h"', "endpoint", "it has to be http://HOST"),
            ('endpoint = "http://u:sekret@h"', "endpoint", "put them into headers"),
            ('endpoint = "http://h?key=sekret"', "endpoint", "a query or fragment"),
            ("endpoint = 4318", "endpoint", "it has to be a string"),
            (f"{ENDPOINT}sample = 1.5", "sample", "a number from 0 to 1"),
            (f"{ENDPOINT}sample = -0.1", "sample", "a number from 0 to 1"),
            (f"{ENDPOINT}sample = true", "sample", "a number from 0 to 1"),
            (f'{ENDPOINT}service_name = ""', "service_name", "it must not be empty"),
            (f'{ENDPOINT}headers = {{ "A b" = "sekret" }}', "headers.A", "the name of a field"),
            (f'{ENDPOINT}headers = {{ A = "${{NO}}" }}', "headers.A", "NO is not set"),
            ("sample = 0.5", "sample", "name a collector with endpoint"),
            ('headers = { A = "b" }', "headers", "name a collector with endpoint"),
            ('service_name = "a"', "service_name", "name a collector with endpoint"),
        ):
            (error,) = self.errors(f"{SMALL}[traces]\n{text}\n")
            self.assertIn(f"traces.{key}", error)
            self.assertIn(why, error)
            self.assertNotIn("sekret", error)

    def test_printed(self) -> None:
        """The configuration in use is shown without a secret, and can be read again."""
        text = (
            f"{SMALL}[traces]\n{ENDPOINT}"
            'headers = { Authorization = "Bearer sekret-abcdef", X-Key = "${KEY}" }\n'
        )
        config = self.load(text)
        printed = printer({"config": str(self.path)})(config)
        self.assertNotIn("sekret", printed)
        self.assertIn('Authorization = "Bearer ***"', printed)
        self.assertIn('X-Key = "${KEY}"', printed)
        self.assertIn('endpoint = "http://127.0.0.1:4318"', printed)
        self.load(printed)
