"""Ring 2: octets in motion over twisted.internet's interfaces: pauses, limits, directions."""
