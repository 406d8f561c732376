"""``python -m pyproxy``: the same as ``twistd --nodaemon --pidfile= pyproxy``, in one word.

``python -m pyproxy cache``, ``top`` and ``trace`` start nothing: they ask a proxy that runs.
"""

from __future__ import annotations

import signal
import sys
from typing import Any

from twisted.python.usage import UsageError
from twisted.scripts import twistd


def main() -> None:
    """Run the proxy in the foreground, without a pid file; or ask another that runs.

    Raises: SystemExit with the text of what is wrong with the options.
    """
    if sys.argv[1:2] == ["cache"]:
        from pyproxy.admin import command

        sys.exit(command.main(sys.argv[2:]))
    if sys.argv[1:2] == ["top"]:
        from pyproxy.terminal import top

        sys.exit(top.main(sys.argv[2:]))
    if sys.argv[1:2] == ["trace"]:
        from pyproxy.terminal import trace

        sys.exit(trace.main(sys.argv[2:]))
    # It would end the process until somebody heeds it.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    options: Any = twistd.ServerOptions()  # type: ignore[attr-defined, no-untyped-call]
    try:
        options.parseOptions(["--nodaemon", "--pidfile=", "pyproxy", *sys.argv[1:]])
    except UsageError as error:
        sys.exit(f"pyproxy: {error}")
    twistd.runApp(options)


if __name__ == "__main__":
    main()
