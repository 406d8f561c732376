"""Ring 5: what the operator asked for, from text to facts."""
