"""Targets of requests, and of the proxy."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.errors import Malformed, TargetClimbs
from pyproxy.semantics.urls import (
    Origin,
    PathMapping,
    Target,
    climbs,
    is_authority,
    parse_prefix,
    parse_target,
    readings,
    split_absolute_form,
    split_authority,
)
from tests.semantics import strict

TARGETS = (
    ("http://h", Origin("http", "h", 80, b"h"), b""),
    ("http://h/", Origin("http", "h", 80, b"h"), b"/"),
    ("http://h:80/base/", Origin("http", "h", 80, b"h"), b"/base/"),
    ("http://h:", Origin("http", "h", 80, b"h"), b""),
    (
        "HTTPS://API.Example.com:443/v1",
        Origin("https", "api.example.com", 443, b"api.example.com"),
        b"/v1",
    ),
    ("https://h:8443", Origin("https", "h", 8443, b"h:8443"), b""),
    ("http://h:443", Origin("http", "h", 443, b"h:443"), b""),
    ("http://127.0.0.1:8000", Origin("http", "127.0.0.1", 8000, b"127.0.0.1:8000"), b""),
    ("http://[::1]:8000/a", Origin("http", "::1", 8000, b"[::1]:8000"), b"/a"),
    ("https://[2001:db8::1]", Origin("https", "2001:db8::1", 443, b"[2001:db8::1]"), b""),
    (
        "http://b\u00fccher.example",
        Origin("http", "xn--bcher-kva.example", 80, b"xn--bcher-kva.example"),
        b"",
    ),
    ("http://h/a%2Fb//c;d", Origin("http", "h", 80, b"h"), b"/a%2Fb//c;d"),
    ("http://h/a/../b", Origin("http", "h", 80, b"h"), b"/a/../b"),
    ("http://a_b/", Origin("http", "a_b", 80, b"a_b"), b"/"),
    (
        "https://Secure.test.:8443",
        Origin("https", "secure.test.", 8443, b"secure.test.:8443"),
        b"",
    ),
    (
        "http://stra\u00dfe.example",
        Origin("http", "xn--strae-oqa.example", 80, b"xn--strae-oqa.example"),
        b"",
    ),
    (
        "http://[fe80::1%25eth0]:8080/a",
        Origin("http", "fe80::1", 8080, b"[fe80::1]:8080", "eth0"),
        b"/a",
    ),
    ("http://[fe80::1%eth0]", Origin("http", "fe80::1", 80, b"[fe80::1]", "eth0"), b""),
    ("http://127.1:81", Origin("http", "127.0.0.1", 81, b"127.0.0.1:81"), b""),
    ("unix:/run/x.sock", Origin("http", "localhost", 80, b"localhost", "", "/run/x.sock"), b""),
)

WRONG_TARGETS = (
    ("", "http://HOST"),
    ("h", "http://HOST"),
    ("h:80", "http://HOST"),
    ("//h/", "http://HOST"),
    ("ftp://h/", "http://HOST"),
    ("ws://h/", "http://HOST"),
    ("http://", "http://HOST"),
    ("http:///a", "http://HOST"),
    ("http://:80", "http://HOST"),
    ("http://u:p@h/", "--header"),
    ("http://u@h/", "--header"),
    ("http://@h/", "--header"),
    ("http://h/?a=b", "query"),
    ("http://h?", "query"),
    ("http://h/#a", "fragment"),
    ("http://h:0", "port"),
    ("http://h:65536", "URL"),
    ("http://h:x", "URL"),
    ("http://h:-1", "URL"),
    ("http://[::1", "URL"),
    ("http://*/", "no name or address"),
    ("http://a..b/", "no name or address"),
    ("http://h%41/", "no name or address"),
    ("http://[v1.a]/", "no name or address"),
    (" http://h/", "percent-encoded"),
    ("http://h/\u00e4", "percent-encoded"),
    ("http://h/a b", "percent-encoded"),
    ("http://h/..", "climb"),
    ("http://h/a/../..", "climb"),
    ("http://h/%2e%2e/", "climb"),
    ("http://h h/", "host"),
    ("http://h\\evil/", "host"),
    ("http://a..b/", "host"),
    ("http://" + "a" * 64 + "/", "host"),
    ('http://h"/', "host"),
    ("http://[fe80::1]/", "zone"),
    ("http://[fe80::1%25]/", "zone"),
    ("http://1.2.3.256/", "host"),
    ("http://unix:/run/x.sock", "--target unix:/run/x.sock"),
    ("unix:run/x.sock", "--target unix:/"),
    ("unix:/" + "a" * 107, "107"),
)

CLIMBING = (
    b"/..",
    b"/../",
    b"/../a",
    b"..",
    b"/a/../..",
    b"/a/b/../../../c",
    b"/./..",
    b"/a/./../..",
    b"//..",
    b"///../a",
    b"/a//../..",
    b"/%2e%2e",
    b"/%2E%2E/",
    b"/.%2e/",
    b"/%2e./",
    b"/%2e%2e%2f",
    b"/..%2f..%2Fsecret",
    b"/a%2f..%2f..",
    b"/%252e%252e/",
    b"/%25252e%25252e/",
    b"/..%252f",
    b"/%252e%252e%252f",
    b"/..\\",
    b"/..%5c",
    b"/a\\..\\..",
    b"/%5c..%5C..",
    b"/..%255c",
    b"/..;/",
    b"/..;x=y/a",
    b"/..%3b/",
    b"/%2e%2e;a/",
    b"/;/..",
    b"/;x/../a",
    b"/%2f..",
    b"/a%2f%2f../..",
)

NOT_CLIMBING = (
    b"",
    b"/",
    b"/a",
    b"/a/..",
    b"/a/../b",
    b"/a/b/../..",
    b"/...",
    b"/..a",
    b"/a..",
    b"/a..b/c",
    b"/.",
    b"/./a",
    b"/%2e",
    b"/a%2F..",
    b"/a/%2e%2e/b",
    b"/%",
    b"/%2",
    b"/%zz..",
    b"/a//b",
    b"/%25",
    b"/%2525252525",
    b"/caf%C3%A9",
    b"/a;b=../c",
)

MAPPED = (
    # prefix, base, from the client, to the upstream
    (b"", b"", b"/", b"/"),
    (b"", b"", b"/a?b", b"/a?b"),
    (b"", b"", b"/?", b"/?"),
    (b"", b"", b"//a//b", b"//a//b"),
    (b"", b"/", b"/a", b"/a"),
    (b"", b"/base", b"/a", b"/base/a"),
    (b"", b"/base/", b"/a", b"/base/a"),
    (b"", b"/base/", b"/", b"/base/"),
    (b"", b"/base", b"//a", b"/base//a"),
    (b"/defm", b"/base/", b"/defm/a?b", b"/base/a?b"),
    (b"/defm", b"/base/", b"/defm", b"/base/"),
    (b"/defm", b"/base", b"/defm", b"/base"),
    (b"/defm", b"/base", b"/defm/", b"/base/"),
    (b"/defm", b"/base", b"/defm?a", b"/base?a"),
    (b"/defm", b"/base", b"/defm?", b"/base?"),
    (b"/defm", b"", b"/defm", b"/"),
    (b"/defm", b"", b"/defm?a", b"/?a"),
    (b"/defm", b"", b"/defm/a", b"/a"),
    (b"/defm", b"/base/", b"/defm/a%2Fb", b"/base/a%2Fb"),
    (b"/defm", b"/base/", b"/defm/%25%2e;x?%2F?#", b"/base/%25%2e;x?%2F?#"),
    (b"/defm", b"/base/", b"/defm/a/../b", b"/base/a/../b"),
    (b"/defm", b"/base/", b"/defm/a?../../..", b"/base/a?../../.."),
    (b"/defm", b"/base/", b"/defm/?%2e%2e/", b"/base/?%2e%2e/"),
    (b"/defm", b"/base/", b"/defm//", b"/base//"),
    (b"/defm", b"/base/", b"/defm/caf\xc3\xa9", b"/base/caf\xc3\xa9"),
    (b"/a/b", b"/c/d", b"/a/b/e", b"/c/d/e"),
)

SEGMENTS = st.lists(
    st.sampled_from(
        [b"a", b"%2F", b"%25", b"//", b"/", b"..", b"%2e", b";", b"?", b"&", b"\xc3\xa9"]
    ),
    max_size=8,
).map(b"".join)


class TargetTests(SynchronousTestCase):
    """The URL of a target."""

    def test_parsed(self) -> None:
        """Scheme, host and port are normalised, the base path is kept.  RFC 9110 4.2."""
        for url, origin, base in TARGETS:
            self.assertEqual(Target(origin, base), parse_target(url), url)

    def test_wrong(self) -> None:
        """A URL that cannot be a target is told in a sentence that says what would be right."""
        for url, why in WRONG_TARGETS:
            self.assertIn(why, strict.complaint(parse_target, url), url)

    def test_control_characters(self) -> None:
        """Nothing is silently taken out of a URL: what stands in it is used or refused."""
        for url in ("http://h/a\tb", "http://h/a\nb", "http://h\r/"):
            self.assertNotEqual("", strict.complaint(parse_target, url))

    def test_no_error_repeats_credentials(self) -> None:
        """A password that was put into the URL does not come back in the error's text."""
        for url in (
            "http://u:sekret@h/",
            "http://sekret@h/",
            "http://u:sekret",
            "http://h/?key=sekret",
        ):
            self.assertNotIn("sekret", strict.complaint(parse_target, url), url)

    def test_url(self) -> None:
        """A target is shown as one URL, without the scheme's default port."""
        for url, shown in (
            ("http://H:80/base/", "http://h/base/"),
            ("https://[::1]:8443", "https://[::1]:8443"),
            ("http://h", "http://h"),
        ):
            self.assertEqual(shown, parse_target(url).url)

    def test_shown(self) -> None:
        """People are told of a Unix socket too, and of no zone that is another machine's."""
        for url, shown in (
            ("http://h:81/a", "http://h:81/a"),
            ("unix:/run/x.sock", "http://localhost at /run/x.sock"),
            ("http://[fe80::1%25eth0]", "http://[fe80::1] on eth0"),
        ):
            self.assertEqual(shown, parse_target(url).shown)

    def test_name(self) -> None:
        """Certificates and TLS have a name without its final dot.  RFC 6066 3."""
        for url, name in (
            ("https://secure.test.", "secure.test"),
            ("https://secure.test", "secure.test"),
            ("https://[::1]", "::1"),
        ):
            self.assertEqual(name, parse_target(url).origin.name)

    def test_websocket_url(self) -> None:
        """Of http comes ws, of https wss, with the same default port and no path.  RFC 6455 3."""
        for url, shown in (
            ("http://H:80/base/", "ws://h"),
            ("https://h:443", "wss://h"),
            ("http://h:443", "ws://h:443"),
            ("https://[::1]:8443/a", "wss://[::1]:8443"),
            ("https://127.0.0.1", "wss://127.0.0.1"),
            ("https://h.:81", "wss://h.:81"),
            ("http://[fe80::1%25eth0]:81", "ws://[fe80::1]:81"),
            ("unix:/run/x.sock", "ws://localhost"),
        ):
            self.assertEqual(shown, parse_target(url).origin.websocket_url)


