"""Exchanges that are over, as tests say that they went."""

from __future__ import annotations

from typing import Any

import attrs

from pyproxy.account import Account
from pyproxy.semantics.dialects.reading import Usage


def over(**facts: Any) -> Account:
    """Return an exchange that took 30 ms and ended well, unless facts say otherwise."""
    account = Account(
        number=1,
        request_id="a-1",
        clock=lambda: 1000.03,
        on_end=lambda account: None,
        began=1000.0,
        method=b"GET",
        route="/",
        status=200,
        connected=1000.01,
        responded=1000.02,
        ended=1000.03,
    )
    return attrs.evolve(account, **facts)


def of_model(model: str = "m", output: int = 11, **facts: Any) -> Account:
    """Return the answer of a model: half a second to the first token, and two seconds more."""
    usage = Usage(input_tokens=7, output_tokens=output, cached_tokens=3, reasoning_tokens=2)
    account = over(
        method=b"POST",
        first_token=1000.5,
        last_token=1002.5,
        ended=1002.6,
        model=model,
        usage=usage,
        outcome="ended",
    )
    return attrs.evolve(account, **facts)
