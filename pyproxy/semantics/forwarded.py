"""``Forwarded``: its elements, and their parameters.

Spec: RFC 7239 4.
"""

from __future__ import annotations

import re

from pyproxy.semantics.fields import list_members

# As in ``fields``: a quoted string without its end reaches to the end.
_pairs = re.compile(rb'(?:[^";]|"(?:[^"\\]|\\.?)*+(?:"|\Z))++', re.DOTALL).findall
_quoted_pairs = re.compile(rb"\\(.)", re.DOTALL)


def parameter(element: bytes, name: bytes) -> bytes:
    """Return a parameter of an element out of its quotes; empty when it is not there just once.

    Args: the name in lower case.
    Spec: RFC 7239 4: no parameter stands twice in an element.
    """
    pairs = [pair.strip(b"\t ").partition(b"=") for pair in _pairs(element)]
    given = [value for key, _, value in pairs if key.lower() == name]
    return unquoted(given[0]) if len(given) == 1 else b""


def parameters(lines: list[bytes], name: bytes) -> list[bytes]:
    """Return a parameter of every element that has it.  Args: the values of every Forwarded."""
    found = (parameter(element, name) for element in list_members(lines))
    return [value for value in found if value]


def unquoted(value: bytes) -> bytes:
    """Return the content of a quoted string, and a token as it is.  Spec: RFC 9110 5.6.4."""
    if len(value) < 2 or value[:1] != b'"' or value[-1:] != b'"':
        return value
    return _quoted_pairs.sub(rb"\1", value[1:-1])
