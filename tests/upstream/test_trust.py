"""Whom the proxy trusts, over TLS in memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any, Protocol

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
)
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from pyproxy.errors import CertificateRefused, ConnectFailed, TLSFailed
from pyproxy.semantics.urls import Origin
from pyproxy.upstream import trust
from pyproxy.upstream.connection import Connection
from pyproxy.upstream.manners import Manners
from pyproxy.upstream.trust import (
    client_creator,
    explain_tls,
    is_address,
    read_authorities,
)
from tests.memory import CLIENT, UPSTREAM, Link, MemoryTransport, Network, no_websocket, not_lost

MANNERS = Manners(Origin("https", "api.test", 443, b"api.test"))


class Certificate(Protocol):
    """A certificate with its key; one of trustme's is."""

    def configure_cert(self, ctx: SSL.Context) -> None:
        """Let a context use it."""


class CertificateFor:
    """A certificate whose names trustme would not write."""

    def __init__(
        self,
        authority: trustme.CA,
        *names: x509.GeneralName,
        extension: x509.ExtensionType | None = None,
    ) -> None:
        issuer = x509.load_pem_x509_certificate(authority.cert_pem.bytes()).subject
        key = serialization.load_pem_private_key(authority.private_key_pem.bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        own = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "api.test")]))
            .issuer_name(issuer)
            .public_key(own.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
        )
        if names:
            extension = x509.SubjectAlternativeName(names)
        if extension is not None:
            builder = builder.add_extension(extension, False)
        certificate = builder.sign(key, hashes.SHA256())
        self._pem = trustme.Blob(
            certificate.public_bytes(serialization.Encoding.PEM)
            + own.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )

    def configure_cert(self, ctx: SSL.Context) -> None:
        """Let a context use it."""
        with self._pem.tempfile() as path:
            ctx.use_certificate_file(path)
            ctx.use_privatekey_file(path)


@implementer(IOpenSSLServerConnectionCreator)
class Server:
    """Makes TLS servers out of a certificate; notes which names and protocols were asked for."""

    def __init__(self, certificate: Certificate) -> None:
        self.context = SSL.Context(SSL.TLS_SERVER_METHOD)
        certificate.configure_cert(self.context)
        self.context.set_tlsext_servername_callback(self._note)
        self.context.set_alpn_select_callback(self._select)
        self.names: list[bytes | None] = []
        self.offered: list[list[bytes]] = []

    def _note(self, connection: SSL.Connection) -> None:
        self.names.append(connection.get_servername())

    def _select(self, _: SSL.Connection, offered: list[bytes]) -> bytes:
        self.offered.append(offered)
        return offered[0]

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Make the server's end."""
        return SSL.Connection(self.context, None)


