"""treq's client seam without treq's conveniences.

``treq.client.HTTPClient`` keeps one cookie jar for all, asks for gzip and decodes it, re-encodes
URLs, upper-cases methods, follows redirects and buffers.  The agent below does none of that, and
its responses are of treq's type.
"""

from __future__ import annotations

from pyproxy.upstream.agent import ForwardingAgent


class ForwardingClient:
    """treq's place in the chain: passes requests on to an agent as they are."""

    def __init__(self, agent: ForwardingAgent) -> None:
        self.send = agent.send
