"""Use a JupyterLab server through the proxy: as a script does, and as a browser does.

A script sends its token in ``Authorization`` and no ``Origin``; prefix and base path differ.  A
browser holds cookies and sends ``Origin``, which Jupyter compares with ``Host``: it needs
``--preserve-host``.  Its pages hold absolute paths, so the prefix must be Jupyter's base path.
What Jupyter refuses must be its own answer, whole.
"""

from __future__ import annotations

import argparse
import http.client
import json
import secrets
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs

from compliance.installs import JUPYTERLAB, WEBSOCKETS, Missing, python_environment
from compliance.processes import (
    OutOfTime,
    Proxy,
    StartError,
    end_on_sigterm,
    free_port,
    proxy,
    run,
    running,
    say,
)

CLIENT = Path(__file__).resolve().parent / "peers" / "kernel_client.py"
BASE_PATH = "/lab-test/"
PREFIX = "/front"

CLIENT_LIMIT = 300.0
"""Seconds for all steps of one client."""

ANSWER_LIMIT = 30.0

HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
CHANNEL = "api/kernels/00000000-0000-4000-8000-000000000000/channels"
"""The channel of a kernel that does not exist; who asks is checked before."""

VOLATILE = {"date", "connection", "via", "set-cookie"}
"""Fields that differ between two answers, or that a proxy changes."""


@attrs.frozen
class Answer:
    """A response to an opening handshake, without what differs from one to the next."""

    status: int
    fields: list[tuple[str, str]]
    content: bytes


@contextmanager
def jupyter_server(python: Path, directory: Path, token: str) -> Iterator[int]:
    """Run JupyterLab; give its port."""
    port = free_port()
    own = {
        "HOME": str(directory),
        "IPYTHONDIR": str(directory / "ipython"),
        **{
            f"JUPYTER_{name}_DIR": str(directory / name.lower())
            for name in ("CONFIG", "DATA", "RUNTIME")
        },
        "JUPYTERLAB_SETTINGS_DIR": str(directory / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(directory / "workspaces"),
        "JUPYTER_TOKEN": token,
    }
    command: list[str | Path] = [
        *(python, "-m", "jupyterlab", "--no-browser", "--allow-root"),
        *("--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"),
        f"--ServerApp.base_url={BASE_PATH}",
    ]
    with running(command, directory, "jupyterlab", own) as process:
        process.wait_port(port)
        yield port


def handshake(port: int, path: str, fields: Mapping[str, str]) -> Answer:
    """Send an opening handshake that will be refused; return the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_LIMIT)
    try:
        connection.request("GET", path, headers={**HANDSHAKE, **fields})
        response = connection.getresponse()
        kept = [
            (name, text) for name, text in response.getheaders() if name.lower() not in VOLATILE
        ]
        return Answer(response.status, kept, response.read())
    finally:
        connection.close()


def refused(what: str, direct: Answer, proxied: Answer) -> bool:
    """Say whether both ways were refused with 403 and the same answer."""
    for way, answer in (("direct", direct), ("through the proxy", proxied)):
        if answer.status != 403:
            say(f"  FAILED: {what}: {answer.status} {way}, and not 403")
            return False
    if direct != proxied:
        say(f"  FAILED: {what}: the answers differ:\n    {direct}\n    {proxied}")
        return False
    size = len(proxied.content)
    say(f"  {what}: 403, the same {len(proxied.fields)} fields and {size} octets both ways")
    return True


def wrong_token(port: int, front: Proxy) -> bool:
    """Check that a wrong token gets Jupyter's own answer through the proxy."""
    fields = {"Authorization": "token wrong"}
    return refused(
        "wrong token",
        handshake(port, BASE_PATH + CHANNEL, fields),
        handshake(front.port, f"{PREFIX}/{CHANNEL}", fields),
    )


def foreign_origin(port: int, front: Proxy, token: str) -> bool:
    """Check what Jupyter's comparison of Origin with Host does without --preserve-host."""
    kernel, cookie = log_in(port, token)
    path = f"api/kernels/{kernel}/channels"
    fields = {"Cookie": cookie, "Origin": f"http://127.0.0.1:{front.port}"}
    same = refused(
        "the proxy's Origin without --preserve-host",
        handshake(port, BASE_PATH + path, fields),
        handshake(front.port, f"{PREFIX}/{path}", fields),
    )
    # The cookie is good: it was the Origin.
    status = handshake(front.port, f"{PREFIX}/{path}", {"Cookie": cookie}).status
    say(f"  {'' if status == 101 else 'FAILED: '}the same without Origin: {status}")
    return same and status == 101


def log_in(port: int, token: str) -> tuple[str, str]:
    """Start a kernel and return its id and the cookie that stands for the token."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_LIMIT)
    try:
        fields = {"Authorization": f"token {token}"}
        connection.request("POST", f"{BASE_PATH}api/kernels", headers=fields)
        response = connection.getresponse()
        content = response.read()
        if response.status != 201:
            raise StartError(f"Jupyter starts no kernel: {response.status} {content!r}")
        cookies = response.headers.get_all("Set-Cookie", [])
        return json.loads(content)["id"], "; ".join(each.split(";")[0] for each in cookies)
    finally:
        connection.close()


def use_kernel(python: Path, directory: Path, name: str, url: str, *words: str) -> bool:
    """Run the client of a kernel and print its steps; return whether all went well."""
    status, output = run([python, CLIENT, url, *words], directory, name, CLIENT_LIMIT)
    for line in output.splitlines():
        say(f"  {line}")
    return status == 0


def check(python: Path, directory: Path) -> bool:
    """Run everything; return whether all went well."""
    token = secrets.token_hex(16)
    with jupyter_server(python, directory, token) as port:
        target = f"http://127.0.0.1:{port}{BASE_PATH}"
        say(f"a script: --target {target} --prefix {PREFIX}")
        with proxy(target, directory, "--prefix", PREFIX, name="proxy-script") as front:
            url = f"http://127.0.0.1:{front.port}{PREFIX}/"
            results = [
                use_kernel(python, directory, "script", url, token),
                wrong_token(port, front),
                foreign_origin(port, front, token),
            ]
        results.append(sound(front))
        options = ("--prefix", BASE_PATH.rstrip("/"), "--preserve-host")
        say(f"a browser: --target {target} {' '.join(options)}")
        with proxy(target, directory, *options, name="proxy-browser") as front:
            url = f"http://127.0.0.1:{front.port}{BASE_PATH}"
            results.append(use_kernel(python, directory, "browser", url, token, "--browser"))
        results.append(sound(front))
    return all(results)


def sound(front: Proxy) -> bool:
    """Say what is wrong with a proxy that has ended; return whether nothing is."""
    faults = front.faults()
    for fault in faults:
        say(f"  FAULT: {fault}")
    return not faults


def main(arguments: Sequence[str]) -> int:
    """Run what the command line asks for.

    Returns: the exit status: 0 all well, 1 something is wrong, 3 something is missing here.
    """
    argparse.ArgumentParser(prog="python -m compliance.jupyter", description=__doc__).parse_args(
        arguments
    )
    end_on_sigterm()
    with tempfile.TemporaryDirectory(prefix="compliance-", ignore_cleanup_errors=True) as temporary:
        try:
            python = python_environment("jupyter", JUPYTERLAB, WEBSOCKETS)
            well = check(python, Path(temporary))
        except Missing as error:
            say(str(error))
            return 3
        except (StartError, OutOfTime, OSError) as error:
            say(f"FAILED: {error}")
            return 1
    say("jupyter: all well" if well else "jupyter: NOT all well")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
