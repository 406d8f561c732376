"""Echo every message with the package ``websockets``, permessage-deflate accepted.

Arguments: the loopback port to listen on.
"""

from __future__ import annotations

import asyncio
import sys

from websockets.asyncio.server import (  # type: ignore[import-not-found,unused-ignore]
    ServerConnection,
    serve,
)


async def echo(connection: ServerConnection) -> None:
    """Send each message back."""
    async for message in connection:
        await connection.send(message)


async def main(port: int) -> None:
    """Serve until the process is ended."""
    # The longest message of the suite has 16 MiB; the default limit is 1 MiB.
    async with serve(echo, "127.0.0.1", port, compression="deflate", max_size=None) as server:
        await server.serve_forever()


asyncio.run(main(int(sys.argv[1])))
