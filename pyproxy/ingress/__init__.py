"""Ring 4: the client's side: its connections, the resource tree, and the prefix resource."""
