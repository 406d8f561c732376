"""No credential is written down."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.observe.masking import Mask
from pyproxy.semantics.secrets import MASK, MIN_SECRET_BYTES
from tests.semantics import strict

UNKNOWING = Mask.of(())
KNOWN = Mask.of([b"sekret", b"sekret-long", b"a/b+sek ret"])


class KnownSecretTests(SynchronousTestCase):
    """Secrets that the proxy injects are known by value."""

    def test_masked(self) -> None:
        """A known secret is masked wherever it stands, as it is or percent-encoded."""
        for octets, expected in (
            (b"sekret", b"***"),
            (b"/a/sekret/b", b"/a/***/b"),
            (b"xsekretx sekret", b"x***x ***"),
            (b"sekret-long", b"***"),
            (b"/?q=a%2Fb%2Bsek%20ret", b"/?q=***"),
            (b"a/b+sek ret", b"***"),
        ):
            self.assertEqual(expected, KNOWN.apply(octets), octets)

    def test_lower_case_escapes(self) -> None:
        """The digits of an escape have no case.  RFC 3986 6.2.2.1."""
        self.assertNotIn(b"sek", KNOWN.apply(b"/q/a%2fb%2bsek%20ret"))

    def test_short_values_are_no_secrets(self) -> None:
        """A value too short to be a key does not blot out ordinary words."""
        short = b"x" * (MIN_SECRET_BYTES - 1)
        self.assertEqual(b"/" + short, Mask.of([short, b""]).apply(b"/" + short))

    @given(
        st.text("abc/+ %", min_size=MIN_SECRET_BYTES).map(str.encode),
        st.binary(max_size=8),
        st.binary(max_size=8),
    )
    def test_never_left(self, secret: bytes, before: bytes, after: bytes) -> None:
        """Whatever stands around a secret, it is not there any more."""
        self.assertNotIn(secret, Mask.of([secret]).apply(before + secret + after))


class LookTests(SynchronousTestCase):
    """What looks like a credential is masked without being known."""

    def test_query_parameters(self) -> None:
        """The value of a parameter whose name says that it is a key is masked, its name kept."""
        for name in (
            b"key",
            b"api_key",
            b"api-key",
            b"apikey",
            b"API.Key",
            b"x-api-key",
            b"access_token",
            b"token",
            b"id_token_hint",
            b"client_secret",
            b"password",
            b"passwd",
            b"sig",
            b"X-Amz-Signature",
            b"X-Amz-Credential",
            b"subscription-key",
            b"sessionid",
            b"code",
            b"auth",
            b"jwt",
        ):
            for before, after in ((b"/a?", b""), (b"/a?b=c&", b"&d=e"), (b"/?x;", b" HTTP/1.1")):
                octets = before + name + b"=hidden" + after
                self.assertEqual(before + name + b"=***" + after, UNKNOWING.apply(octets), octets)

    def test_parameter_with_question_mark(self) -> None:
        """A question mark does not end a parameter, nor begin what is no key.  RFC 3986 3.4."""
        for octets in (
            b"/a?token=abc?hidden",
            b"/a?b=http://c/d?token=hidden",
            b"/a?b?key=hidden&c",
            b"/?token=?hidden?hidden=x",
        ):
            self.assertNotIn(b"hidden", UNKNOWING.apply(octets), octets)

    def test_other_parameters(self) -> None:
        """Parameters that only look a little like it stay."""
        for octets in (
            b"/a?keyboard=qwerty",
            b"/a?monkey=1",
            b"/a?model=gpt&stream=true",
            b"/key=1",
            b"/a?design=1",
            b"/a?encode=utf-8",
            b"/?author=x",
        ):
            self.assertEqual(octets, UNKNOWING.apply(octets))

    def test_user_information(self) -> None:
        """User information in a URL is masked.  RFC 3986 3.2.1."""
        self.assertEqual(b"http://***@h/a", UNKNOWING.apply(b"http://user:pass@h/a"))
        self.assertEqual(b"http://h/@a", UNKNOWING.apply(b"http://h/@a"))

    def test_known_shapes(self) -> None:
        """Keys of well-known services are told by their beginnings."""
        for key in (
            b"sk-abcdefgh12345678",
            b"sk-proj-abcdefgh_12345678",
            b"hf_abcdefgh12345678",
            b"ghp_abcdefgh12345678",
            b"xai-abcdefgh12345678",
            b"gsk_abcdefgh12345678",
            b"Bearer abcdefgh12345678",
            b"Basic dXNlcjpwYXNz=",
        ):
            for octets in (key, b"/a/" + key + b"/b", b"(" + key + b")"):
                self.assertNotIn(b"abcdefgh", UNKNOWING.apply(octets), octets)
                self.assertIn(MASK, UNKNOWING.apply(octets), octets)
        for word in (b"task-force-of-many-people", b"sk-short", b"risk-abcdefghijkl"):
            self.assertEqual(word, UNKNOWING.apply(word))

    def test_google_keys(self) -> None:
        """Google's keys begin with ``AIza`` and have no separator after it."""
        self.assertNotIn(
            b"abcdefgh", UNKNOWING.apply(b"/a/AIzaSyabcdefgh12345678abcdefgh12345678x")
        )

    def test_case_of_schemes(self) -> None:
        """The names of authentication schemes have no case.  RFC 9110 11.1."""
        self.assertNotIn(b"abcdefgh", UNKNOWING.apply(b"bearer abcdefgh12345678"))

    def test_nothing_to_mask(self) -> None:
        """Octets without a credential come out as they are."""
        for octets in (b"", b"GET /a?b=c HTTP/1.1", b"\xff\0", b"Mozilla/5.0 (X11; Linux x86_64)"):
            self.assertEqual(octets, KNOWN.apply(octets))

    def test_hostile_input_is_linear(self) -> None:
        """No request makes the mask slow: it reads targets and fields that clients write."""
        for octets in (
            b"/=" + b"?" * strict.CROWD,
            b"/=" + b"&" * strict.CROWD,
            b"/=?" + b"token" * (strict.CROWD // 5),
            b"/=?" + b"a" * strict.CROWD,
            b"@" + b"://" * (strict.CROWD // 3),
            b"@://" + b"a" * strict.CROWD,
            b"sk-" * (strict.CROWD // 3),
            b"Bearer " * (strict.CROWD // 7),
        ):
            taken = strict.cpu_seconds(UNKNOWING.apply, octets)
            self.assertLess(taken, strict.CPU_BUDGET, octets[:8])
