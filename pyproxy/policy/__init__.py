"""Ring 1: decisions; they may keep state, and time comes in as an argument."""