class WorstReadingTests(SynchronousTestCase):
    """A path climbs when any upstream could read it so (FIELD 9)."""

    def test_climbing(self) -> None:
        """Encoded or turned slashes are no steps down that dots could use up."""
        for path in (
            rb"/a\b/../../admin",
            b"/x%2fy/%2e%2e/%2e%2e/admin",
            b"/x%5cy/../../z",
            b"/..;/x",
            b"/..%00/x",
            b"/%252e%252e/x",
            b"/x%252fy/%2e%2e/%2e%2e/z",
            b"/a/%2e%2e%2f%2e%2e/",
            b"//../x",
        ):
            self.assertTrue(climbs(path), path)

    def test_staying(self) -> None:
        """What stays below under every reading is served."""
        for path in (b"/a/../b", b"/a%2fb/../c", b"/...", b"/a..b/..c", b"/v1/a%2Fb", b"/a%5cb/.."):
            self.assertFalse(climbs(path), path)


class PrefixTests(SynchronousTestCase):
    """The path that the proxy serves."""

    def test_parsed(self) -> None:
        """A prefix is kept without the slash at its end."""
        for path, prefix in (
            ("/", b""),
            ("/a", b"/a"),
            ("/a/", b"/a"),
            ("/a/b%20c", b"/a/b%20c"),
            ("/a/../b", b"/a/../b"),
        ):
            self.assertEqual(prefix, parse_prefix(path), path)

    def test_wrong(self) -> None:
        """A prefix begins with a slash, is percent-encoded ASCII and does not climb."""
        for path, why in (
            ("", "begin with"),
            ("a", "begin with"),
            ("/a b", "percent-encoded"),
            ("/\u00e4", "percent-encoded"),
            ("/a?b", "query"),
            ("/a#b", "query"),
            ("/a\n", "percent-encoded"),
            ("/..", "climb"),
            ("/%2e%2e/a", "climb"),
        ):
            self.assertIn(why, strict.complaint(parse_prefix, path), path)


