"""What a worker is given."""

from __future__ import annotations

import pickle
import sys
import tempfile
from ipaddress import ip_network
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from pyproxy.config.schema import Listen
from pyproxy.policy.routing import Limits
from pyproxy.semantics.forwarding import FieldRules
from pyproxy.semantics.urls import parse_target
from pyproxy.workers.handover import LENGTH, Handover, Socket, adopting, read_files
from tests.configs import one_route

TCP = Socket("AF_INET", 5)


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
        handover = Handover(config, b"pyproxy-name", "twisted.internet.pollreactor", (TCP,))
        octets = handover.octets()
        (size,) = LENGTH.unpack(octets[: LENGTH.size])
        self.assertEqual(size, len(octets) - LENGTH.size)
        path, inner = pickle.loads(octets[LENGTH.size :])
        self.assertEqual(sys.path, path)
        self.assertEqual(handover, pickle.loads(inner))


class AdoptingTests(SynchronousTestCase):
    """A place to listen, as a worker reads it."""

    def description(self, text: str, files: dict[str, bytes], socket: Socket = TCP) -> str:
        """Return what an endpoint string becomes."""
        adopted = adopting(Listen(text), socket, files).description
        assert adopted is not None
        return adopted

    def test_plain(self) -> None:
        """What names no file stays as it is; a port stays a port."""
        for text in ("tcp:8000:interface=127.0.0.1", "unix:/run/a.sock", "haproxy:tcp:80"):
            self.assertEqual(text, self.description(text, {}))
        self.assertEqual(Listen(port=1), adopting(Listen(port=1), TCP, {}))

    def test_files(self) -> None:
        """Keys and certificates are read once, by who may; a worker has copies of its own."""
        with tempfile.TemporaryDirectory() as directory:
            key, certificate = Path(directory, "a:b.pem"), Path(directory, "cert.pem")
            key.write_bytes(b"the key")
            certificate.write_bytes(b"the certificate")
            quoted = str(key).replace(":", "\\:")
            text = f"haproxy:ssl:443:privateKey={quoted}:certKey={certificate}:backlog=9"
            files = read_files((Listen(text), Listen()))
        self.assertEqual({str(key): b"the key", str(certificate): b"the certificate"}, files)
        arguments = dict(
            argument.split("=")
            for argument in self.description(text, files).split(":")
            if "=" in argument
        )
        self.assertEqual(b"the key", Path(arguments["privateKey"]).read_bytes())
        self.assertEqual(b"the certificate", Path(arguments["certKey"]).read_bytes())
        self.assertEqual("9", arguments["backlog"])

    def test_systemd(self) -> None:
        """A worker has none of the sockets that systemd opened, only the adopted one."""
        for text, socket, expected in (
            ("systemd:domain=INET:index=0", TCP, "tcp:0"),
            ("haproxy:systemd:domain=INET6:index=0", Socket("AF_INET6", 5), "haproxy:tcp6:0"),
            ("systemd:domain=UNIX:name=a", Socket("AF_UNIX", 5), "unix:adopted"),
            ("unix:systemd:mode=600", TCP, "unix:systemd:mode=600"),
        ):
            self.assertEqual(expected, self.description(text, {}, socket))
