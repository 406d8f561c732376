"""Run WebSocket servers and clients of other people through the proxy; no part of the product."""
