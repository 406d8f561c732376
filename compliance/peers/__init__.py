"""Servers and clients of other packages, started as processes of their own."""
