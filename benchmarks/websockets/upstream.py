"""An upstream that echoes WebSockets: picows on uvloop, a process of its own.

Every frame goes back as it came, so fragments stay fragments.  Targets: ``/echo``, and ``/small``
for a plain request.
"""

from __future__ import annotations

import argparse
import asyncio
import signal

import uvloop
from picows import (
    WSCloseCode,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_create_server,
)

from benchmarks.payloads import FRAME_LIMIT, SMALL


class Echo(WSListener):
    """One WebSocket from a proxy; picows itself answers a Ping."""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        if kind == WSMsgType.CLOSE:
            code = frame.get_close_code()
            if code == WSCloseCode.NO_INFO:
                code = WSCloseCode.OK
            transport.send_close(code, frame.get_close_message())
            transport.disconnect()
        elif kind != WSMsgType.PONG:
            transport.send(kind, frame.get_payload_as_memoryview(), frame.fin)

    def pause_writing(self) -> None:
        """Write on: there is one message at a time in each WebSocket."""

    def resume_writing(self) -> None:
        """Write on."""


def answer(request: WSUpgradeRequest) -> Echo | WSUpgradeResponseWithListener | None:
    """Choose what answers a request; None is 404."""
    if request.path == b"/small":
        return WSUpgradeResponseWithListener(WSUpgradeResponse.create_ok_response(SMALL), None)
    return Echo() if request.path == b"/echo" else None


async def serve(port: int) -> None:
    """Serve until SIGTERM."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    server = await ws_create_server(
        answer, "127.0.0.1", port, backlog=1024, max_frame_size=FRAME_LIMIT
    )
    await ended.wait()
    server.close()


def main() -> None:
    """Run the upstream on the port that the command line names."""
    parser = argparse.ArgumentParser(prog="benchmarks.websockets.upstream")
    parser.add_argument("--port", type=int, required=True)
    uvloop.run(serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
