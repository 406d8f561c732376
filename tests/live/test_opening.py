"""How a connection to the upstream comes about: names, several addresses, zones."""

from __future__ import annotations

import socket
import statistics
import time
import unittest
from contextlib import suppress
from pathlib import Path

from tests.live.kit import (
    OK,
    Proxy,
    ScriptedUpstream,
    answer,
    answer_and_close,
    eventually,
    request,
)
from tests.live.names import link_local, name_service

LAST = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
"""A response that is the last one on its connection."""

ROUNDS = 25
"""New connections of which the first quarter counts: on a busy machine the slowest say nothing."""


def silent(address: str, port: int, case: unittest.TestCase) -> None:
    """Let nobody answer at an address: Linux drops a SYN for a listener whose queue is full."""
    listener = socket.socket()
    case.addCleanup(listener.close)
    listener.bind((address, port))
    listener.listen(0)
    for _ in range(3):
        waiting = socket.socket()
        case.addCleanup(waiting.close)
        waiting.setblocking(False)
        with suppress(BlockingIOError):
            waiting.connect((address, port))


def attempts(address: str, port: int) -> int:
    """Count this machine's connects to an address that were not answered.  Spec: proc(5)."""
    digits = socket.inet_aton(address)[::-1].hex().upper()
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(line.split()[2:4] == [f"{digits}:{port:04X}", "02"] for line in lines)


class SeveralAddressesTests(unittest.TestCase):
    """A name that stands for several addresses."""

    def quartile(self, upstream: ScriptedUpstream, host: str, addresses: list[str]) -> float:
        """Return within how many seconds a quarter of the answers over new connections come."""
        upstream.script = answer_and_close(LAST)
        times = []
        environment = name_service(self, {host: addresses})
        target = f"http://{host}:{upstream.port}"
        with Proxy("--target", target, environment=environment) as proxy, proxy.client() as client:
            for _ in range(ROUNDS):
                began = time.monotonic()
                client.send(request())
                self.assertEqual(client.read_response().body, b"ok")
                times.append(time.monotonic() - began)
        return statistics.quantiles(times, n=4)[0]

    def test_refused(self) -> None:
        """An address that refuses costs at most 5 ms more than none (RFC 8305 5)."""
        with ScriptedUpstream() as upstream:
            direct = self.quartile(upstream, "one.test", ["127.0.0.1"])
            for host, addresses in (
                ("localhost", ["::1", "127.0.0.1"]),
                ("same.test", ["127.0.0.2", "127.0.0.1"]),
            ):
                with self.subTest(host=host):
                    self.assertLess(self.quartile(upstream, host, addresses), direct + 0.005)

    def test_first_connection(self) -> None:
        """Also the first connection does not wait for the next attempt's time."""
        direct: list[float] = []
        several: list[float] = []
        with ScriptedUpstream() as upstream:
            for addresses, times in (
                (["127.0.0.1"], direct),
                (["::1", "127.0.0.1"], several),
            ) * 3:
                environment = name_service(self, {"localhost": addresses})
                target = f"http://localhost:{upstream.port}"
                with Proxy("--target", target, environment=environment) as proxy:
                    began = time.monotonic()
                    self.assertEqual(proxy.ask(request()).body, b"ok")
                    times.append(time.monotonic() - began)
        self.assertLess(min(several), min(direct) + 0.2)

    def test_remembered(self) -> None:
        """The family that worked is tried first from then on (RFC 8305 4)."""
        with ScriptedUpstream() as upstream:
            upstream.script = answer_and_close(LAST)
            port = upstream.port
            name = {"localhost": ["::1", "127.0.0.1"]}
            environment = name_service(self, name)
            target = f"http://localhost:{port}"
            with Proxy("--target", target, environment=environment) as proxy:
                self.assertEqual(proxy.ask(request()).body, b"ok")
                # Whoever is asked first from now on would answer.
                with ScriptedUpstream(answer(LAST), address="::1", port=port) as other:
                    for _ in range(3):
                        self.assertEqual(proxy.ask(request()).body, b"ok")
                    self.assertEqual((4, 0), (upstream.connections, other.connections))

    def test_silent(self) -> None:
        """The next address gets its turn while the first is silent; nothing of it is left open."""
        with ScriptedUpstream() as upstream:
            silent("127.0.0.9", upstream.port, self)
            others = attempts("127.0.0.9", upstream.port)
            environment = name_service(self, {"two.test": ["127.0.0.9", "127.0.0.1"]})
            target = f"http://two.test:{upstream.port}"
            with Proxy("--target", target, environment=environment) as proxy:
                before = proxy.open_sockets()
                self.assertEqual(proxy.ask(request()).body, b"ok")
                self.assertEqual(others, attempts("127.0.0.9", upstream.port))
                kept = before + 1
                self.assertEqual(kept, eventually(lambda: proxy.open_sockets() == kept) and kept)
            self.assertEqual(1, upstream.connections)

    def test_client_leaves(self) -> None:
        """A client that leaves ends every attempt (FIELD 1)."""
        with ScriptedUpstream() as upstream:
            for address in ("127.0.0.8", "127.0.0.9"):
                silent(address, upstream.port, self)
            others = attempts("127.0.0.9", upstream.port)
            environment = name_service(self, {"two.test": ["127.0.0.8", "127.0.0.9"]})
            target = f"http://two.test:{upstream.port}"
            with Proxy("--target", target, environment=environment) as proxy:
                client = proxy.client()
                client.send(request())
                self.assertTrue(
                    eventually(lambda: attempts("127.0.0.9", upstream.port) == others + 1)
                )
                client.close()
                self.assertTrue(eventually(lambda: attempts("127.0.0.9", upstream.port) == others))

    def test_nobody(self) -> None:
        """When nobody answers, the most telling reason is told."""
        with ScriptedUpstream() as upstream:
            closed = upstream.port
        environment = name_service(self, {"two.test": ["2001:db8::1", "127.0.0.1"], "no.test": []})
        for name, told in (("two.test", b"connection_refused"), ("no.test", b"dns_error")):
            target = f"http://{name}:{closed}"
            with Proxy("--target", target, environment=environment) as proxy:
                response = proxy.ask(request())
                self.assertEqual(response.status, 502)
                self.assertIn(told, response.value(b"proxy-status") or b"")


