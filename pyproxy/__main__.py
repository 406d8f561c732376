"""``python -m pyproxy``: the same as ``twistd --nodaemon --pidfile= pyproxy``, in one word."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the proxy in the foreground, without a pid file."""
    sys.argv[1:] = ["--nodaemon", "--pidfile=", "pyproxy", *sys.argv[1:]]
    from twisted.scripts.twistd import run

    run()


if __name__ == "__main__":
    main()
