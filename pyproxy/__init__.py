"""Streaming reverse proxy for HTTP and event streams."""

__version__ = "0.1.0"
