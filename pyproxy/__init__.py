"""Streaming reverse proxy for HTTP, event streams and WebSockets."""

__version__ = "0.1.0"
