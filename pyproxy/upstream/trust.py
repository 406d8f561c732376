"""Whom the proxy trusts to be the upstream, and how it says why it does not.

Spec: RFC 9110 4.3.4, RFC 9525.
"""

from __future__ import annotations

import re
from typing import Any

from OpenSSL import SSL, crypto
from service_identity import CertificateError, VerificationError
from service_identity.hazmat import DNS_ID, IPAddress_ID, verify_service_identity
from service_identity.pyopenssl import extract_patterns
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    platformTrust,
    trustRootFromCertificates,
)
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from pyproxy.errors import CertificateRefused, ConnectFailed, TLSFailed

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


@implementer(IOpenSSLClientConnectionCreator)
class VerifyingCreator:
    """Makes TLS connections that accept only the host they are meant for.

    The whole check is made here, in OpenSSL's callback, and leaves the reason of a refusal on the
    TLS protocol as ``certificate_refusal``.
    """

    def __init__(self, host: str, trust_root: TrustRoot) -> None:
        self._host = host
        self._is_name = not is_address(host)
        self._identity = DNS_ID(host) if self._is_name else IPAddress_ID(host)
        options = CertificateOptions(trustRoot=trust_root, acceptableProtocols=[b"http/1.1"])
        self._context = options.getContext()

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Make a connection that names its host (SNI) and verifies chain and identity."""
        connection = SSL.Connection(self._context, None)
        if self._is_name:
            connection.set_tlsext_host_name(self._host.encode("ascii"))

        def verify(_: object, certificate: crypto.X509, number: int, depth: int, good: int) -> bool:
            refusal = self._refusal(certificate, number, depth, bool(good))
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
            verify_service_identity(extract_patterns(certificate), [self._identity], [])
        except (VerificationError, CertificateError):
            return f"it is not for {self._host}"
        return None


@implementer(IOpenSSLClientConnectionCreator)
class UnverifyingCreator:
    """Makes TLS connections that accept any certificate; encrypted, and nothing more."""

    def __init__(self, host: str) -> None:
        self._name = None if is_address(host) else host
        options = CertificateOptions(verify=False, acceptableProtocols=[b"http/1.1"])
        self._context = options.getContext()

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Make a connection that names its host (SNI) and verifies nothing."""
        connection = SSL.Connection(self._context, None)
        if self._name is not None:
            connection.set_tlsext_host_name(self._name.encode("ascii"))
        return connection


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
    host: str, authorities: TrustRoot | None, insecure: bool
) -> IOpenSSLClientConnectionCreator:
    """Return what makes TLS connections to a host.

    Args: trusted authorities, or None for the system's; insecure to verify nothing.
    """
    if insecure:
        return UnverifyingCreator(host)
    return VerifyingCreator(host, platformTrust() if authorities is None else authorities)


def explain_tls(failure: Failure, refusal: str | None) -> ConnectFailed:
    """Translate the end of a TLS handshake.  Args: why the certificate was refused, if it was."""
    if refusal is not None:
        return CertificateRefused(f"the upstream's certificate was refused: {refusal}")
    error = failure.value
    if isinstance(error, SSL.Error) and error.args and error.args[0]:
        reasons = "; ".join(str(entry[-1]) for entry in error.args[0])
        return TLSFailed(f"the TLS handshake with the upstream failed: {reasons}")
    return TLSFailed("the upstream closed the connection during the TLS handshake")
