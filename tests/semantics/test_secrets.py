"""Injected secrets are found in whichever form they come back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.semantics.secrets import MASK, MIN_SECRET_BYTES, SecretMask
from tests.semantics import strict


class SecretMaskTests(SynchronousTestCase):
    """A mask takes the secrets that it knows out of octets."""

    def test_nothing_to_keep(self) -> None:
        """A mask without secrets is false and changes nothing; too short ones are none."""
        for secrets in ([], [b""], [b"x" * (MIN_SECRET_BYTES - 1)]):
            mask = SecretMask(secrets)
            self.assertFalse(mask)
            self.assertEqual(b"xxxx", mask.apply(b"xxxx"))
        self.assertTrue(SecretMask([b"x" * MIN_SECRET_BYTES]))

    def test_as_it_is(self) -> None:
        """A secret is masked wherever it stands, and as often as it does."""
        mask = SecretMask([b"se.ret"])
        self.assertEqual(b"***", mask.apply(b"se.ret"))
        self.assertEqual(b"a***b***", mask.apply(b"ase.retbse.ret"))
        self.assertEqual(b"sekret se.re", mask.apply(b"sekret se.re"))

    def test_percent_encoded(self) -> None:
        """Any of its octets may be percent-encoded, in either case.  RFC 3986 2.1, 6.2.2.1."""
        mask = SecretMask([b"a/b+\xff"])
        for octets in (b"a%2Fb%2B%FF", b"a%2fb%2b%ff", b"%61/b+\xff", b"a%2Fb+%Ff", b"a/b%2B\xff"):
            self.assertEqual(b"x***y", mask.apply(b"x" + octets + b"y"), octets)
        for octets in (b"A/b+\xff", b"a%252Fb+\xff"):
            self.assertEqual(octets, mask.apply(octets))

    def test_secret_within_another(self) -> None:
        """Of two secrets of which one begins with the other the longer is masked whole."""
        for secrets in ([b"sekret", b"sekret-long"], [b"sekret-long", b"sekret"]):
            self.assertEqual(b"*** ***", SecretMask(secrets).apply(b"sekret-long sekret"))

    @given(st.binary(min_size=MIN_SECRET_BYTES, max_size=8), st.binary(max_size=8))
    def test_never_left(self, secret: bytes, around: bytes) -> None:
        """Whatever octets a secret has, it is found, as it is and wholly encoded."""
        mask = SecretMask([secret])
        encoded = b"".join(b"%%%02X" % octet for octet in secret)
        self.assertIn(MASK, mask.apply(around + secret))
        self.assertIn(MASK, mask.apply(encoded + around))
        self.assertEqual(MASK, mask.apply(secret))
        self.assertEqual(MASK, mask.apply(encoded))

    def test_hostile_input_is_linear(self) -> None:
        """No octets make the search slow."""
        mask = SecretMask([b"a" * 64 + b"b", b"%61" * 20])
        for octets in (b"a" * strict.CROWD, b"%61" * (strict.CROWD // 3), b"%" * strict.CROWD):
            self.assertLess(strict.cpu_seconds(mask.apply, octets), strict.CPU_BUDGET)
