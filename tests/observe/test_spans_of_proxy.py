"""What a whole proxy records: which traces, what upstreams are told, before and after a reload."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import attrs

from pyproxy.config.schema import Config, LogConfig, TracesConfig
from pyproxy.observe.otlp import CLOSE_LIMIT, PAUSE
from pyproxy.semantics.forwarding import FieldRules
from pyproxy.semantics.urls import parse_target
from tests.cache.kit import FRESH, TWO, CacheTestCase, answer, asked, caching
from tests.memory import OK, MemoryTransport, response
from tests.observe.collector import Span, decode
from tests.observe.test_of_proxy import PLAIN, with_route

TRACE, SPAN = b"4bf92f3577b34da6a3ce929d0e0e4736", b"00f067aa0ba902b7"
PARENT = b"traceparent: 00-%b-%b-0" % (TRACE, SPAN)
TAKEN = response(b"Content-Length: 2", content=b"{}")
COLLECTOR = TracesConfig(parse_target(f"http://127.0.0.1:{TWO}"))

_place = re.compile(rb"\r\ntraceparent: 00-([0-9a-f]{32})-([0-9a-f]{16})-(0[0-3])\r\n").findall


def tracing(config: Config = PLAIN, **settings: Any) -> Config:
    """Return a configuration that records."""
    return attrs.evolve(config, traces=attrs.evolve(COLLECTOR, **settings))


class TracingTestCase(CacheTestCase):
    """A case whose collector the test plays."""

    def collectors(self) -> list[MemoryTransport]:
        """Return the connections to it that are open."""
        return [one for one in self.open if one.getPeer().port == TWO]

    def spans(self) -> list[Span]:
        """Return what was sent to it until now, and take that."""
        self.wait(PAUSE + 0.1)
        found = []
        for one in self.collectors():
            octets = self.rest_of(one)
            if octets:
                found += decode(octets.partition(b"\r\n\r\n")[2])
                self.deliver(one, TAKEN)
        return found

    def upstream(self, *fields: bytes) -> bytes:
        """Ask with some fields, answer in the upstream's place, and return what that was asked."""
        client = self.client(asked(*fields))
        (one,) = (one for one in self.questions if one.getPeer().port != TWO)
        question = one.take()
        self.deliver(one, OK)
        self.assertIn(b"200 OK", client.take())
        self.leave(client)
        return question


class WhichTracesTests(TracingTestCase):
    """Of a trace that came the caller decides, of others the share."""

    def test_off(self) -> None:
        """Nobody keeps an account, and nothing is sent or changed."""
        self.start(PLAIN)
        question = self.upstream(PARENT + b"1", b"tracestate: a=b")
        self.assertIn(PARENT + b"1\r\ntracestate: a=b\r\n", question)
        self.assertIsNone(self.proxy.site.accounts)
        self.assertEqual(([], None), (self.spans(), self.proxy._exporter))

    def test_continued(self) -> None:
        """The upstream gets our span as its parent, with the caller's state.  W3C 3.4."""
        self.start(tracing(sample=0.0))
        question = self.upstream(PARENT + b"1", b"tracestate: a=b")
        ((trace, parent, flags),) = _place(question)
        self.assertIn(b"\r\ntracestate: a=b\r\n", question)
        served, ours = self.spans()
        self.assertEqual((TRACE, b"01"), (trace, flags))
        self.assertEqual(SPAN.decode(), served.parent_id)
        self.assertEqual((parent.decode(), served.span_id), (ours.span_id, ours.parent_id))
        self.assertEqual({TRACE.decode()}, {served.trace_id, ours.trace_id})
        self.assertEqual("http://127.0.0.1:9000/", ours.values["url.full"])

    def test_unsampled(self) -> None:
        """One that its caller does not record is passed on as it came."""
        self.start(tracing())
        self.assertIn(PARENT + b"0\r\n", self.upstream(PARENT + b"0"))
        self.assertEqual([], self.spans())

    def test_begun(self) -> None:
        """One that has none begins here, and the upstream is told.  So does a malformed one."""
        self.start(tracing())
        for fields in ((), (b"traceparent: x", b"tracestate: a=b")):
            question = self.upstream(*fields)
            ((trace, parent, flags),) = _place(question)
            self.assertNotIn(b"tracestate", question)
            served, ours = self.spans()
            self.assertEqual((b"03", ""), (flags, served.parent_id))
            self.assertEqual((trace.decode(), parent.decode()), (ours.trace_id, ours.span_id))

    def test_share(self) -> None:
        """Of 0 none is begun, and the upstream gets what came; of a half about a half."""
        self.start(tracing(sample=0.0))
        self.assertNotIn(b"traceparent", self.upstream())
        self.assertEqual([], self.spans())
        self.take(tracing(sample=0.5))
        for _ in range(64):
            self.upstream()
        count = len(self.spans())
        self.assertTrue(0 < count < 128, count)
        self.assertEqual(0, count % 2)

    def test_passed_on(self) -> None:
        """Where traces are begun anyway, the upstream is told of those that are not recorded."""
        config = attrs.evolve(tracing(sample=0.0), log=LogConfig(trace=True))
        self.start(config)
        ((_, _, flags),) = _place(self.upstream())
        self.assertEqual(b"02", flags)
        self.assertEqual([], self.spans())


