"""Whom the proxy trusts, over TLS in memory."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import trustme
from OpenSSL import SSL
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from pyproxy.errors import CertificateRefused, ConnectFailed, TLSFailed
from pyproxy.upstream.connection import Connection
from pyproxy.upstream.trust import (
    client_creator,
    explain_tls,
    is_address,
    read_authorities,
)
from tests.memory import CLIENT, UPSTREAM, Link, MemoryTransport, Network, no_websocket, not_lost


@implementer(IOpenSSLServerConnectionCreator)
class Server:
    """Makes TLS servers out of a certificate; notes which names were asked for."""

    def __init__(self, certificate: trustme.LeafCert) -> None:
        self.context = SSL.Context(SSL.TLS_SERVER_METHOD)
        certificate.configure_cert(self.context)
        self.context.set_tlsext_servername_callback(self._note)
        self.context.set_alpn_select_callback(lambda _, offered: offered[0])
        self.names: list[bytes | None] = []

    def _note(self, connection: SSL.Connection) -> None:
        self.names.append(connection.get_servername())

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Make the server's end."""
        return SSL.Connection(self.context, None)


class HandshakeTests(SynchronousTestCase):
    """Chain, name and time are checked; the reason of a refusal is said."""

    authority = trustme.CA()

    def setUp(self) -> None:
        """Make a network."""
        self.network = Network()
        self.addCleanup(self.network.close)

    def shake(
        self,
        certificate: trustme.LeafCert,
        host: str = "api.test",
        *,
        authority: trustme.CA | None = None,
        insecure: bool = False,
    ) -> tuple[Connection, Server]:
        """Connect to a server with a certificate."""
        trusted = read_authorities((authority or self.authority).cert_pem.bytes())
        creator = client_creator(host, None if insecure else trusted, insecure)
        server = Server(certificate)
        connection = Connection(True, lambda _: None, not_lost, no_websocket)
        client = self.tls(creator, Factory.forProtocol(lambda: connection), True, CLIENT)
        other = self.tls(server, Factory.forProtocol(Protocol), False, UPSTREAM)
        link = Link(client, other)
        for _ in range(20):
            self.network.advance(0)
            link.pump()
        return connection, server

    def tls(self, creator: Any, factory: Factory, is_client: bool, host: Any) -> MemoryTransport:
        """Make one end with TLS over it."""
        wrapped = TLSMemoryBIOFactory(creator, is_client, factory, self.network)
        transport = self.network.transport(host, CLIENT)
        protocol = wrapped.buildProtocol(CLIENT)
        transport.join(protocol)
        return transport

    def refused(self, connection: Connection) -> ConnectFailed:
        """Return what a refused handshake is explained as."""
        failure = self.failureResultOf(connection.ready)
        refusal = getattr(connection.transport, "certificate_refusal", None)
        return explain_tls(Failure(failure.value), refusal)

    def test_trusted(self) -> None:
        """A certificate of a trusted authority for the host, which is named (SNI)."""
        connection, server = self.shake(self.authority.issue_cert("api.test"))
        self.assertIs(connection, self.successResultOf(connection.ready))
        self.assertEqual([b"api.test"], server.names)

    def test_address(self) -> None:
        """A certificate for an address; an address is not named (RFC 6066 3)."""
        connection, server = self.shake(self.authority.issue_cert("192.0.2.7"), "192.0.2.7")
        self.successResultOf(connection.ready)
        self.assertEqual([None], server.names)

    def test_other_host(self) -> None:
        """A good certificate of somebody else."""
        connection, _ = self.shake(self.authority.issue_cert("other.test"))
        error = self.refused(connection)
        self.assertIsInstance(error, CertificateRefused)
        self.assertIn("it is not for api.test", error.detail)
        self.assertTrue(error.retry_safe)

    def test_unknown_authority(self) -> None:
        """A certificate for the host by an authority that is not trusted."""
        connection, _ = self.shake(trustme.CA().issue_cert("api.test"))
        error = self.refused(connection)
        self.assertIsInstance(error, CertificateRefused)
        self.assertIn("issuer", error.detail)

    def test_expired(self) -> None:
        """A certificate whose time is over."""
        yesterday = datetime.now(UTC) - timedelta(days=1)
        connection, _ = self.shake(self.authority.issue_cert("api.test", not_after=yesterday))
        self.assertIn("it has expired", self.refused(connection).detail)

    def test_insecure(self) -> None:
        """Nobody is refused when the operator said so."""
        connection, server = self.shake(trustme.CA().issue_cert("other.test"), insecure=True)
        self.successResultOf(connection.ready)
        self.assertEqual([b"api.test"], server.names)

    def test_interface(self) -> None:
        """Both kinds are what Twisted's endpoints take."""
        for insecure in (False, True):
            creator = client_creator("api.test", None, insecure)
            self.assertTrue(verifyObject(IOpenSSLClientConnectionCreator, creator))

    def test_no_tls(self) -> None:
        """A server that speaks no TLS."""
        connection = Connection(True, lambda _: None, not_lost, no_websocket)
        creator = client_creator("api.test", None, True)
        transport = self.tls(creator, Factory.forProtocol(lambda: connection), True, CLIENT)
        transport.deliver(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        self.network.settle()
        error = self.refused(connection)
        self.assertIs(TLSFailed, type(error))
        # What OpenSSL calls it differs from version to version.
        self.assertRegex(error.detail, "handshake with the upstream failed: [a-z]")

    def test_closed(self) -> None:
        """A server that closes in the handshake."""
        connection = Connection(True, lambda _: None, not_lost, no_websocket)
        creator = client_creator("api.test", None, True)
        transport = self.tls(creator, Factory.forProtocol(lambda: connection), True, CLIENT)
        transport.lose()
        self.assertIs(TLSFailed, type(self.refused(connection)))


class ReadingTests(SynchronousTestCase):
    """Small parts."""

    def test_addresses(self) -> None:
        """Addresses and names are told apart."""
        for host, address in (("127.0.0.1", True), ("::1", True), ("h", False), ("1.2.3", False)):
            self.assertEqual(address, is_address(host), host)

    def test_bundle(self) -> None:
        """A file may hold several certificates, and text between them."""
        one, other = trustme.CA().cert_pem.bytes(), trustme.CA().cert_pem.bytes()
        self.assertIsNotNone(read_authorities(b"# one\n" + one + b"# other\n" + other))

    def test_no_certificate(self) -> None:
        """What holds none, or a broken one, is refused at start."""
        broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
        for octets in (b"", b"hello", broken):
            self.assertRaises(ValueError, read_authorities, octets)