class AuthorityTests(SynchronousTestCase):
    """What can stand in Host."""

    def test_authority(self) -> None:
        """An authority is a host with or without a port; no user, no path.  RFC 9110 7.2."""
        for good in (
            b"h",
            b"h:80",
            b"h:",
            b"a.b-c_d~e",
            b"1.2.3.4:5",
            b"[::1]",
            b"[::1]:80",
            b"%C3%A4",
        ):
            self.assertTrue(is_authority(good), good)
        for bad in (
            b"",
            b":80",
            b"h:80:80",
            b"h:x",
            b"h:-1",
            b"h:123456",
            b"u@h",
            b"h/a",
            b"h?",
            b"h#",
            b"h\\a",
            b"a b",
            b"a, b",
            b"a\tb",
            b"h\n",
            b"[::1",
            b"::1",
            b"[::1]x",
            b"[]",
            b'"h"',
            b"<h>",
        ):
            self.assertFalse(is_authority(bad), bad)
            self.assertIsNone(split_authority(bad), bad)

    def test_split(self) -> None:
        """Its host keeps its brackets; a port that is not there or empty is the default one."""
        for octets, parts in (
            (b"h", (b"h", b"")),
            (b"h:", (b"h", b"")),
            (b"H.:080", (b"H.", b"080")),
            (b"[::1]:80", (b"[::1]", b"80")),
            (b"a,b", (b"a,b", b"")),
        ):
            self.assertEqual(parts, split_authority(octets), octets)


