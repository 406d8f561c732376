"""Keeps the accounts of a proxy in memory, for tests."""

from __future__ import annotations

from typing import Any

import attrs

from pyproxy.account import Account
from pyproxy.ingress.site import ProxySite
from pyproxy.observe.accounts import Accounts


def keep(site: ProxySite, **settings: Any) -> tuple[Accounts, list[Account]]:
    """Have a site keep accounts from now on; return who keeps them, and where they end up."""
    closed: list[Account] = []
    accounts = Accounts(site.reactor, (closed.append,), **settings)
    site.take(attrs.evolve(site.terms, accounts=accounts))
    return accounts, closed
