"""What systemd is told of the service, and what it wants to hear: its notification protocol.

Must not know what the service is.  Spec: sd_notify(3), sd_watchdog_enabled(3), systemd.service(5).
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping
from typing import Self

import attrs
from twisted.logger import Logger

MAX_STATUS = 500
"""Characters of a status; systemd drops a message of more than 4096 octets, whatever is in it."""

_log = Logger("pyproxy")


@attrs.define(eq=False)
class Notifier:
    """Tells systemd how the service is.  What cannot be told is logged once, and ends nothing.

    Attributes:
        watchdog_seconds: so often at least has ``alive`` to be called; None when nobody waits.
    """

    _address: bytes
    watchdog_seconds: float | None
    # Kept: a process that is out of descriptors is alive, and has to be able to say so.
    _socket: socket.socket
    _failed: bool = False

    @classmethod
    def of(cls, environment: MutableMapping[str, str]) -> Self | None:
        """Make a notifier of what systemd says; None when nobody wants to be told.

        Args: environment, from which it is removed, so that no child speaks for the service.
        """
        place = environment.pop("NOTIFY_SOCKET", "")
        period = environment.pop("WATCHDOG_USEC", "")
        whose = environment.pop("WATCHDOG_PID", "")
        if not place:
            return None
        if place[0] not in "/@":
            _log.warn("NOTIFY_SOCKET is no Unix socket: {place}", place=place)
            return None
        address = os.fsencode(place)
        if address[:1] == b"@":
            address = b"\0" + address[1:]
        waits = period.isdecimal() and int(period) > 0 and whose in ("", str(os.getpid()))
        # Sockets of Python are not inherited by other programs (PEP 446).
        sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sender.setblocking(False)
        return cls(address, int(period) / 2e6 if waits else None, sender)

    def ready(self, status: str) -> None:
        """Tell that the service is ready, after its start or a reload."""
        self._tell("READY=1", _status(status))

    def reloading(self) -> None:
        """Tell that a reload begins; ``ready`` ends it, also when nothing has changed.

        The time lets systemd tell this reload from one that it asked for before.
        """
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        self._tell("RELOADING=1", f"MONOTONIC_USEC={now // 1000}")

    def stopping(self, status: str) -> None:
        """Tell that the service has begun to end."""
        self._tell("STOPPING=1", _status(status))

    def status(self, text: str) -> None:
        """Tell in a line how the service is; ``systemctl status`` shows it."""
        self._tell(_status(text))

    def alive(self) -> None:
        """Tell the watchdog that the service still turns."""
        self._tell("WATCHDOG=1")

    def close(self) -> None:
        """Tell nothing any more, and say no word of it."""
        self._failed = True
        self._socket.close()

    def _tell(self, *lines: str) -> None:
        try:
            self._socket.sendto("\n".join(lines).encode("utf-8"), self._address)
        except OSError as error:
            if not self._failed:
                self._failed = True
                _log.warn("systemd cannot be told how the service is: {error}", error=error)


def _status(text: str) -> str:
    """Return the line of a status: a line end would begin another assignment."""
    plain = "".join(one if one.isprintable() else " " for one in text[:MAX_STATUS])
    return f"STATUS={plain}"
