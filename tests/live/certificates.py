"""A certificate for ``localhost``, where options can name it."""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path
from typing import ClassVar

import trustme


class CertifiedTestCase(unittest.TestCase):
    """A case with a certificate.

    Attributes:
        ca: the path of the authority's certificate.
        key: the path of the certificate with its key.
        leaf: the certificate itself.
    """

    authority: ClassVar[trustme.CA] = trustme.CA()

    def setUp(self) -> None:
        """Put the authority's certificate and a key of its where options can name them."""
        super().setUp()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.ca = str(Path(directory.name) / "ca.pem")
        self.authority.cert_pem.write_to_path(self.ca)
        self.leaf = self.authority.issue_cert("localhost")
        self.key = str(Path(directory.name) / "key.pem")
        self.leaf.private_key_and_cert_chain_pem.write_to_path(self.key)
