"""Programs of other people, each in an environment of its own below one cache folder.

What is there with the same requirements is used again.  The folder is ``.compliance`` in the
checkout unless the variable ``COMPLIANCE_CACHE`` names another.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs

from compliance.processes import CHECKOUT, OutOfTime, inherited, run

INSTALL_LIMIT = 600.0
"""Seconds for one installer to fetch and install everything."""

LOCK_INTERVAL = 0.2
ASK_LIMIT = 30.0
"""Seconds for a program to say which version it is."""

AUTOBAHN = "autobahntestsuite==25.10.1"
JUPYTERLAB = "jupyterlab==4.6.6"
WEBSOCKETS = "websockets==17.4"
VIRTUALENV = "virtualenv<20.22"
"""The last one that makes environments of Python 2.7."""

WS = "ws@8.23.0"
CACHE_TESTS = "http-cache-tests@0.4.5"
SOCKET_IO = ("socket.io@4.8.4", "socket.io-client@4.8.4")


class Missing(Exception):
    """Something that this machine would have to provide is not there; one sentence."""


@attrs.frozen
class Node:
    """A ``node`` that finds a folder of packages."""

    program: Path
    modules: Path

    @property
    def environment(self) -> dict[str, str]:
        """The variables that let scripts outside the folder ``require`` its packages."""
        return {"NODE_PATH": str(self.modules)}


def cache() -> Path:
    """Return the folder that everything is installed below; make it."""
    folder = Path(os.environ.get("COMPLIANCE_CACHE") or CHECKOUT / ".compliance").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def python_environment(name: str, *requirements: str) -> Path:
    """Return the ``python`` of an environment with the requirements.

    Raises: Missing when they cannot be installed.
    """
    folder = cache() / name
    program = folder / "bin" / "python"
    with _installing(folder, [sys.version, *requirements]) as needed:
        if needed:
            _install(f"create {name}", sys.executable, "-m", "venv", folder)
            _install(f"install {name}", program, *_PIP_INSTALL, *requirements)
    return program


def wstest() -> tuple[Path, Path]:
    """Return the ``python`` and the ``wstest`` of an environment with the Autobahn test suite.

    Raises: Missing when there is no Python 2.7, or the suite cannot be installed.
    """
    python27 = find_python27()
    folder = cache() / "autobahn"
    program = folder / "bin" / "python"
    with _installing(folder, [str(python27), AUTOBAHN]) as needed:
        if needed:
            # It brings a pip for Python 2.7 along, so that interpreter needs none of its own.
            maker = python_environment("virtualenv", VIRTUALENV)
            _install(
                "create autobahn",
                *(maker, "-m", "virtualenv", "--python", python27),
                *("--no-download", "--app-data", cache() / "virtualenv-data", folder),
            )
            _install("install autobahn", program, *_PIP_INSTALL, AUTOBAHN)
    return program, folder / "bin" / "wstest"


def node(name: str, *packages: str) -> Node:
    """Return a ``node`` with npm packages.

    Raises: Missing when there is no node or npm, or the packages cannot be installed.
    """
    found = {each: shutil.which(each) for each in ("node", "npm")}
    for each, path in found.items():
        if path is None:
            raise Missing(f"There is no '{each}' on PATH.")
    folder = cache() / name
    with _installing(folder, packages) as needed:
        if needed:
            folder.mkdir()
            (folder / "package.json").write_text("{}\n")
            npm = (str(found["npm"]), "install", "--prefix", folder, "--no-audit", "--no-fund")
            _install(f"install {name}", *npm, *packages)
    return Node(Path(str(found["node"])), folder / "node_modules")


def find_python27() -> Path:
    """Return a Python 2.7 interpreter: the one that PYTHON27 names, on PATH, or one of pyenv's.

    Raises: Missing when there is none.
    """
    if named := os.environ.get("PYTHON27"):
        if (path := shutil.which(named)) and (found := _python27(path)):
            return found
        raise Missing(f"PYTHON27 is {named!r}, which is no Python 2.7 that runs.")
    for candidate in (*_on_path(), *_of_pyenv()):
        if found := _python27(candidate):
            return found
    raise Missing(
        "The Autobahn test suite runs on Python 2.7 only, and there is none here: "
        "neither python2.7, python2, pypy2 or pypy on PATH nor one of pyenv's; "
        "set PYTHON27 to one."
    )


_PIP_INSTALL = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
_ASK_VERSION = "import sys; print('%d.%d %s' % (sys.version_info[:2] + (sys.executable,)))"


def _on_path() -> Iterator[str]:
    for name in ("python2.7", "python2", "pypy2.7", "pypy2", "pypy"):
        if path := shutil.which(name):
            yield path


def _of_pyenv() -> Iterator[str]:
    """Yield the Python 2.7 interpreters of pyenv, the newest first."""
    root = os.environ.get("PYENV_ROOT")
    pyenv = shutil.which("pyenv") or (root and shutil.which("pyenv", path=f"{root}/bin"))
    if not pyenv:
        return
    versions = _ask([pyenv, "versions", "--bare"]).split()
    for version in sorted(versions, reverse=True):
        if version.startswith(("2.7", "pypy2.7")):
            if prefix := _ask([pyenv, "prefix", version]).strip():
                yield f"{prefix}/bin/python"


def _python27(program: str) -> Path | None:
    """Return the path of the interpreter itself; None when it does not run or is another one.

    A name on PATH can be a switch of pyenv's that leads nowhere, so each is asked.
    """
    version, _, path = _ask([program, "-c", _ASK_VERSION]).strip().partition(" ")
    return Path(path) if version == "2.7" else None


def _ask(command: Sequence[str]) -> str:
    """Return what a command wrote; nothing when it failed."""
    try:
        done = subprocess.run(
            command,
            env=inherited(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="backslashreplace",
            timeout=ASK_LIMIT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


@contextmanager
def _installing(folder: Path, requirements: Sequence[str]) -> Iterator[bool]:
    """Tell whether a folder has to be filled, and take note when that has been done.

    One process at a time; a folder that was left half filled is emptied.
    """
    note = folder.with_name(f"{folder.name}.json")
    wanted = json.dumps([str(folder), *requirements])
    with _locked(folder.with_name(f"{folder.name}.lock")):
        needed = not note.exists() or note.read_text("utf-8") != wanted
        if needed:
            note.unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
        yield needed
        note.write_text(wanted, "utf-8")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock on a file; another process may be installing the same.

    Raises: Missing when the other has not finished within its own limit.
    """
    end = time.monotonic() + INSTALL_LIMIT
    with path.open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > end:
                    raise Missing(f"Somebody else holds {path}.") from error
                time.sleep(LOCK_INTERVAL)
        yield


def _install(what: str, *command: str | Path) -> None:
    """Run an installer; its log is named after what it does.

    Raises: Missing with its first complaint when it fails.
    """
    try:
        status, output = run(command, cache(), what.replace(" ", "-"), INSTALL_LIMIT)
    except OutOfTime as error:
        raise Missing(f"Could not {what}: {error}") from error
    if status != 0:
        lines = output.strip().splitlines() or ["no output"]
        errors = [line for line in lines if re.search("error", line, re.IGNORECASE)]
        raise Missing(f"Could not {what}: {(errors or lines[-1:])[0].strip()}")
