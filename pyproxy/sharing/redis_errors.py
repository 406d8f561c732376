"""Why a command has no answer."""

from __future__ import annotations

from pyproxy.sharing.resp import ErrorReply


class RedisTrouble(Exception):
    """A command has no answer.  No text of these has a key, a value or a login in it."""


class RedisAway(RedisTrouble):
    """There is no connection, or it was lost; whether the command was carried out is not known."""


class RedisSlow(RedisTrouble):
    """No answer came in time; whether the command was or will be carried out is not known."""


class RedisBusy(RedisTrouble):
    """Too many commands, or octets, wait already: this one was not sent."""


class RedisRefused(RedisTrouble):
    """Redis answered that it does not carry the command out.

    Attributes:
        code: the kind, as ``OOM``; ``other`` for one that is not known, since whoever is there in
            Redis' place could put anything into it.
    """

    def __init__(self, reply: ErrorReply) -> None:
        self.code = reply.code if reply.code in _CODES else "other"
        super().__init__(f"Redis refuses a command ({self.code})")


_CODES = frozenset(
    {
        "ERR",
        "LOADING",
        "MASTERDOWN",
        "MISCONF",
        "MOVED",
        "NOAUTH",
        "NOPERM",
        "NOREPLICAS",
        "NOSCRIPT",
        "OOM",
        "READONLY",
        "WRONGPASS",
        "WRONGTYPE",
    }
)
