"""Ring 4: who watches: logs, and later metrics."""
