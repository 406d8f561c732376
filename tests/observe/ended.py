"""Exchanges that are over, as tests say that they went."""

from __future__ import annotations

import attrs

from pyproxy.semantics.dialects.reading import Usage


@attrs.define(eq=False)
class Over:
    """An exchange that has ended well, unless a test says otherwise; what ``Metrics`` looks at."""

    route: str = "/"
    websocket: bool = False
    method: bytes = b"GET"
    began: float = 1000.0
    connected: float | None = 1000.01
    responded: float | None = 1000.02
    first_token: float | None = None
    last_token: float | None = None
    ended: float | None = 1000.03
    reused: bool = False
    attempts: int = 1
    received: int = 0
    sent: int = 0
    messages_received: int = 0
    messages_sent: int = 0
    status: int = 200
    closed_by: str = ""
    cache: str = ""
    model: str | None = None
    usage: Usage | None = None
    outcome: str = ""


def of_model(model: str = "m", output: int = 11, **more: object) -> Over:
    """Return the answer of a model: half a second to the first token, and two seconds more."""
    return attrs.evolve(
        Over(
            method=b"POST",
            first_token=1000.5,
            last_token=1002.5,
            ended=1002.6,
            model=model,
            usage=Usage(input_tokens=7, output_tokens=output, cached_tokens=3, reasoning_tokens=2),
            outcome="ended",
        ),
        **more,
    )
