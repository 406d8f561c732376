"""What reloads and restarts do to those who are connected: ``python -m benchmarks.life``."""
