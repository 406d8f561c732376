"""Install the proxy for real into a fresh environment, and run it there as a daemon and not.

The tests share one environment: its dependencies are installed once.  Working directories lie
outside the checkout, so that nothing but the installed files can be found.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from pyproxy import __version__
from tests.live.kit import CHECKOUT, eventually, free_port

INSTALL_LIMIT = 600.0
"""Seconds for pip to fetch and install everything."""

START_LIMIT = 60.0
END_LIMIT = 30.0


class _Upstream(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        content = b"from the upstream"
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Write nothing."""


def run(*words: str | Path, cwd: Path, limit: float = INSTALL_LIMIT) -> str:
    """Run a command to its end and return what it printed; fail unless its status is 0."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    }
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="backslashreplace",
        timeout=limit,
        check=False,
    )
    if done.returncode != 0:
        raise AssertionError(f"{words} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


class Environment:
    """A virtual environment outside the checkout, with the dependencies of a normal install."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="install-"))
        atexit.register(shutil.rmtree, self.root, ignore_errors=True)
        self.bin = self.root / "venv" / "bin"
        self.source = self.root / "source"
        self._copy_checkout()
        run(sys.executable, "-m", "venv", self.root / "venv", cwd=self.root)
        self.pip(self.source)

    def _copy_checkout(self) -> None:
        """Copy the checkout without what building and running leave in it."""
        leavings = (".*", "*.egg-info", "__pycache__", "build", "dist", "_build", "_trial_temp*")
        shutil.copytree(
            CHECKOUT, self.source, ignore=shutil.ignore_patterns(*leavings), symlinks=True
        )
        shutil.copytree(CHECKOUT / ".ci", self.source / ".ci")

    def pip(self, *words: str | Path) -> None:
        """Run ``pip install``."""
        run(self.bin / "python", "-m", "pip", "install", "--quiet", *words, cwd=self.root)

    def reinstall(self, package: Path) -> None:
        """Put another build of the proxy in place of the one that is installed."""
        self.pip("--no-deps", "--force-reinstall", package)

    def uninstall(self) -> None:
        """Take the proxy out."""
        run(self.bin / "python", "-m", "pip", "uninstall", "--yes", "pyproxy", cwd=self.root)

    def build(self, kind: str) -> Path:
        """Build ``sdist`` or ``wheel`` from the copy of the checkout."""
        output = self.root / kind
        run(sys.executable, "-m", "build", f"--{kind}", "--outdir", output, cwd=self.source)
        (built,) = output.iterdir()
        return built

    def installed_files(self) -> set[str]:
        """Return the paths of the proxy's installed files, relative to site-packages."""
        listing = run(
            self.bin / "python",
            "-c",
            "from importlib.metadata import files\nfor path in files('pyproxy'): print(path)",
            cwd=self.root,
        )
        return {line for line in listing.splitlines() if "__pycache__" not in line}


class _Shared:
    """The one environment; the first test that asks for it pays for it."""

    environment: Environment | None = None

    @classmethod
    def get(cls) -> Environment:
        if cls.environment is None:
            cls.environment = Environment()
        return cls.environment


class InstallTests(unittest.TestCase):
    """Each way to install ends with the same files and a plugin that twistd lists."""

    def setUp(self) -> None:
        """Use the shared environment."""
        self.environment = _Shared.get()

    def check_installed(self) -> None:
        """Check the files and what twistd says."""
        environment = self.environment
        files = environment.installed_files()
        ours = {path for path in files if ".dist-info" not in path}
        sources = {
            str(path.relative_to(environment.source))
            for path in (environment.source / "pyproxy").rglob("*")
            if path.suffix in (".css", ".html", ".js", ".py", ".svg")
        }
        wanted = sources | {
            "pyproxy/py.typed",
            "twisted/plugins/pyproxy_plugin.py",
            "twisted/plugins/pyproxy_reactors.py",
        }
        self.assertEqual(sorted(wanted), sorted(ours))
        listing = run(environment.bin / "twistd", "--help", cwd=environment.root)
        self.assertRegex(listing, r"(?m)^ +pyproxy +Streaming reverse proxy")
        self.assertRegex(listing, r"(?m)^ +web ", "Twisted's own plugins are gone")
        version = run(environment.bin / "twistd", "pyproxy", "--version", cwd=environment.root)
        self.assertIn(__version__, version)

    def test_from_checkout(self) -> None:
        """``pip install .`` in a checkout."""
        self.environment.reinstall(self.environment.source)
        self.check_installed()

    def test_from_wheel(self) -> None:
        """``pip install`` of the built wheel."""
        self.environment.reinstall(self.environment.build("wheel"))
        self.check_installed()

    def test_from_sdist(self) -> None:
        """``pip install`` of the built source distribution."""
        self.environment.reinstall(self.environment.build("sdist"))
        self.check_installed()

    def test_editable(self) -> None:
        """``pip install --editable .`` finds our plugin and hides none of Twisted's."""
        self.addCleanup(self.environment.reinstall, self.environment.source)
        self.environment.pip(
            "--no-deps", "--force-reinstall", "--editable", self.environment.source
        )
        listing = run(self.environment.bin / "twistd", "--help", cwd=self.environment.root)
        self.assertRegex(listing, r"(?m)^ +pyproxy +Streaming reverse proxy")
        self.assertRegex(listing, r"(?m)^ +web ", "Twisted's own plugins are gone")

    def test_uninstall(self) -> None:
        """``pip uninstall`` takes our files away and leaves Twisted whole."""
        self.addCleanup(self.environment.reinstall, self.environment.source)
        self.environment.uninstall()
        listing = run(self.environment.bin / "twistd", "--help", cwd=self.environment.root)
        self.assertNotIn("pyproxy", listing)
        self.assertRegex(listing, r"(?m)^ +web ")


