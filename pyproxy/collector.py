"""Python's collector of cycles, and what it need not look at.

Modules are made once and stay.  Looking for cycles among them takes some 30 ms of a start, and
25 ms, in which nothing moves, whenever all generations are collected later.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

Kept = TypeVar("Kept")


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


def unseen(kept: list[Kept]) -> list[Kept]:
    """Return a list that is never looked at; nothing in it may refer to it.

    A list of a million octet strings takes 50 ms whenever all generations are collected, and as
    strings do not count as objects that stay, that is often.
    """
    ctypes.pythonapi.PyObject_GC_UnTrack(ctypes.py_object(kept))
    return kept
