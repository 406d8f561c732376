"""What may stand beside ``--config``, and what is told where it goes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pyproxy.config.beside import HERE_TOO, key_of, load_with_overrides
from pyproxy.config.loader import ConfigError
from pyproxy.config.schema import Config
from pyproxy.tap import Options

FILE = """
[[listeners]]
endpoint = "tcp:0:interface=127.0.0.1"
[[routes]]
answer = { text = "fine" }
"""


class BesideTests(SynchronousTestCase):
    """Nothing is said in two places but where to listen."""

    def setUp(self) -> None:
        """Write a file."""
        self.path = Path(self.enterContext(tempfile.TemporaryDirectory())) / "pyproxy.toml"
        self.path.write_text(FILE)

    def load(self, **said: Any) -> Config:
        """Read the file beside other options, each by its name with underscores."""
        defaults = {f"default-{row[0]}": row[2] for row in Options.optParameters}
        given = {name.replace("_", "-"): value for name, value in said.items()}
        options = {**Options(), **defaults, "config": str(self.path), **given}
        return load_with_overrides(options, {}, lambda _: None, tries=False)

    def test_nothing(self) -> None:
        """The file says it all."""
        (listen,) = self.load().listen
        self.assertEqual("tcp:0:interface=127.0.0.1", listen.description)

    def test_listeners(self) -> None:
        """Where to listen may be said, in place of the file's listeners."""
        self.assertEqual([7], [listen.port for listen in self.load(port="7").listen])
        self.assertEqual("::1", self.load(interface="::1").listen[0].interface)
        listen = self.load(listen=["unix:/run/a", "unix:/run/b"]).listen
        self.assertEqual(["unix:/run/a", "unix:/run/b"], [each.description for each in listen])

    def test_what_is_done_with_it(self) -> None:
        """So may what is to be done with the file."""
        self.load(check=1, print_config=1, watch=1)

    def test_everything_else(self) -> None:
        """Each other option is told where it goes in the file, and all at once."""
        said: dict[str, Any] = {}
        places = {}
        for name in (long.removesuffix("=") for long in Options().longOpt):
            key = key_of(name)
            if key is not None and key.name != HERE_TOO:
                said[name] = 1 if key.value else "7"
                places[name] = key.place
        self.assertGreater(len(places), 25)
        with self.assertRaises(ConfigError) as caught:
            self.load(**said)
        wanted = [
            f"--{name}: with --config it goes into the file, as {place}"
            for name, place in places.items()
        ]
        self.assertEqual(sorted(wanted), sorted(caught.exception.errors))

    def test_defaults(self) -> None:
        """An option that says what holds without it is not in the way."""
        self.load(workers="1", idle_timeout="300")