class WholeTests(TracingTestCase):
    """What is sent, and when."""

    def test_cache(self) -> None:
        """Where the cache answers nothing is asked."""
        self.start(tracing(caching()))
        self.ask(answer(FRESH))
        self.get()
        names = [(span.kind, span.values.get("pyproxy.cache")) for span in self.spans()]
        self.assertEqual([(2, "uri-miss"), (3, None), (2, "hit")], names)

    def test_refused(self) -> None:
        """What no route is for, and what cannot be read."""
        self.start(tracing())
        for octets in (asked(target=b"/../.."), b"x\r\n\r\n"):
            self.leave(self.client(octets))
            (span,) = self.spans()
            self.assertEqual(400, span.values["http.response.status_code"])
            self.assertEqual((0, ""), span.status)

    def test_secrets(self) -> None:
        """Neither the credential that is added nor the collector's own stands in a span."""
        rules = FieldRules(((b"X-Key", b"sekret-one"),))
        config = with_route(
            request_rules=rules, secrets=(b"sekret-one",), allowed_hosts=(b"front.test",)
        )
        fields, secrets = ((b"X-Team", b"sekret-two"),), (b"sekret-two",)
        self.start(tracing(config, fields=fields, secrets=secrets))
        client = self.client(asked(target=b"/sekret-one/sekret-two"))
        self.answer(OK)
        self.leave(client)
        self.wait(PAUSE + 0.1)
        (one,) = self.collectors()
        head, _, content = one.take().partition(b"\r\n\r\n")
        self.assertIn(b"X-Team: sekret-two", head)
        self.assertNotIn(b"sekret", content)
        self.assertEqual("/***/***", decode(content)[0].values["url.path"])
        self.deliver(one, TAKEN)

    def test_reload(self) -> None:
        """On, elsewhere, and off again; what waits is sent, what is open then is not recorded.

        Of what was open before, what was served is.
        """
        self.start(PLAIN)
        before = self.client(asked())
        self.take(tracing(service_name="one"))
        self.answer(OK)
        self.leave(before)
        self.upstream()
        exporter = self.proxy._exporter
        self.take(tracing(service_name="two"))
        self.assertIs(exporter, self.proxy._exporter)
        open_still = self.client(asked())
        self.take(PLAIN)
        self.answer(OK)
        self.leave(open_still)
        found = self.spans()
        self.assertEqual(["two"] * 3, [span.service["service.name"] for span in found])
        self.assertEqual([2, 2, 3], [span.kind for span in found])
        self.upstream()
        self.assertEqual([], self.spans())

    def test_end(self) -> None:
        """At the end what is open ends first, and its spans are sent."""
        self.start(tracing())
        self.client(asked())
        stopped = self.proxy.stop()
        self.network.settle()
        self.wait(0.1)
        (one,) = self.collectors()
        served, _ = decode(one.take().partition(b"\r\n\r\n")[2])
        self.assertEqual("GET /", served.name)
        self.assertNoResult(stopped)
        self.deliver(one, TAKEN)
        self.successResultOf(stopped)

    def test_mute_at_the_end(self) -> None:
        """A collector that says nothing holds the end up for so long, and no longer."""
        self.start(tracing())
        self.upstream()
        stopped = self.proxy.stop()
        self.wait(CLOSE_LIMIT + 0.5)
        self.successResultOf(stopped)

    def test_no_import(self) -> None:
        """Who records nothing imports nothing for it."""
        code = (
            "import sys, pyproxy.proxy, pyproxy.service;"
            "print([name for name in sys.modules if 'otlp' in name or 'spans' in name])"
        )
        said = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
        )
        self.assertEqual("[]", said.stdout.strip())
