"""treq's client seam without treq's conveniences.

``treq.client.HTTPClient`` keeps one cookie jar for all, asks for gzip and decodes it, re-encodes
URLs, upper-cases methods, follows redirects and buffers.  This client gives treq's response type
over an agent that does none of that.
"""

from __future__ import annotations

from pyproxy.upstream.agent import ForwardingAgent


class ForwardingClient:
    """Sends requests as they are; who asks gets treq responses (``response.ForwardedResponse``)."""

    def __init__(self, agent: ForwardingAgent) -> None:
        self.send = agent.send