class RunTests(unittest.TestCase):
    """The installed proxy runs in the background and in the foreground."""

    def setUp(self) -> None:
        """Start an upstream and choose a port."""
        self.environment = _Shared.get()
        server = ThreadingHTTPServer(("127.0.0.1", 0), _Upstream)
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        self.addCleanup(thread.join, END_LIMIT)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        self.port = free_port()
        self.directory = Path(tempfile.mkdtemp(prefix="run-", dir=self.environment.root))
        self.arguments = (
            "pyproxy",
            "--target",
            f"http://127.0.0.1:{server.server_address[1]}",
            "--port",
            str(self.port),
        )

    def ask(self) -> bytes:
        """Send a request through the proxy and return the content of the answer; empty for none."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", "/")
            return connection.getresponse().read()
        except ConnectionError:
            return b""
        finally:
            connection.close()

    def wait(self, what: str, look: Callable[[], object], limit: float) -> None:
        """Wait until ``look`` returns something true."""
        if not eventually(look, limit):
            log = self.directory / "the.log"
            self.fail(f"{what}; log:\n{log.read_text() if log.exists() else 'none'}")

    def test_daemon(self) -> None:
        """``twistd pyproxy`` honours --pidfile and --logfile and ends on SIGTERM."""
        pidfile, log = self.directory / "the.pid", self.directory / "the.log"
        run(
            self.environment.bin / "twistd",
            f"--pidfile={pidfile}",
            f"--logfile={log}",
            *self.arguments,
            cwd=self.directory,
            limit=START_LIMIT,
        )
        self.wait("no pid file", lambda: pidfile.exists() and pidfile.read_text(), START_LIMIT)
        pid = int(pidfile.read_text())
        self.addCleanup(_end, pid)
        self.wait("no answer", self.ask, START_LIMIT)
        self.assertEqual(b"from the upstream", self.ask())
        self.assertIn(f"Listening on http://127.0.0.1:{self.port} for http://", log.read_text())
        os.kill(pid, signal.SIGTERM)
        self.wait("the daemon lives on", lambda: not _lives(pid), END_LIMIT)
        self.assertFalse(pidfile.exists(), "the pid file is still there")
        self.assertIn("Server Shut Down", log.read_text())
        self.assertNotIn("Traceback", log.read_text())
        self.assertEqual(["the.log"], [path.name for path in self.directory.iterdir()])

    def test_demo(self) -> None:
        """The embedded demo works from installed files alone."""
        log = self.environment.root / "demo.log"
        port = free_port()
        with log.open("wb") as output:
            process = subprocess.Popen(
                [
                    str(self.environment.bin / "twistd"),
                    *("-n", "--pidfile=", "pyproxy", "--demo", "--port", str(port)),
                ],
                cwd=self.environment.root,
                stdout=output,
                stderr=output,
            )
        self.addCleanup(process.wait, END_LIMIT)
        self.addCleanup(process.terminate)
        self.assertTrue(
            eventually(lambda: "Listening on" in log.read_text(), START_LIMIT), log.read_text()
        )
        connection = HTTPConnection("127.0.0.1", port, timeout=START_LIMIT)
        self.addCleanup(connection.close)
        connection.request("GET", "/chat")
        self.assertIn(b"<html", connection.getresponse().read())

    def test_foreground(self) -> None:
        """``twistd -n pyproxy`` ends on SIGTERM with status 0."""
        process = subprocess.Popen(
            [self.environment.bin / "twistd", "-n", "--logfile=the.log", *self.arguments],
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.wait("no answer", self.ask, START_LIMIT)
        self.assertEqual(b"from the upstream", self.ask())
        self.assertTrue((self.directory / "twistd.pid").exists())
        process.terminate()
        self.assertEqual(0, process.wait(END_LIMIT))
        self.assertEqual(["the.log"], [path.name for path in self.directory.iterdir()])


def _lives(pid: int) -> bool:
    """Tell whether a process runs; one that ended and was not yet waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def _end(pid: int) -> None:
    """Make sure that a process is gone."""
    end = time.monotonic() + END_LIMIT
    while _lives(pid) and time.monotonic() < end:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
