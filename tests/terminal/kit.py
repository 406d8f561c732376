"""Rows of a board as its stream tells them."""

from __future__ import annotations

from typing import Any

from pyproxy.observe.board_rows import MOVING

NOW = 1000.0


def row(number: int = 1, **more: Any) -> dict[str, Any]:
    """Return a row that is open since ten seconds."""
    return {
        "id": f"1-{number}",
        "number": number,
        "request": "r",
        "route": "/v1",
        "method": "GET",
        "target": f"/{number}",
        "host": "h",
        "client": "192.0.2.1",
        "began": NOW - 10,
        "state": "streaming",
        "slow": "",
        "peer": "http://p:1",
        "model": None,
        "status": 200,
        "websocket": False,
        "first": 0.1,
        "events": 0,
        "tokens": None,
        "received": 0,
        "sent": 0,
        "to_client": 0,
        "to_upstream": 0,
        **more,
    }


def over(number: int = 1, **more: Any) -> dict[str, Any]:
    """Return a row that ended."""
    return row(number, how="ended", good=True, duration=1.5, closed_by="", **more)


def moved(values: dict[str, Any]) -> list[Any]:
    """Return what may have changed of a row."""
    return [values[name] for name in MOVING]


def news(now: float = NOW, **more: Any) -> dict[str, Any]:
    """Return an event of the stream."""
    counts = {"open": len(more.get("rows", ())), "hidden": 0, "routes": {}, "silent": []}
    return {"now": now, "version": 1, "counts": counts, "moving": list(MOVING), **more}
