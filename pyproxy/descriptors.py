"""How many descriptors this process may open: an exchange takes two."""

from __future__ import annotations

import resource

MOST_DESCRIPTORS = 1024 * 1024
"""What is asked for where there is no hard limit."""


def raise_descriptor_limit() -> None:
    """Raise the soft limit to the hard one, as the runtimes of Go and Java do.

    The usual soft limit of 1,024 is for programs that use select(2); of the reactors here only
    ``--reactor=select`` does.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