class AbsoluteFormTests(SynchronousTestCase):
    """Targets that are whole URLs."""

    def test_split(self) -> None:
        """Authority and what follows it are told apart, each octet kept.  RFC 9112 3.2.2."""
        for target, expected in (
            (b"http://h/a?b", (b"h", b"/a?b")),
            (b"HTTP://H:80", (b"H:80", b"")),
            (b"https://h?", (b"h", b"?")),
            (b"http://h//a%2F", (b"h", b"//a%2F")),
            (b"http://[::1]:80/", (b"[::1]:80", b"/")),
            (b"ws://h/x?y", (b"h", b"/x?y")),
            (b"WSS://h:443", (b"h:443", b"")),
            (b"/a", None),
            (b"//h/a", None),
            (b"*", None),
            (b"h:443", None),
            (b"mailto:a@b", None),
            (b"1http://h/", None),
        ):
            self.assertEqual(expected, split_absolute_form(target), target)

    def test_refused(self) -> None:
        """Only URLs of HTTP and WebSockets with a plain authority are served, and it says why.

        RFC 9110 4.2.4.
        """
        for target, reason in (
            (b"ftp://h/", "another scheme"),
            (b"file:///etc", "another scheme"),
            (b"wsx://h/", "another scheme"),
            (b"http:///a", "host and port"),
            (b"http://h:x/", "host and port"),
            (b"http://a b/", "host and port"),
            (b"http://u:p@h/", "userinfo"),
            (b"https://u@h", "userinfo"),
            (b"ws://@h/", "userinfo"),
        ):
            self.assertIn(reason, str(strict.refusal(split_absolute_form, target)), target)

    def test_no_error_repeats_the_url(self) -> None:
        """The text of a refusal does not quote the user information."""
        self.assertNotIn("sekret", str(strict.refusal(split_absolute_form, b"http://u:sekret@h/")))
        self.assertRaises(Malformed, split_absolute_form, b"ftp://h")


