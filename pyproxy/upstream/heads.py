"""The heads of responses: read strictly, and what the strict rules refuse as its readers read it.

Owns where a head ends and what was odd in it.  Must not know what a response means.
Spec: RFC 9112 2.2, 4, 5.
"""

from __future__ import annotations

from collections.abc import Callable, Set

from pyproxy.errors import Malformed
from pyproxy.semantics.fields import Octets
from pyproxy.semantics.messages import HeadReader, ResponseHead, parse_response_head, split_head
from pyproxy.semantics.odd_heads import OddHeadReader, mend
from pyproxy.semantics.oddities import NOTHING_ODD, Oddity
from pyproxy.sides import UpstreamRequest
from pyproxy.upstream.seams import ConnectionSide

Begin = Callable[[UpstreamRequest, ResponseHead, Octets], Octets]
"""Takes a head and what follows it; returns what another head may begin in."""


class ResponseHeads:
    """Reads the heads of interim responses, and of the final one.

    Attributes:
        odd: a head was, or is being, read against the strict rules; ``forget`` is due then.
        oddities: what the heads so far had that they should not have.
    """

    __slots__ = ("_begin", "_connection", "_odd", "_refuse", "_strict", "odd", "oddities")

    def __init__(
        self, connection: ConnectionSide, begin: Begin, refuse: Callable[[Malformed], None]
    ) -> None:
        """Prepare.

        Args: begin is given each head that is whole, and may raise Malformed; refuse is told of
            that, and of what is no head.
        """
        self.odd = False
        self.oddities: Set[Oddity] = NOTHING_ODD
        self._connection = connection
        self._begin = begin
        self._refuse = refuse
        self._strict = HeadReader(b"HTTP/1.")
        # Takes over where that has refused; mostly it never does.
        self._odd: OddHeadReader | None = None

    @property
    def empty(self) -> bool:
        """Whether no octet of the next head has arrived."""
        return self._strict.empty and (self._odd is None or self._odd.empty)

    def feed(self, request: UpstreamRequest, data: Octets) -> None:
        """Read the heads in some octets."""
        beyond: memoryview | None = None
        if isinstance(data, memoryview):
            apart = self._strict.empty and self._odd is None
            data, beyond = split_head(data) if apart else (bytes(data), None)
        try:
            while self._odd is None:
                octets = b""
                try:
                    found = self._strict.feed(data)
                    if found is None:
                        # The rest of it is due.
                        self._connection.acknowledge()
                        return
                    octets, data = found
                    head = parse_response_head(octets)
                except Malformed:
                    self._odd, self.odd = OddHeadReader(), True
                    head_so_far = octets + b"\r\n" if octets else self._strict.give_up()
                    data = head_so_far + data + (beyond or b"")
                    break
                rest: Octets = data
                if beyond is not None:
                    rest, beyond = beyond, None
                rest = self._begin(request, head, rest)
                if not rest:
                    return
                data = bytes(rest)
            self._feed_odd(request, data)
        except Malformed as error:
            self._refuse(error)

    def _feed_odd(self, request: UpstreamRequest, data: bytes) -> None:
        """Read heads that the strict rules refuse.  Raises: Malformed."""
        while self._odd is not None and (found := self._odd.feed(data)) is not None:
            head, data = found
            self.oddities |= self._odd.oddities
            rest = self._begin(request, head, data)
            if not rest:
                return
            data = bytes(rest)

    def mended(self, head: ResponseHead, method: bytes) -> ResponseHead:
        """Return a head whose framing and options are in the right form.  Raises: Malformed."""
        head, oddities = mend(head, method)
        self.odd = True
        self.oddities |= oddities
        return head

    def forget(self) -> None:
        """Read the next response strictly again."""
        self.odd = False
        self.oddities = NOTHING_ODD
        self._odd = None
