"""Ring 4: the upstream's side: its connections, how they are kept, and whom they trust."""
