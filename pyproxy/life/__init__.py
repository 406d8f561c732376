"""Ring 5: a running proxy from start to end: its reloads, its drain, and what is told of both."""
