"""Python's collector of cycles, and what it need not look at.

Modules are made once and stay.  Looking for cycles among them takes some 30 ms of a start, and
25 ms, in which nothing moves, whenever all generations are collected later.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """Collect nothing while the block imports modules, and never look at what is there after it."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collects:
            gc.enable()