class ClimbingTests(SynchronousTestCase):
    """Paths that leave the path they are put under."""

    def test_climbing(self) -> None:
        """Dot segments count in every encoding that some upstream takes apart.

        RFC 3986 5.2.4, 6.2.2.3: they carry an injected key out of the path that it is for.
        """
        for path in CLIMBING:
            self.assertTrue(climbs(path), path)

    def test_not_climbing(self) -> None:
        """Dots in names, and steps up that were first taken down, are no climbing."""
        for path in NOT_CLIMBING:
            self.assertFalse(climbs(path), path)

    def test_hostile_path_is_linear(self) -> None:
        """No path makes the search slow."""
        for path in (b"/%2e" * (strict.CROWD // 4), b"/%25" * (strict.CROWD // 4), b"/a.." * 4096):
            self.assertLess(strict.cpu_seconds(climbs, path), strict.CPU_BUDGET)

    @given(SEGMENTS)
    def test_what_climbs_once_climbs_under_anything(self, path: bytes) -> None:
        """A path that lexically resolves above its root is always found.  RFC 3986 5.2.4."""
        depth, lowest = 0, 0
        for segment in path.split(b"/"):
            depth += -1 if segment == b".." else segment not in (b"", b".")
            lowest = min(lowest, depth)
        if lowest < 0 and b";" not in path:
            self.assertTrue(climbs(path))


class MappingTests(SynchronousTestCase):
    """From the prefix to the base path, and back."""

    def test_to_upstream(self) -> None:
        """The base takes the prefix's place; every octet after it stays.  RFC 9112 3.2.1."""
        for prefix, base, target, expected in MAPPED:
            mapping = PathMapping(prefix, base)
            self.assertTrue(mapping.covers(target), target)
            self.assertEqual(expected, mapping.to_upstream(target), (prefix, base, target))

    def test_covers(self) -> None:
        """A prefix ends at the border of a segment, and is compared octet by octet."""
        mapping = PathMapping(b"/defm", b"/base/")
        for target in (b"/defm", b"/defm/", b"/defm?x", b"/defm//a"):
            self.assertTrue(mapping.covers(target), target)
        for target in (
            b"/defmx",
            b"/def",
            b"/",
            b"//defm",
            b"/DEFM",
            b"/%64efm",
            b"/defm%2Fa",
            b"/defm;a",
        ):
            self.assertFalse(mapping.covers(target), target)

    def test_climbing_targets_are_refused(self) -> None:
        """A target whose decoded path leads above the base never reaches the upstream."""
        for prefix, base in ((b"", b"/base/"), (b"/defm", b"/base"), (b"", b"")):
            for path in CLIMBING:
                if not path.startswith(b"/"):
                    continue
                for query in (b"", b"?a"):
                    mapping = PathMapping(prefix, base)
                    self.assertRaises(TargetClimbs, mapping.to_upstream, prefix + path + query)

    def test_harmless_targets_pass(self) -> None:
        """What does not climb is mapped with every octet kept."""
        mapping = PathMapping(b"/defm", b"/base/")
        for path in NOT_CLIMBING[1:]:
            self.assertEqual(b"/base" + path, mapping.to_upstream(b"/defm" + path))

    def test_to_client(self) -> None:
        """A path of the upstream comes back under the prefix, or is not the proxy's.

        RFC 9110 10.2.2.
        """
        for prefix, base, path, expected in (
            (b"/defm", b"/base/", b"/base/a?b#c", b"/defm/a?b#c"),
            (b"/defm", b"/base/", b"/base/", b"/defm/"),
            (b"/defm", b"/base/", b"/base", b"/defm"),
            (b"/defm", b"/base", b"/base?x", b"/defm?x"),
            (b"/defm", b"/base", b"/base#x", b"/defm#x"),
            (b"/defm", b"/base/", b"/basement", None),
            (b"/defm", b"/base/", b"/", None),
            (b"/defm", b"/base/", b"/other", None),
            (b"/defm", b"", b"/a", b"/defm/a"),
            (b"/defm", b"/", b"/", b"/defm/"),
            (b"", b"/base/", b"/base", b"/"),
            (b"", b"/base/", b"/base?a", b"/?a"),
            (b"", b"/base/", b"/base/a", b"/a"),
            (b"", b"", b"/a%2F//", b"/a%2F//"),
        ):
            mapping = PathMapping(prefix, base)
            self.assertEqual(expected, mapping.to_client(path), (prefix, base, path))

    def test_path_above_the_base_stays(self) -> None:
        """A path whose dot segments lead out of the base is not the proxy's.  RFC 3986 5.2.4.

        The client would take the dots away before it sends the path, and leave the prefix.
        """
        self.assertIsNone(PathMapping(b"/defm", b"/base").to_client(b"/base/../other"))

    def test_cookie_path(self) -> None:
        """A cookie's path lies under the prefix as it lay under the base.  RFC 6265 5.1.4."""
        for prefix, base, path, expected in (
            (b"/defm", b"/base/", b"/base/a", b"/defm/a"),
            (b"/defm", b"/base/", b"/base", b"/defm"),
            (b"/defm", b"/base/", b"/base/", b"/defm/"),
            (b"/defm", b"/base/", b"/", b"/defm"),
            (b"/defm", b"/a/b", b"/a", b"/defm"),
            (b"/defm", b"/a/b", b"/a/", b"/defm"),
            (b"/defm", b"/base/", b"/ba", b"/ba"),
            (b"/defm", b"/base/", b"/other", b"/other"),
            (b"/defm", b"/base/", b"base", b"base"),
            (b"/defm", b"", b"/", b"/defm/"),
            (b"/defm", b"", b"/a", b"/defm/a"),
            (b"", b"/base", b"/", b"/"),
            (b"", b"/base", b"/base", b"/"),
            (b"", b"", b"/", b"/"),
            (b"", b"", b"/a", b"/a"),
        ):
            mapping = PathMapping(prefix, base)
            self.assertEqual(expected, mapping.cookie_path(path), (prefix, base, path))

    @given(
        st.sampled_from([b"", b"/defm", b"/a/b"]),
        st.sampled_from([b"", b"/", b"/base", b"/c/d/"]),
        SEGMENTS,
    )
    def test_round_trip(self, prefix: bytes, base: bytes, rest: bytes) -> None:
        """A target that passes ends in the octets after the prefix, and maps back to itself."""
        mapping = PathMapping(prefix, base)
        target = prefix + b"/" + rest
        try:
            mapped = mapping.to_upstream(target)
        except TargetClimbs:
            self.assertTrue(climbs((b"/" + rest).partition(b"?")[0]))
            return
        self.assertEqual(base.rstrip(b"/") + b"/" + rest, mapped)
        if b".." not in rest and b"%2e" not in rest:
            self.assertEqual(target, mapping.to_client(mapped))


class ReadingTests(SynchronousTestCase):
    """What upstreams may take a path for."""

    def test_readings(self) -> None:
        """Decoded up to three times; without what changes nothing for some."""
        for path, expected in (
            (b"/a/b", {b"/a/b"}),
            (b"/a//b/./c/", {b"/a/b/c/"}),
            (b"/a/../b", {b"/b"}),
            (b"/../..", {b"/"}),
            (b"/a;x/b", {b"/a/b"}),
            (b"/a\\b", {b"/a/b"}),
            (b"/%61", {b"/%61", b"/a"}),
            (b"/%2561", {b"/%2561", b"/%61", b"/a"}),
            (b"/x%2f..%2fa", {b"/x%2f..%2fa", b"/a"}),
            (b"/", {b"/"}),
            (b"/a/.", {b"/a/"}),
        ):
            self.assertEqual(expected, readings(path), path)
