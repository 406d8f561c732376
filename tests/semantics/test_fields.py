"""The syntax of field sections and of lists."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.errors import HeadTooLarge, Malformed
from pyproxy.semantics.fields import (
    MAX_FIELDS,
    Fields,
    essence,
    is_field_value,
    is_token,
    lacking,
    list_members,
    parse_section,
    tokens,
    values,
)
from tests.semantics import strict

KEPT: tuple[tuple[bytes, Fields], ...] = (
    (b"", []),
    (b"A: b\r\n", [(b"A", b"b")]),
    (b"A:b\r\n", [(b"A", b"b")]),
    (b"A: \t b \t\r\n", [(b"A", b"b")]),
    (b"A:b\t\r\n", [(b"A", b"b")]),
    (b"A:\r\n", [(b"A", b"")]),
    (b"A: \t \r\n", [(b"A", b"")]),
    (b"aCcEpT: x\r\n", [(b"aCcEpT", b"x")]),
    (b"A: 1\r\na: 2\r\nA: 1\r\n", [(b"A", b"1"), (b"a", b"2"), (b"A", b"1")]),
    (b"A: caf\xc3\xa9 \x80\xff\r\n", [(b"A", b"caf\xc3\xa9 \x80\xff")]),
    (b"A: b: c\r\n", [(b"A", b"b: c")]),
    (b"A: b  c\td\r\n", [(b"A", b"b  c\td")]),
    (b"!#$%&'*+-.^_`|~09azAZ: x\r\n", [(b"!#$%&'*+-.^_`|~09azAZ", b"x")]),
)

REFUSED = (
    (b"A: b\rc\r\n", "bare CR or LF"),
    (b"A: b\r\r\n", "bare CR or LF"),
    (b"A: b\nB: c\r\n", "bare CR or LF"),
    (b"A: b\n\r\n", "bare CR or LF"),
    (b"A: b\0c\r\n", "NUL"),
    (b"A\0: b\r\n", "NUL"),
    (b"A : b\r\n", "white space before the colon"),
    (b"A\t: b\r\n", "white space before the colon"),
    (b"A: b\r\n c\r\n", "folded or indented"),
    (b"A: b\r\n\tc: d\r\n", "folded or indented"),
    (b" A: b\r\n", "folded or indented"),
    (b": b\r\n", "no token"),
    (b"A b: c\r\n", "no token"),
    (b"A(: c\r\n", "no token"),
    (b"\xc3\xa9: c\r\n", "no token"),
    (b"A\x7f: c\r\n", "no token"),
    (b"A\r\n", "no colon"),
    (b"A: b\r\nnonsense\r\n", "no colon in field line 2"),
    (b"A: \x01\r\n", "control character"),
    (b"A: \x0b\r\n", "control character"),
    (b"A: \x1b[0m\r\n", "control character"),
    (b"A: \x7f\r\n", "control character"),
    (b"A: b\r\n\r\nB: c\r\n", "empty field line"),
)

near_sections = st.lists(
    st.sampled_from(
        [
            b"A",
            b"host",
            b":",
            b": x\r\n",
            b" ",
            b"\t",
            b"\r",
            b"\n",
            b"\r\n",
            b"\0",
            b"\x80",
            b",",
            b"\x7f",
            b"\x1f",
            b'"',
            b"(",
            b"a:\r\n",
        ]
    ),
    max_size=12,
).map(b"".join)


class SectionTests(SynchronousTestCase):
    """A field section is read strictly and changed in nothing."""

    def test_kept(self) -> None:
        """Order, case, duplicates and octets from 0x80 stay; only the white space around a value
        goes.  RFC 9110 5.2, 5.3, 5.5; RFC 9112 5.1.
        """
        for octets, fields in KEPT:
            self.assertEqual(fields, parse_section(octets), octets)

    def test_refused(self) -> None:
        """What two parsers could read differently is refused, and the text says which it was.

        RFC 9110 5.5 (CR, LF, NUL), RFC 9112 5.1 (space before the colon), 5.2 (obs-fold).
        """
        for octets, why in REFUSED:
            error = strict.refusal(parse_section, octets)
            self.assertIn(why, str(error), octets)

    def test_refusal_repeats_nothing(self) -> None:
        """The text of a refusal never quotes what the section holds: it may be a key."""
        for bad in (b"\0", b"\x01", b"\r", b"\n"):
            with self.assertRaises(Malformed) as caught:
                parse_section(b"X-Sekret-Name: sekret-value" + bad + b"\r\n")
            self.assertNotIn("sekret", str(caught.exception).lower())
        for line in (b"sekret", b"sekret : x", b" sekret: x", b"sek(ret: x"):
            with self.assertRaises(Malformed) as caught:
                parse_section(line + b"\r\n")
            self.assertNotIn("sek", str(caught.exception).lower())

    def test_controls_in_cookies(self) -> None:
        """A Cookie may hold controls other than NUL, CR and LF; no other field may.  RFC 9110 5.5.

        What was set so has to come back.
        """
        cookie = b"k=" + bytes({*range(1, 32), 127} - {10, 13}) + b";"
        for name in (b"Cookie", b"cookie", b"COOKIE"):
            octets = b"A: b\r\n" + name + b": " + cookie + b"\r\nC: d\r\n"
            expected = [(b"A", b"b"), (name, cookie), (b"C", b"d")]
            self.assertEqual(expected, parse_section(octets))
            self.assertEqual(expected, parse_section(b"line\r\n" + octets, 6))
        for refused in (
            *(b"Cookie: a" + octet + b"b\r\n" for octet in (b"\0", b"\r", b"\n")),
            b"Cookie : a\x01\r\n",
            b"Cookie\x01: a\r\n",
            b"Cookies: a\x01\r\n",
            b"Set-Cookie: a\x01\r\n",
            b"X: a\x01\r\nCookie: a\x01\r\n",
            b"Cookie: a\x01\r\n b\r\n",
            b"Cookie: a\x01",
        ):
            strict.refusal(parse_section, refused)

    def test_number_of_fields(self) -> None:
        """A section of MAX_FIELDS fields passes, one more is too large.  RFC 9110 5.4."""
        self.assertEqual(MAX_FIELDS, len(parse_section(b"A: b\r\n" * MAX_FIELDS)))
        with self.assertRaises(HeadTooLarge):
            parse_section(b"A: b\r\n" * (MAX_FIELDS + 1))

    @given(near_sections)
    @example(b"A: b\r\n\r\n")
    @example(b"A: b\r")
    def test_agrees_with_strict_parser(self, octets: bytes) -> None:
        """Exactly what RFC 9112 5 allows is accepted, and read as it says."""
        expected = strict.section(octets)
        if expected is None:
            self.assertRaises(Malformed, parse_section, octets)
        else:
            self.assertEqual(expected, parse_section(octets))

    def test_hostile_input_is_linear(self) -> None:
        """No section makes the parser slow."""
        for octets in (
            b"A: " + b" " * strict.CROWD + b"\x01\r\n",
            b"A" * strict.CROWD,
            b":" * strict.CROWD,
            b"A: b\r\n" * (strict.CROWD // 6) + b"\r\n",
        ):
            taken = strict.cpu_seconds(self.assertRaises, Malformed, parse_section, octets)
            self.assertLess(taken, strict.CPU_BUDGET)


class SyntaxTests(SynchronousTestCase):
    """Tokens and values."""

    def test_token(self) -> None:
        """A token is one or more tchar.  RFC 9110 5.6.2."""
        for octet in range(256):
            expected = strict.section(b"%c: x\r\n" % octet) is not None
            self.assertEqual(expected, is_token(b"%c" % octet), octet)
        for bad in (b"", b"a b", b"a\n", b"a:", b"\xc3\xa9"):
            self.assertFalse(is_token(bad), bad)

    def test_field_value(self) -> None:
        """A value holds visible octets, space, HTAB and obs-text.  RFC 9110 5.5."""
        for octet in range(256):
            self.assertEqual(strict.is_text(b"%c" % octet), is_field_value(b"a%cb" % octet), octet)
        self.assertTrue(is_field_value(b""))
        self.assertFalse(is_field_value(b"a\n"))


class ListTests(SynchronousTestCase):
    """List-based fields."""

    def test_values(self) -> None:
        """Every line of a name counts, in order, whatever its case.  RFC 9110 5.3."""
        fields = [(b"Via", b"1"), (b"A", b"x"), (b"vIA", b"2")]
        self.assertEqual([b"1", b"2"], values(fields, b"via"))
        self.assertEqual([], values(fields, b"host"))

    def test_members(self) -> None:
        """Commas part members unless they are quoted; empty members do not count.

        RFC 9110 5.6.1.2, 5.6.4.
        """
        for lines, members in (
            ([], []),
            ([b""], []),
            ([b" , ,,\t"], []),
            ([b"a"], [b"a"]),
            ([b"a, b ,\tc"], [b"a", b"b", b"c"]),
            ([b"a", b"b, c"], [b"a", b"b", b"c"]),
            ([b'a;x="1,2", b'], [b'a;x="1,2"', b"b"]),
            ([b'a;x="1\\",2", b'], [b'a;x="1\\",2"', b"b"]),
        ):
            self.assertEqual(members, list_members(lines), lines)

    def test_unterminated_quote(self) -> None:
        """A quote without an end hides nothing on another line.  RFC 9110 5.6.4."""
        for broken in (b'"', b'a, "b', b'"\\', b'"a\\"'):
            self.assertEqual(b"close", list_members([broken, b"close"])[-1], broken)

    def test_tokens(self) -> None:
        """Tokens of lists are compared without case.  RFC 9110 7.6.1."""
        self.assertEqual([b"close", b"x-y"], tokens([b"Close , X-y"]))

    def test_hostile_list_is_linear(self) -> None:
        """No list makes the parser slow, however its quotes stand: it is read on every request."""
        for value in (
            b'"' + b'\\"' * (strict.CROWD // 2),
            b'"' * (strict.CROWD - 1),
            b'",' * (strict.CROWD // 2),
            b"," * strict.CROWD,
            b'"a' * (strict.CROWD // 2 + 1),
            b"\\" * strict.CROWD,
        ):
            taken = strict.cpu_seconds(list_members, [value])
            self.assertLess(taken, strict.CPU_BUDGET, value[:8])


class ChoosingTests(SynchronousTestCase):
    """What is asked of fields and of media types."""

    def test_lacking(self) -> None:
        """Every field of some names is left out, in whatever case; the others keep their order."""
        fields = [(b"A", b"1"), (b"b", b"2"), (b"a", b"3"), (b"C", b"4")]
        self.assertEqual([(b"b", b"2"), (b"C", b"4")], lacking(fields, {b"a"}))
        self.assertEqual([], lacking(fields, (b"a", b"b", b"c")))

    def test_essence(self) -> None:
        """Parameters, white space and case are no part of it.  Spec: RFC 9110 8.3.1."""
        for media_type in (
            b"text/event-stream",
            b" Text/Event-Stream ;charset=x;y",
            b"text/event-stream;",
        ):
            self.assertEqual(b"text/event-stream", essence(media_type))
        self.assertEqual(b"", essence(b""))
