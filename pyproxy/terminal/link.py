"""An event stream of the admin site, read as it comes."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any

import attrs

from pyproxy.admin.command import MOST_OCTETS, Trouble, connection_to

PLACE = "http://127.0.0.1:8001"
"""Where the admin site is unless somebody says otherwise."""

OPEN_LIMIT = 10.0
"""Seconds for the site to connect and to begin."""

SILENCE_LIMIT = 25.0
"""Seconds without a word after which the site is away; it says something every ten."""

_WAYS = "http://127.0.0.1:8001 (the default), https://…, tcp:8001 (on this machine) or unix:/path"


@attrs.define(eq=False)
class Link:
    """A stream that has begun.  Attributes: place, as it was given."""

    place: str
    _connection: HTTPConnection
    _response: HTTPResponse

    @classmethod
    def open(cls, place: str, target: str, token: str | None = None) -> Link:
        """Ask for a stream.  Raises: Trouble."""
        connection = connection_to(place)
        connection.timeout = OPEN_LIMIT
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        try:
            connection.request("GET", target, headers=headers)
            connection.sock.settimeout(SILENCE_LIMIT)
            response = connection.getresponse()
            if response.status != 200:
                raise Trouble(f"{place}: {_reason(response)}")
        except OSError as error:
            connection.close()
            raise Trouble(f"{place}: {error.strerror or error or 'no answer'}") from error
        except HTTPException as error:
            connection.close()
            raise Trouble(f"{place}: what answers there is no admin site") from error
        except Trouble:
            connection.close()
            raise
        return cls(place, connection, response)

    def events(self) -> Iterator[tuple[str, Any]]:
        """Give each event: its name, and its data from JSON.

        Each has its data in one line, as the site writes them.  Raises: Trouble when the site has
        gone, or has said nothing for SILENCE_LIMIT; a stream that ends in order just ends.
        """
        name = ""
        try:
            while line := self._response.readline(MOST_OCTETS):
                field, _, value = line.rstrip(b"\r\n").partition(b": ")
                if field == b"event":
                    name = value.decode("utf-8", "replace")
                elif field == b"data":
                    yield name, json.loads(value)
        except TimeoutError as error:
            raise Trouble(f"{self.place}: nothing came for {SILENCE_LIMIT:.0f} seconds") from error
        except OSError as error:
            raise Trouble(f"{self.place}: {error.strerror or error}") from error
        except HTTPException as error:
            raise Trouble(f"{self.place}: the connection broke off") from error
        except ValueError as error:
            raise Trouble(f"{self.place}: what answers there is no admin site") from error
        finally:
            self.close()

    def close(self) -> None:
        """Leave."""
        self._response.close()
        self._connection.close()


def _reason(response: HTTPResponse) -> str:
    """Return why the site refuses."""
    try:
        answer = json.loads(response.read(MOST_OCTETS))
    except ValueError:
        answer = None
    detail = answer.get("detail") if isinstance(answer, dict) else None
    return str(detail or f"it answers {response.status}")


def add_place(parser: argparse.ArgumentParser) -> None:
    """Let a command line say where the site is, and show its token."""
    parser.add_argument(
        "--admin", default=PLACE, metavar="ADDRESS", help=f"Where the admin site is: {_WAYS}."
    )
    parser.add_argument(
        "--token",
        "--admin-token",
        dest="token",
        metavar="@FILE",
        help="The file of the site's token, if it has one.",
    )
