"""Whom the proxy trusts to be the upstream, and how it says why it does not.

Spec: RFC 9110 4.3.4, RFC 9525.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Any, cast

from cryptography import x509
from OpenSSL import SSL, crypto
from service_identity import CertificateError
from service_identity.hazmat import (
    DNS_ID,
    CertificatePattern,
    DNSPattern,
    IPAddress_ID,
    IPAddressPattern,
)
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    platformTrust,
    trustRootFromCertificates,
)
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from pyproxy.errors import CertificateRefused, ConnectFailed, TLSFailed

_log = Logger()

TrustRoot = Any
"""An IOpenSSLTrustRoot; Twisted keeps the interface's own name private."""

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\r?\n?", re.DOTALL)

_REASONS = {
    2: "its issuer is not known",
    9: "it is not valid yet",
    10: "it has expired",
    18: "it is self-signed",
    19: "its chain ends in a self-signed certificate that is not trusted",
    20: "its issuer is not trusted",
    21: "its chain is not complete",
    23: "it has been revoked",
    24: "an issuer in its chain may not issue certificates",
    26: "it is not meant for servers",
}
"""What OpenSSL's verification error numbers mean.  Spec: openssl/x509_vfy.h."""


PROTOCOLS = [b"http/1.1"]
"""What is offered by ALPN: what is spoken here.  Spec: RFC 7301, RFC 9112 12.4."""


class _Creator:
    """What both kinds have in common.  Args: an address, or a name without a final dot."""

    def __init__(self, host: str, options: CertificateOptions) -> None:
        self._host = host
        self._is_name = not is_address(host)
        self._context = options.getContext()

    def _new_connection(self) -> SSL.Connection:
        """Return a connection that names its host (SNI) and offers ``PROTOCOLS`` (ALPN).

        Twisted's options offer them in the context in some versions, in a place of their own that
        is passed by here in others.  Spec: RFC 6066 3: no address, and no final dot.
        """
        connection = SSL.Connection(self._context, None)
        connection.set_alpn_protos(PROTOCOLS)
        if self._is_name:
            connection.set_tlsext_host_name(self._host.encode("ascii"))
        return connection


@implementer(IOpenSSLClientConnectionCreator)
class VerifyingCreator(_Creator):
    """Makes TLS connections that accept only the host they are meant for.

    The whole check is made here, in OpenSSL's callback, and leaves the reason of a refusal on the
    TLS protocol as ``certificate_refusal``.
    """

    def __init__(self, host: str, trust_root: TrustRoot) -> None:
        super().__init__(host, CertificateOptions(trustRoot=trust_root))
        self._identity: DNS_ID | IPAddress_ID | None
        try:
            self._identity = DNS_ID(host) if self._is_name else IPAddress_ID(host)
        except ValueError:
            # It takes digits with underscores (``1_0``) for an address.
            self._identity = None

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Make a connection that verifies chain and identity."""
        connection = self._new_connection()

        def verify(_: object, certificate: crypto.X509, number: int, depth: int, good: int) -> bool:
            try:
                refusal = self._refusal(certificate, number, depth, bool(good))
            except Exception:  # noqa: BLE001 - OpenSSL's caller would tell of a closed connection
                _log.failure("a certificate of the upstream could not be checked")
                refusal = "it could not be checked, as the proxy's log says"
            if refusal is not None:
                tlsProtocol.certificate_refusal = refusal  # type: ignore[attr-defined]
            return refusal is None

        connection.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, verify)
        return connection

    def _refusal(self, certificate: crypto.X509, number: int, depth: int, good: bool) -> str | None:
        """Return why a certificate of the chain is refused, or None.  Spec: RFC 9525 6."""
        if not good:
            return _REASONS.get(number, f"OpenSSL's verification error {number}")
        if depth > 0:
            return None
        try:
            patterns = _patterns(certificate, self._is_name)
        except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
            return "the names in it cannot be read"
        identity = self._identity
        if identity is None:
            return f"no certificate can be for {self._host}"
        if any(identity.verify(pattern) for pattern in patterns):
            return None
        return f"it is not for {self._host}"


def _patterns(certificate: crypto.X509, of_names: bool) -> Sequence[CertificatePattern]:
    """Return the names, or else the addresses, that a certificate is for.

    One that is no proper name (``*.local``, an address in a name's place) stands for nothing; the
    others count all the same, as everywhere but in ``service_identity.extract_patterns``.
    Spec: RFC 9525 6.1, 6.3; a common name is no identity (2).
    Raises: ValueError and others when the extension cannot be read.
    """
    extensions = certificate.to_cryptography().extensions
    try:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    if not of_names:
        addresses = cast(list[IPv4Address | IPv6Address], names.get_values_for_type(x509.IPAddress))
        return [IPAddressPattern(one) for one in addresses]
    patterns = []
    for name in names.get_values_for_type(x509.DNSName):
        try:
            patterns.append(DNSPattern.from_bytes(name.encode("utf-8")))
        except CertificateError:
            continue
    return patterns


@implementer(IOpenSSLClientConnectionCreator)
class UnverifyingCreator(_Creator):
    """Makes TLS connections that accept any certificate; encrypted, and nothing more."""

    def __init__(self, host: str) -> None:
        super().__init__(host, CertificateOptions(verify=False))

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Make a connection that verifies nothing."""
        return self._new_connection()


def is_address(host: str) -> bool:
    """Tell whether a host is an IP address and no name."""
    return bool(isIPAddress(host) or isIPv6Address(host))


def read_authorities(pem: bytes) -> TrustRoot:
    """Return a trust root of the certificates in a PEM file.

    Raises: ValueError when there is none, or one that cannot be read.
    """
    blocks = _PEM.findall(pem)
    if not blocks:
        raise ValueError("it holds no PEM certificate")
    try:
        return trustRootFromCertificates([Certificate.loadPEM(block) for block in blocks])
    except (crypto.Error, ValueError) as error:
        raise ValueError("a certificate in it cannot be read") from error


def client_creator(
    host: str, authorities: bytes | None, insecure: bool
) -> IOpenSSLClientConnectionCreator:
    """Return what makes TLS connections to a host.

    Args: PEM text of the trusted authorities, None for the system's; insecure to verify nothing.
    """
    if insecure:
        return UnverifyingCreator(host)
    trusted = platformTrust() if authorities is None else read_authorities(authorities)
    return VerifyingCreator(host, trusted)


def explain_tls(failure: Failure, refusal: str | None) -> ConnectFailed:
    """Translate the end of a TLS handshake.  Args: why the certificate was refused, if it was."""
    if refusal is not None:
        return CertificateRefused(f"the upstream's certificate was refused: {refusal}")
    error = failure.value
    if isinstance(error, SSL.Error) and error.args and error.args[0]:
        reasons = "; ".join(str(entry[-1]) for entry in error.args[0])
        return TLSFailed(f"the TLS handshake with the upstream failed: {reasons}")
    return TLSFailed("the upstream closed the connection during the TLS handshake")
