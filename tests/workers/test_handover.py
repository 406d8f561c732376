"""What a worker is given."""

from __future__ import annotations

import os
import pickle
import sys
import tempfile
from ipaddress import ip_network
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from pyproxy.config.endpoints import files_of
from pyproxy.config.schema import Listen
from pyproxy.policy.routing import Limits
from pyproxy.semantics.forwarding import FieldRules
from pyproxy.semantics.urls import parse_target
from pyproxy.workers.handover import LENGTH, Bound, Draining, Handover, Taking
from tests.configs import one_route


class HandoverTests(SynchronousTestCase):
    """The configuration goes over whole."""

    def test_round_trip(self) -> None:
        """Every kind of value in a configuration is the same on the other side."""
        config = one_route(
            target=parse_target("https://api.example.com/v1/"),
            prefix=b"/api",
            listen=(Listen(), Listen("unix:/run/x.sock")),
            request_rules=FieldRules(((b"X-Key", b"sk-secret"),), frozenset({b"cookie"})),
            secrets=(b"sk-secret",),
            trusted=(ip_network("10.0.0.0/8"), ip_network("::1/128")),
            limits=Limits(connect=0.5, max_content=7),
            authorities=b"-----BEGIN CERTIFICATE-----",
            workers=4,
        )
        places = (Bound(3, Listen(), "AF_INET", {"key.pem": b"the key"}),)
        taking = Taking(2, config, places)
        handover = Handover(b"pyproxy-name", "twisted.internet.pollreactor", 4, taking)
        octets = handover.octets()
        (size,) = LENGTH.unpack(octets[: LENGTH.size])
        self.assertEqual(size, len(octets) - LENGTH.size)
        path, inner = pickle.loads(octets[LENGTH.size :])
        self.assertEqual(sys.path, path)
        self.assertEqual(handover, pickle.loads(inner))
        for order in (taking, Draining(30.0)):
            self.assertEqual(order, pickle.loads(pickle.dumps(order)))


class AdoptingTests(SynchronousTestCase):
    """A place to listen, as a worker reads it."""

    def description(self, text: str, files: dict[str, bytes], family: str = "AF_INET") -> str:
        """Return what an endpoint string becomes."""
        with Bound(1, Listen(text), family, files).adopting() as listen:
            assert listen.description is not None
            return listen.description

    def test_plain(self) -> None:
        """What names no file stays as it is; a port stays a port."""
        for text in ("tcp:8000:interface=127.0.0.1", "unix:/run/a.sock", "haproxy:tcp:80"):
            self.assertEqual(text, self.description(text, {}))
        with Bound(1, Listen(port=1), "AF_INET").adopting() as listen:
            self.assertEqual(Listen(port=1), listen)

    def test_files(self) -> None:
        """Keys and certificates are read once, by who may; a worker has copies of its own."""
        with tempfile.TemporaryDirectory() as directory:
            key, certificate = Path(directory, "a:b.pem"), Path(directory, "cert.pem")
            key.write_bytes(b"the key")
            certificate.write_bytes(b"the certificate")
            quoted = str(key).replace(":", "\\:")
            text = f"haproxy:ssl:443:privateKey={quoted}:certKey={certificate}:backlog=9"
            self.assertEqual({str(key), str(certificate)}, files_of(text))
            self.assertEqual(set(), files_of("tcp:80"))
        files = {str(key): b"the key", str(certificate): b"the certificate"}
        before = set(os.listdir("/proc/self/fd"))
        with Bound(1, Listen(text), "AF_INET", files).adopting() as listen:
            assert listen.description is not None
            arguments = dict(
                argument.split("=") for argument in listen.description.split(":") if "=" in argument
            )
            self.assertEqual(b"the key", Path(arguments["privateKey"]).read_bytes())
            self.assertEqual(b"the certificate", Path(arguments["certKey"]).read_bytes())
            self.assertEqual("9", arguments["backlog"])
        self.assertEqual(before, set(os.listdir("/proc/self/fd")), "a copy of a key stays open")

    def test_systemd(self) -> None:
        """A worker has none of the sockets that systemd opened, only the adopted one."""
        for text, family, expected in (
            ("systemd:domain=INET:index=0", "AF_INET", "tcp:0"),
            ("haproxy:systemd:domain=INET6:index=0", "AF_INET6", "haproxy:tcp6:0"),
            ("systemd:domain=UNIX:name=a", "AF_UNIX", "unix:adopted"),
            ("unix:systemd:mode=600", "AF_INET", "unix:systemd:mode=600"),
        ):
            self.assertEqual(expected, self.description(text, {}, family))
