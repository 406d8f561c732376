"""``python -m pyproxy cache``, as a process of its own, and a real admin site."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.admin.command import Trouble, UnixConnection, connection_to
from pyproxy.admin.site import AdminSite
from pyproxy.config.schema import Listen
from pyproxy.life.condition import Condition, Phase
from pyproxy.life.desk import Asked, Document
from pyproxy.listeners import Listeners
from tests.admin.kit import Served
from tests.cache_desk import desk_of
from tests.configs import one_route
from tests.turning import TurningTestCase, free_port

CHECKOUT = Path(__file__).parents[2]


@attrs.define
class LackingServed(Served):
    """A service of which one worker does not answer."""

    def reopen_logs(self) -> None:
        """Have no logs."""

    def ask_cache(self, asked: Asked) -> Any:
        """Ask the desk, and name that worker."""

        def named(found: Document | None) -> Document | None:
            return None if found is None else {**found, "silent": [2]}

        return Served.ask_cache(self, asked).addCallback(named)


class CommandTests(TurningTestCase):
    """The command against a site on a TCP port and a Unix socket."""

    def setUp(self) -> None:
        """Open the site."""
        super().setUp()
        directory = self.enterContext(tempfile.TemporaryDirectory(prefix="admin-"))
        self.socket = f"{directory}/s"
        self.port = free_port()
        self.served = Served(desk=desk_of("http://h/a", "http://h/b"))
        self.serve(self.served)

    def serve(self, served: Served) -> None:
        """Let a site answer for a service."""
        condition = Condition(one_route(), "", 1.0, Phase.SERVING)
        listeners = Listeners(self.reactor, AdminSite(condition, served, self.reactor))
        listeners.take([Listen(port=self.port), Listen(f"unix:{self.socket}")])
        self.listeners = listeners
        self.addCleanup(self.leave, listeners.places)

    def run_command(self, *arguments: str) -> tuple[int, Any, str]:
        """Run the command; return its status, its answer and its errors."""
        process = subprocess.Popen(
            [sys.executable, "-m", "pyproxy", "cache", *arguments],
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.kill)
        self.turn_until(lambda: process.poll() is not None)
        output, errors = process.communicate()
        self.assertNotIn("Traceback", errors)
        return process.returncode, json.loads(output) if output else None, errors

    def test_show(self) -> None:
        """The figures, wherever the site listens."""
        expected = self.served.desk.counts() if self.served.desk else None
        for place in (
            f"http://127.0.0.1:{self.port}",
            f"tcp:{self.port}",
            self.socket,
            f"unix:{self.socket}",
        ):
            self.assertEqual((0, expected, ""), self.run_command("show", f"--admin={place}"))

    def test_entries_and_purge(self) -> None:
        """What is found is purged, and found no more."""
        place = f"--admin={self.socket}"
        status, answer, _ = self.run_command("entries", place, "--prefix=http://h/", "--limit=1")
        self.assertEqual((0, ["http://h/a"]), (status, [one["url"] for one in answer["entries"]]))
        self.assertEqual((0, {"purged": 1}, ""), self.run_command("purge", place, "--tag", "a"))
        self.assertEqual([], self.run_command("entries", place, "--url=http://h/a")[1]["entries"])

    def test_refused(self) -> None:
        """What the site refuses is an error with the site's own words."""
        place = f"--admin=tcp:{self.port}"
        status, answer, errors = self.run_command("entries", place, "--tag=a", "--limit=0")
        self.assertEqual((1, None), (status, answer))
        self.assertIn("limit has to be", errors)
        self.served.desk = None
        self.assertIn("cache = true", self.run_command("show", place)[2])

    def test_silent(self) -> None:
        """An answer that lacks a worker's is printed, and is an error: a purge is not complete."""
        self.leave(self.listeners.places)
        self.serve(LackingServed(desk=self.served.desk))
        status, answer, errors = self.run_command("purge", f"--admin={self.socket}", "--tag=a")
        self.assertEqual((1, {"purged": 1, "silent": [2]}), (status, answer))
        self.assertIn("not answered: 2", errors)

    def test_nobody(self) -> None:
        """Where nobody listens that is said."""
        for place in (f"tcp:{free_port()}", f"{self.socket}x"):
            status, answer, errors = self.run_command("show", f"--admin={place}")
            self.assertEqual((1, None), (status, answer))
            self.assertTrue(errors.startswith(f"pyproxy: {place}: "), errors)

    def test_no_site(self) -> None:
        """What is no admin site is told from one."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.setblocking(False)
            address = f"tcp:{server.getsockname()[1]}"
            process = subprocess.Popen(
                [sys.executable, "-m", "pyproxy", "cache", "show", f"--admin={address}"],
                cwd=CHECKOUT,
                stderr=subprocess.PIPE,
                text=True,
            )
            self.addCleanup(process.kill)
            server.settimeout(60)
            client, _ = server.accept()
            with client:
                client.recv(65536)
                client.sendall(b"SSH-2.0-x\r\n")
            _, errors = process.communicate(timeout=60)
        self.assertEqual((1, True), (process.returncode, "no admin site" in errors))

    def test_usage(self) -> None:
        """Without a place, or with none or two of what is meant, it says how to ask."""
        place = f"--admin={self.socket}"
        for arguments in (
            (),
            ("show",),
            ("purge", place),
            ("purge", place, "--tag=a", "--url=b"),
            ("entries", place, "--tag=a", "--limit=x"),
            ("drop", place),
        ):
            status, answer, errors = self.run_command(*arguments)
            self.assertEqual((2, None), (status, answer))
            self.assertIn("usage: pyproxy cache", errors)


class PlaceTests(SynchronousTestCase):
    """Where an admin site may be."""

    def test_right(self) -> None:
        """A URL, a port of this machine, a Unix socket."""
        for place, host, port in (
            ("http://127.0.0.1:9000", "127.0.0.1", 9000),
            ("http://[::1]:9000/", "::1", 9000),
            ("http://localhost", "localhost", 80),
            ("https://127.0.0.1", "127.0.0.1", 443),
            ("tcp:9000", "127.0.0.1", 9000),
        ):
            connection = connection_to(place)
            self.assertEqual((host, port), (connection.host, connection.port))
        self.assertIsInstance(connection_to("/run/a.sock"), UnixConnection)

    def test_wrong(self) -> None:
        """Anything else, with what would be right."""
        for place in ("", "9000", "ftp://h", "http://", "http://h:x", "http://h/api", "http://[h"):
            self.assertIn("tcp:9000", str(self.assertRaises(Trouble, connection_to, place)))
