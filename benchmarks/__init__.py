"""Measure the proxy beside its peers; run with ``python -m benchmarks``."""
