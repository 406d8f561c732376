"""Where a worker begins: a script that takes what its parent hands over, and serves.

It knows only the standard library until it has the parent's path of modules.
"""

from __future__ import annotations

import os
import pickle
import struct
import sys
from typing import Any


def read_exactly(size: int) -> bytes:
    """Read so many octets from the parent.  Raises: SystemExit when the parent is no more."""
    octets = b""
    while len(octets) < size:
        more = os.read(0, size - len(octets))
        if not more:
            raise SystemExit("pyproxy: a worker is started by its parent only")
        octets += more
    return octets


def main() -> None:
    """Take over and serve until the end."""
    number, size = struct.unpack("!II", read_exactly(8))
    sys.path[:], handed = pickle.loads(read_exactly(size))
    handover: Any = pickle.loads(handed)

    from pyproxy.workers.serving import serve

    serve(handover, number)


if __name__ == "__main__":
    main()
