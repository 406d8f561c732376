"""Proxies to compare with, each a small program of its own."""
