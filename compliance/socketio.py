"""Exchange events between ``socket.io`` and ``socket.io-client`` through the proxy, under a prefix.

Once the client begins with long polling and upgrades, once it uses a WebSocket alone.  The client
checks that both ends ended up with a WebSocket, and the proxy's log has to show it, too.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from compliance.installs import SOCKET_IO, Missing, Node, node
from compliance.processes import (
    OutOfTime,
    StartError,
    end_on_sigterm,
    free_port,
    proxy,
    run,
    running,
    say,
)

PEERS = Path(__file__).resolve().parent / "peers"
BASE_PATH = "/app"
PREFIX = "/front"
MODES = ("upgrade", "websocket")

CLIENT_LIMIT = 120.0
"""Seconds for all steps of one client."""


def check(found: Node, directory: Path) -> bool:
    """Run everything; return whether all went well."""
    port = free_port()
    script = PEERS / "socketio_server.cjs"
    server: list[str | Path] = [found.program, script, str(port), f"{BASE_PATH}/socket.io"]
    target = f"http://127.0.0.1:{port}{BASE_PATH}/"
    results = []
    with running(server, directory, "server", found.environment) as process:
        process.wait_port(port)
        with proxy(target, directory, "--prefix", PREFIX) as front:
            for mode in MODES:
                say(f"{mode}: --target {target} --prefix {PREFIX}")
                opened = front.opened()
                words = (f"http://127.0.0.1:{front.port}", f"{PREFIX}/socket.io", mode)
                status, output = run(
                    [found.program, PEERS / "socketio_client.cjs", *words],
                    directory,
                    mode,
                    CLIENT_LIMIT,
                    found.environment,
                )
                for line in output.splitlines():
                    say(f"  {line}")
                results.append(status == 0)
                if front.wait_opened(opened + 1) == opened:
                    say("  FAILED: the proxy's log has no WebSocket")
                    results.append(False)
    for fault in (faults := front.faults()):
        say(f"  FAULT: {fault}")
    return all(results) and not faults


def main(arguments: Sequence[str]) -> int:
    """Run what the command line asks for.

    Returns: the exit status: 0 all well, 1 something is wrong, 3 something is missing here.
    """
    argparse.ArgumentParser(prog="python -m compliance.socketio", description=__doc__).parse_args(
        arguments
    )
    end_on_sigterm()
    with tempfile.TemporaryDirectory(prefix="compliance-") as temporary:
        try:
            well = check(node("socketio", *SOCKET_IO), Path(temporary))
        except Missing as error:
            say(str(error))
            return 3
        except (StartError, OutOfTime) as error:
            say(f"FAILED: {error}")
            return 1
    say("socketio: all well" if well else "socketio: NOT all well")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