class NamesTests(unittest.TestCase):
    """Names and addresses as people write them."""

    def test_international(self) -> None:
        """A name of another script is looked up, and said, as IDNA 2008 has it (RFC 5891)."""
        environment = name_service(
            self, {"xn--strae-oqa.example": ["127.0.0.1"], "strasse.example": []}
        )
        with ScriptedUpstream() as upstream:
            target = f"http://stra\u00dfe.example:{upstream.port}"
            with Proxy("--target", target, environment=environment) as proxy:
                self.assertEqual(proxy.ask(request()).body, b"ok")
            host = upstream.request.value(b"host")
        self.assertEqual(b"xn--strae-oqa.example:%d" % upstream.port, host)

    def test_underscore(self) -> None:
        """A name that is no host name of the old rules is a name all the same.

        Trap, Twisted's HostnameEndpoint: takes none with an underscore.
        """
        environment = name_service(self, {"my_app": ["127.0.0.1"]})
        with ScriptedUpstream() as upstream:
            target = f"http://my_app:{upstream.port}"
            with Proxy("--target", target, environment=environment) as proxy:
                self.assertEqual(proxy.ask(request()).body, b"ok")

    def test_zone(self) -> None:
        """A link-local address connects in its zone, and nobody is told of that (RFC 6874 3)."""
        address, interface = link_local()
        with ScriptedUpstream(answer(), address=f"{address}%{interface}") as upstream:
            for written in ("%25", "%"):
                target = f"http://[{address}{written}{interface}]:{upstream.port}"
                with Proxy("--target", target) as proxy:
                    self.assertEqual(proxy.ask(request()).body, b"ok")
            for head in upstream.requests:
                host = b"[%b]:%d" % (address.encode(), upstream.port)
                self.assertEqual(host, head.value(b"host"))
                self.assertNotIn(b"%", head.octets)

    def test_no_such_zone(self) -> None:
        """A zone that this machine does not have is told."""
        with Proxy("--target", "http://[fe80::1%25nosuch0]:1") as proxy:
            response = proxy.ask(request())
            self.assertEqual(response.status, 502)
            self.assertIn(b"no network interface", response.body)