class Peer(TwistedProtocol):
    """The server's end; notes how it ended."""

    reason: Failure | None = None
    shutdown = 0

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Take note."""
        transport: Any = self.transport
        self.reason, self.shutdown = reason, transport.getHandle().get_shutdown()


class HandshakeTests(SynchronousTestCase):
    """Chain, name and time are checked; the reason of a refusal is said."""

    authority = trustme.CA()

    def setUp(self) -> None:
        """Make a network."""
        self.network = Network()
        self.addCleanup(self.network.close)

    def shake(
        self,
        certificate: Certificate,
        host: str = "api.test",
        *,
        authority: trustme.CA | None = None,
        insecure: bool = False,
        newest: int | None = None,
    ) -> tuple[Connection, Server]:
        """Connect to a server with a certificate."""
        trusted = (authority or self.authority).cert_pem.bytes()
        creator = client_creator(host, None if insecure else trusted, insecure)
        server = Server(certificate)
        if newest is not None:
            server.context.set_max_proto_version(newest)
        connection = Connection(True, lambda _: None, not_lost, no_websocket, MANNERS)
        client = self.tls(creator, Factory.forProtocol(lambda: connection), True, CLIENT)
        self.peer = Peer()
        other = self.tls(server, Factory.forProtocol(lambda: self.peer), False, UPSTREAM)
        self.link = Link(client, other)
        self.pump()
        return connection, server

    def pump(self) -> None:
        """Carry octets across until nothing moves."""
        for _ in range(20):
            self.network.advance(0)
            self.link.pump()

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

    def test_protocol(self) -> None:
        """``http/1.1`` is offered, and nothing else.  RFC 7301.

        Trap, Twisted's TLS: where it is offered has moved between versions.
        """
        for insecure in (False, True):
            connection, server = self.shake(
                self.authority.issue_cert("api.test"), insecure=insecure
            )
            self.successResultOf(connection.ready)
            self.assertEqual([[b"http/1.1"]], server.offered)
            transport: Any = connection.transport
            self.assertEqual(b"http/1.1", transport.negotiatedProtocol)

    def test_names(self) -> None:
        """Of the names in a certificate each counts alone; one that is none counts for nothing.

        RFC 9525 6.3: no common name, no wildcard but a whole label, and that not too far left.
        Trap, service-identity: one odd name (``*.local``, ``urn:a:b``) spoils all the others.
        """
        dns, uri = x509.DNSName, x509.UniformResourceIdentifier
        loopback = x509.IPAddress(ip_address("127.0.0.1"))
        table: Sequence[tuple[str, bool, list[x509.GeneralName]]] = (
            ("api.test", True, [dns("api.test")]),
            ("api.test", True, [dns("API.Test")]),
            ("api.test", True, [dns("*.local"), dns("api.test")]),
            ("api.test", True, [dns("*"), dns("*.*.a.b"), dns(""), dns("api.test")]),
            ("api.test", True, [uri("urn:example:app"), dns("api.test")]),
            ("api.test", True, [uri("https://h:8443/"), dns("api.test")]),
            ("127.0.0.1", True, [dns("127.0.0.1"), loopback]),
            ("::1", True, [x509.IPAddress(ip_address("::1"))]),
            ("a.api.test", True, [dns("*.api.test")]),
            ("b.a.api.test", False, [dns("*.api.test")]),
            ("api.test", False, [dns("*.api.test")]),
            ("ab.api.test", False, [dns("a*.api.test")]),
            ("api.test", False, [dns("*.test")]),
            ("api.test", False, []),
            ("api.test", False, [uri("https://api.test")]),
            ("api.test", False, [loopback]),
            ("127.0.0.1", False, [dns("127.0.0.1")]),
            ("127.0.0.2", False, [loopback]),
        )
        for host, good, names in table:
            connection, _ = self.shake(CertificateFor(self.authority, *names), host)
            if good:
                self.successResultOf(connection.ready)
            else:
                self.assertIn(f"it is not for {host}", self.refused(connection).detail, names)

    def test_unreadable_names(self) -> None:
        """Names that cannot be read are a refusal with its reason, and no defect."""
        odd = x509.OtherName(x509.ObjectIdentifier("1.2.3"), b"\x0c\x01a")
        good = CertificateFor(self.authority, x509.DNSName("api.test"), odd)
        self.successResultOf(self.shake(good)[0].ready)

        def spoil(names: x509.SubjectAlternativeName) -> bytes:
            return names.public_bytes().replace(b"api.test", b"api.t\xffst")

        broken = x509.UnrecognizedExtension(
            x509.SubjectAlternativeName.oid,
            spoil(x509.SubjectAlternativeName([x509.DNSName("api.test")])),
        )
        connection, _ = self.shake(CertificateFor(self.authority, extension=broken))
        self.assertIn("cannot be read", self.refused(connection).detail)

    def test_name_of_no_certificate(self) -> None:
        """A name that service-identity takes for an address is refused with its reason."""
        connection, _ = self.shake(self.authority.issue_cert("api.test"), "1_0")
        error = self.refused(connection)
        self.assertIs(CertificateRefused, type(error))
        self.assertIn("no certificate can be for 1_0", error.detail)

    def test_a_defect(self) -> None:
        """What nobody foresaw in the check refuses the certificate too, and is logged."""

        def fail(*_: object) -> None:
            raise ZeroDivisionError("a defect")

        self.patch(trust, "_patterns", fail)
        connection, _ = self.shake(self.authority.issue_cert("api.test"))
        error = self.refused(connection)
        self.assertIs(CertificateRefused, type(error))
        self.assertIn("could not be checked", error.detail)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_version(self) -> None:
        """TLS 1.2 is the oldest version that is spoken.  RFC 8996."""
        for version, spoken in ((SSL.TLS1_2_VERSION, True), (SSL.TLS1_1_VERSION, False)):
            certificate = self.authority.issue_cert("api.test")
            connection, _ = self.shake(certificate, newest=version)
            if spoken:
                self.successResultOf(connection.ready)
            else:
                self.assertIs(TLSFailed, type(self.refused(connection)))

    def test_good_bye(self) -> None:
        """An idle connection is closed with TLS's own end, and that of the peer is not awaited.

        RFC 8446 6.1; Trap, Twisted's TLS: its orderly end waits without a limit.
        """
        connection, _ = self.shake(self.authority.issue_cert("api.test"))
        self.successResultOf(connection.ready)
        connection.close()
        self.network.advance(0)
        transport: Any = connection.transport
        self.assertIsNotNone(transport.transport.lost)
        self.assertFalse(transport.transport.disconnected)
        self.pump()
        assert self.peer.reason is not None
        self.assertTrue(self.peer.reason.check(ConnectionDone))
        self.assertTrue(self.peer.shutdown & SSL.RECEIVED_SHUTDOWN)

    def test_interface(self) -> None:
        """Both kinds are what Twisted's endpoints take."""
        for insecure in (False, True):
            creator = client_creator("api.test", None, insecure)
            self.assertTrue(verifyObject(IOpenSSLClientConnectionCreator, creator))

    def test_no_tls(self) -> None:
        """A server that speaks no TLS."""
        connection = Connection(True, lambda _: None, not_lost, no_websocket, MANNERS)
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
        connection = Connection(True, lambda _: None, not_lost, no_websocket, MANNERS)
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
