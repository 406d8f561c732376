"""Ring 5: a site of its own, for those who run the proxy and what watches it."""
