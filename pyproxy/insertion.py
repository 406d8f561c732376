"""One exchange on a route that puts something into event streams: before its request, to its end.

``preparing`` says what becomes of the request, ``relay.inserting`` of the stream; here it is told
when the client is sent which head, and who takes the content behind it.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from pyproxy.errors import ProxyError
from pyproxy.policy.insertions import Insertions
from pyproxy.preparing import prepare
from pyproxy.relay.content import ContentSink, Download
from pyproxy.relay.inserting import Inserter, LateAnswer, early_head, takes_more, without_length
from pyproxy.relay.limits import Sweeper
from pyproxy.relay.watching import uncoded
from pyproxy.semantics.error_events import dialect_of
from pyproxy.semantics.fields import Fields
from pyproxy.semantics.framing import UNTIL_CLOSE
from pyproxy.semantics.to_client import ResponseForwarding
from pyproxy.sides import ClientSide, UpstreamRequest, UpstreamResponse


@attrs.define(eq=False)
class Insertion:
    """What a route puts into the event stream of one exchange."""

    _client: ClientSide
    _insertions: Insertions
    _to_client: ResponseForwarding
    _host: bytes
    _sweeper: Sweeper
    _fail: Callable[[ProxyError], None] | None
    _asked: bool = False
    _inserter: Inserter | None = None
    _late: LateAnswer | None = None
    _late_ended: Callable[[BaseException | None], None] | None = None

    # before there is a response

    def prepare(self, request: UpstreamRequest, send: Callable[[UpstreamRequest], None]) -> None:
        """Do with a request what the route asks for, then have it sent."""

        def prepared(request: UpstreamRequest, asked: bool, early: bool) -> None:
            self._asked = asked
            if early:
                self._inserter = inserter = self._make()
                inserter.wait(self._begin_early)
            send(request)

        client = self._client
        prepare(request, client.head, client.upload, self._insertions, prepared)

    def _make(self) -> Inserter:
        """Return what puts something into the response."""
        client, fail = self._client, self._fail
        assert fail is not None
        dialect = dialect_of(client.head.target)
        return Inserter(client, self._insertions, self._sweeper, fail, dialect, self._asked)

    def _begin_early(self) -> bool:
        """Send the head of an event stream before there is one; tell whether that could be done."""
        client = self._client
        if client.upload is not None and not client.upload.complete:
            return False
        fields = self._to_client.fields(early_head(self._sweeper.now), [], self._host)
        client.begin(200, b"OK", fields, UNTIL_CLOSE)
        return True

    # the response

    def begin(
        self, response: UpstreamResponse, reason: bytes, fields: Fields
    ) -> ContentSink | None:
        """Send the head of a response.  Args: its reason and fields, as the client gets them.

        Returns: what takes the content, None for what the client was not told of.
        """
        client, inserter = self._client, self._inserter
        early = client.begun
        if (
            (self._asked or self._insertions.in_all)
            and (early or not response.stored)
            and response.framing.has_content
            and takes_more(response.head)
        ):
            if inserter is None:
                inserter = self._inserter = self._make()
            if not early:
                client.begin(200, reason, without_length(fields), UNTIL_CLOSE)
            inserter.open()
            return inserter
        if early:
            return None
        if inserter is not None:
            inserter.close()
            self._inserter = None
        client.begin(response.head.status, reason, fields, uncoded(response.framing))
        return client

    def late_answer(self, ended: Callable[[BaseException | None], None]) -> Download:
        """Return what takes an answer that comes in place of a stream that was begun early."""
        self._late_ended = ended
        self._late = LateAnswer(self._client, self._late_over)
        return self._late

    def _late_over(self, broken: BaseException | None) -> None:
        """Have what was answered for the last event of the stream."""
        late, ended = self._late, self._late_ended
        if late is not None and ended is not None:
            if self._inserter is not None:
                self._inserter.answer = late.answer
            ended(broken)

    def unsent(self) -> int:
        """Return how many octets the client has still to take."""
        return (self._inserter or self._client).unsent()

    # the end

    def finish(self) -> None:
        """Let the stream end well."""
        if self._inserter is not None:
            self._inserter.finish()

    def tell(self, error: ProxyError) -> None:
        """Say in the stream what ends it."""
        if self._inserter is not None:
            self._inserter.tell(error)

    def close(self) -> None:
        """Put nothing in any more but a last word; the exchange is referred to no longer."""
        if self._inserter is not None:
            self._inserter.close()
        self._fail = self._late = self._late_ended = None
