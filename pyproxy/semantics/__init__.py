"""Ring 0: the rules of HTTP as pure functions of octets; no clock, no log, no Twisted."""
