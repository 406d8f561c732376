"""fastapi-proxy-lib's own reverse proxy application on uvicorn, as its documentation starts it.

Its client gets no bound on connections and no time limit: the defaults, 100 connections and five
seconds, do not hold 200 event streams.
"""

from __future__ import annotations

import argparse

import httpx
import uvicorn
from fastapi_proxy_lib.fastapi.app import reverse_http_app

IDLE_CONNECTIONS = 2048
SHUTDOWN_LIMIT = 1


def main() -> None:
    """Run the proxy."""
    parser = argparse.ArgumentParser(prog="benchmarks.peers.fastapi_proxy")
    parser.add_argument("--target", required=True)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    limits = httpx.Limits(
        max_connections=None, max_keepalive_connections=IDLE_CONNECTIONS, keepalive_expiry=300.0
    )
    client = httpx.AsyncClient(limits=limits, timeout=None)
    uvicorn.run(
        reverse_http_app(client, base_url=f"{arguments.target}/"),
        host="127.0.0.1",
        port=arguments.port,
        backlog=1024,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=SHUTDOWN_LIMIT,
    )


if __name__ == "__main__":
    main()
