"""``python -m pyproxy trace``: the way of the next exchange that is wanted, step by step."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from pyproxy.admin.command import Trouble, token_of
from pyproxy.terminal.link import Link, add_place
from pyproxy.terminal.written import plain

INTERRUPTED = 130
"""The status after Ctrl-C, as shells have it."""

_WANTED = (
    ("--method", "METHOD", "Its method."),
    ("--path", "PREFIX", "What its path begins with."),
    ("--host", "HOST", "The host that is asked for, with the port or without."),
    ("--route", "NAME", "The name of its route."),
)

_INDENT = " " * 15


def written(step: dict[str, Any], with_fields: bool) -> Iterator[str]:
    """Give the lines of a step."""
    at = datetime.fromtimestamp(step["at"]).astimezone()
    facts = "  ".join(f"{name}={value}" for name, value in step["facts"].items())
    time = f"{at:%H:%M:%S}.{at.microsecond // 1000:03}"
    line = f"{time} {step['since'] * 1000:>10.1f} ms  {step['step']:<30}{facts}"
    yield plain(line.rstrip())
    if not with_fields:
        return
    for whose, pairs in step["fields"].items():
        yield f"{_INDENT}{whose}:"
        for name, value in pairs:
            yield plain(f"{_INDENT}  {name}: {value}")


def follow(link: Link, with_fields: bool) -> int:
    """Print what is told.  Returns: the status to end with.  Raises: Trouble."""
    for name, said in link.events():
        if name == "waiting":
            _print("Waiting for the next request that matches; Ctrl-C ends it.", sys.stderr)
        elif name == "step":
            for line in written(said, with_fields):
                _print(line, sys.stdout)
        elif name == "lost":
            raise Trouble(f"{link.place}: {said['why']}")
        elif name == "over":
            return 0
    raise Trouble(f"{link.place}: it has ended")


def _print(line: str, file: Any) -> None:
    # Somebody may read them through a pipe as they come.
    print(line, file=file, flush=True)


def main(arguments: Sequence[str]) -> int:
    """Follow an exchange.  Returns: the status to end with."""
    parser = argparse.ArgumentParser(
        prog="pyproxy trace",
        description="Wait for the next request that matches, and print each step of its way.",
    )
    add_place(parser)
    for option, metavar, text in _WANTED:
        parser.add_argument(option, default="", metavar=metavar, help=text)
    parser.add_argument("--no-fields", action="store_true", help="Print no header fields.")
    options = parser.parse_args(arguments)
    names = (option[2:] for option, _, _ in _WANTED)
    query = urlencode({name: value for name in names if (value := getattr(options, name))})
    try:
        token = token_of(options.token)
        link = Link.open(options.admin, f"/api/trace?{query}" if query else "/api/trace", token)
        return follow(link, not options.no_fields)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Python would try to write the rest at the end, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Trouble as trouble:
        sys.stderr.write(f"pyproxy: {trouble}\n")
        return 1
