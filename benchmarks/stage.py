"""Set the stage: the upstreams, and a system in front of one of them until it is measured."""

from __future__ import annotations

import http.client
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs

from benchmarks import nginx
from benchmarks.measures import Subject
from benchmarks.processes import Cpus, Running, StartError, let_a_moment_pass, running
from benchmarks.systems import Origin, System
from benchmarks.websockets.measures import websockets_missing

START_LIMIT = 20.0
"""Seconds that a process gets to its first answer."""

CHECKOUT = Path(__file__).resolve().parent.parent
ENVIRONMENT = {"PYTHONPATH": str(CHECKOUT), "PYTHONUNBUFFERED": "1"}


@attrs.frozen
class Stage:
    """The upstreams that run, and where the systems may write."""

    cpus: Cpus
    directory: Path
    origins: dict[str, int]
    """The upstreams' ports by name: ``fixed``, ``streams`` and, where it can run, ``echo``."""

    @contextmanager
    def started(self, system: System, upstream: str) -> Iterator[Subject]:
        """Run a system in front of an upstream; the block begins with its first answer.

        Raises: StartError.
        """
        port = free_port()
        with tempfile.TemporaryDirectory(dir=self.directory) as name:
            directory = Path(name)
            origin = Origin(upstream, self.origins[upstream])
            command = system.command(directory, origin, port)
            begun = time.monotonic()
            with running(
                command, directory, cpu=self.cpus.proxy, environment=ENVIRONMENT
            ) as process:
                await_answer(port, process)
                yield Subject(port, process, time.monotonic() - begun, directory)

    def direct(self, upstream: str) -> Subject:
        """Return the upstream itself, as if it were a system."""
        return Subject(self.origins[upstream], None, 0.0, self.directory)


@contextmanager
def stage(cpus: Cpus) -> Iterator[Stage]:
    """Run the upstreams.

    Raises: StartError.
    """
    executable = nginx.find()
    if executable is None:
        raise StartError("the upstream of the fixed answers is nginx; install it first")
    with ExitStack() as stack:
        top = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmarks-")))
        modules = {"streams": "benchmarks.upstream", "echo": "benchmarks.websockets.upstream"}
        if websockets_missing() is not None:
            del modules["echo"]
        origins = {}
        for name, module in modules.items():
            origins[name] = free_port()
            command = [sys.executable, "-m", module, "--port", str(origins[name])]
            _run_upstream(stack, command, top / name, origins[name], cpus)
        fixed = top / "fixed"
        fixed.mkdir()
        origins["fixed"] = free_port()
        nginx.write_upstream(fixed, origins["streams"], origins["fixed"])
        _run_upstream(stack, nginx.command(executable, fixed), fixed, origins["fixed"], cpus)
        yield Stage(cpus, top, origins)


def _run_upstream(
    stack: ExitStack, command: list[str], directory: Path, port: int, cpus: Cpus
) -> None:
    directory.mkdir(exist_ok=True)
    process = stack.enter_context(
        running(command, directory, cpu=cpus.load, environment=ENVIRONMENT)
    )
    await_answer(port, process)


def free_port() -> int:
    """Return a loopback port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def await_answer(port: int, process: Running) -> None:
    """Wait until a process answers.

    Raises: StartError when it ends first, answers with an error or takes too long.
    """
    deadline = time.monotonic() + START_LIMIT
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_LIMIT)
        try:
            connection.request("GET", "/small", headers={"Connection": "close"})
            status = connection.getresponse().status
        except ConnectionRefusedError:
            let_a_moment_pass(process, deadline)
        except (OSError, http.client.HTTPException) as error:
            raise StartError(f"no answer: {error!r}: {process.last_words()}") from error
        else:
            if status != 200:
                raise StartError(f"the first answer is {status}: {process.last_words()}")
            return
        finally:
            connection.close()
