"""Texts of JSON that mean the same have one form, and others have another."""

from __future__ import annotations

import json
from decimal import Decimal

import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.semantics.canonical_json import CANONICAL_BYTES, canonical
from tests.semantics import strict

WHOLE = 2**53 - 1
"""The largest number below which no two whole ones are the same double."""

NUMBERS = st.one_of(
    st.integers(-WHOLE, WHOLE),
    st.floats(allow_nan=False, allow_infinity=False).filter(
        lambda number: not number or 1e-200 < abs(number) < 1e200
    ),
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=8,
)
DIGITS = st.text("0123456789", min_size=1, max_size=24)


def reversed_members(value: object) -> object:
    """Return JSON with the members of its objects the other way around."""
    if isinstance(value, dict):
        return {name: reversed_members(value[name]) for name in reversed(value)}
    return [reversed_members(one) for one in value] if isinstance(value, list) else value


def text_of(value: object, ascii_only: bool = False) -> bytes:
    """Write JSON."""
    return json.dumps(value, ensure_ascii=ascii_only).encode("utf-8")


class SameTests(SynchronousTestCase):
    """What means the same has the same form.  RFC 8785."""

    def test_by_hand(self) -> None:
        """White space, the order of members, escapes and the ways to write a number."""
        for one, other in (
            (b'{"a":1,"b":[2]}', b' {\n"b" : [ 2 ],\t"a":1}\r\n'),
            (b'{"\\u0061":"\\u00e9\\/\\ud83d\\ude00"}', '{"a":"é/😀"}'.encode()),
            (b"[1,100,0.5,-1.5]", b"[1.0,1e2,5E-1,-15e-1]"),
            (b"[0]", b"[0e5]"),
            (b"9007199254740991", b"9007199254740991.0"),
            (b"1e16", b"1.0e+16"),
            (b"0.1", b"0.10000000000000000000"),
            (b"[-0, -0.0]", b"[0, 0]"),
        ):
            self.assertIsNotNone(canonical(one), one)
            self.assertEqual(canonical(one), canonical(other), (one, other))

    @given(JSON)
    def test_any(self, value: object) -> None:
        """However a value is written, its form is the same."""
        form = canonical(text_of(value))
        self.assertIsNotNone(form)
        indented = json.dumps(reversed_members(value), indent=1).encode()
        for text in (text_of(reversed_members(value)), text_of(value, ascii_only=True), indented):
            self.assertEqual(form, canonical(text))

    @given(JSON)
    def test_again(self, value: object) -> None:
        """A form is JSON, and its own form."""
        form = canonical(text_of(value)) or b""
        self.assertEqual(form, canonical(form))


class OtherTests(SynchronousTestCase):
    """What means something else has another form."""

    @given(JSON, JSON)
    @example(1, True)
    @example([0], [False])
    @example("1", 1)
    @example({"a": None}, {})
    @example(1.5, 1.5000000000000002)
    @example("\u00e9", "e\u0301")
    @example({"\ue000": 1, "\U00010000": 2}, {"\U00010000": 1, "\ue000": 2})
    def test_as_the_rfc(self, one: object, other: object) -> None:
        """Two forms are the same where those of RFC 8785 are."""
        same = rfc8785.dumps(one) == rfc8785.dumps(other)  # type: ignore[arg-type]
        self.assertEqual(same, canonical(text_of(one)) == canonical(text_of(other)))

    @given(DIGITS, DIGITS, st.sampled_from(["", ".", "e", "e-", ".0e"]))
    @example("1", "400", "e")
    @example("1", "400", "e-")
    @example("10000000000000000001", "10000000000000000002", ".")
    @example("1", "00000000000000000001", ".")
    @example("5", "324", "e-")
    @example("4", "324", "e-")
    @example("0", "999999999999999999999999", "e")
    def test_numbers(self, whole: str, rest: str, middle: str) -> None:
        """A number has a form only if that is the number, digit by digit."""
        text = str(int(whole)) + middle + rest if middle else str(int(whole))
        form = canonical(text.encode())
        if form is not None:
            self.assertEqual(Decimal(text), Decimal(form.decode()))

    def test_no_form(self) -> None:
        """What readers may take differently, or what is no JSON, has no form."""
        for content in (
            b'{"a":1,"a":2}',
            b'{"a":1,"\\u0061":2}',
            b'[{"b":{"a":1,"a":1}}]',
            b"10000000000000000001",
            b"10000000000000000002",
            b"9007199254740992",
            b"-9007199254740993",
            b"9007199254740993.0",
            b"10000000000000000001e0",
            b"0.1000000000000000055",
            b"1e400",
            b"-1e400",
            b"1e-400",
            b"4e-324",
            b"0e999999999999999999999999",
            b"9" * 5000,
            b"NaN",
            b"[Infinity]",
            b"-Infinity",
            b'"\\ud800"',
            b'{"\\udc00\\ud800":1}',
            b'"\xed\xa0\x80"',
            b'"\xed\xa0\xbd\xed\xb8\x80"',
            b'"\xff"',
            b'"\xc0\x80"',
            b"\xef\xbb\xbf{}",
            '{"a":1}'.encode("utf-16"),
            '{"a":1}'.encode("utf-16-be"),
            '{"a":1}'.encode("utf-32-le"),
            b'\0{"a":1}',
            b'"\n"',
            b"01",
            b"+1",
            b".5",
            b"[1,]",
            b"{'a':1}",
            b"{} {}",
            b"",
            b" ",
        ):
            self.assertIsNone(canonical(content), content)

    def test_deep(self) -> None:
        """Nesting that is too deep to be read has no form, and does no harm."""
        for begin, end in ((b"[", b"]"), (b'{"a":', b"}")):
            self.assertIsNone(canonical(begin * 9000 + b"1" + end * 9000))
            self.assertIsNone(canonical(begin * 9000))
            self.assertIsNotNone(canonical(begin * 50 + b"1" + end * 50))

    def test_large(self) -> None:
        """What is longer than the bound is not looked at."""
        text = b'"%b"' % (b"x" * (CANONICAL_BYTES - 2))
        self.assertEqual(text, canonical(text))
        self.assertIsNone(canonical(text + b" "))


class IgnoredTests(SynchronousTestCase):
    """Members that do not count.  RFC 6901."""

    def test_left_out(self) -> None:
        """Each is left out where it is, and others are not."""
        for pointer, content, form in (
            ("/user", b'{"user":"x","a":{"user":1}}', b'{"a":{"user":1}}'),
            ("/metadata/id", b'{"metadata":{"id":1,"b":2}}', b'{"metadata":{"b":2}}'),
            ("/m/1/id", b'{"m":[{"id":1},{"id":2,"a":3}]}', b'{"m":[{"id":1},{"a":3}]}'),
            ("/a~1b", b'{"a/b":1}', b"{}"),
            ("/m~0n", b'{"m~n":1}', b"{}"),
            ("/~01", b'{"~1":1,"/":2}', b'{"/":2}'),
            ("/", b'{"":1,"a":2}', b'{"a":2}'),
            ("/a", b'{"b":1}', b'{"b":1}'),
            ("/a/b/c", b'{"a":{"b":5}}', b'{"a":{"b":5}}'),
            ("/a/b/c", b'{"a":5}', b'{"a":5}'),
            ("/m/2/id", b'{"m":[{"id":1}]}', b'{"m":[{"id":1}]}'),
            ("/m/01/id", b'{"m":[1,{"id":1}]}', b'{"m":[1,{"id":1}]}'),
            ("/m/-/id", b'{"m":[{"id":1}]}', b'{"m":[{"id":1}]}'),
            ("/m/٠/id", b'{"m":[{"id":1}]}', b'{"m":[{"id":1}]}'),
            ("/0", b"[1]", b"[1]"),
            ("/a", b'"a"', b'"a"'),
        ):
            self.assertEqual(form, canonical(content, (pointer,)), pointer)

    def test_several(self) -> None:
        """All of them."""
        content = b'{"a":1,"b":{"c":2,"d":3}}'
        self.assertEqual(b'{"b":{"d":3}}', canonical(content, ["/a", "/b/c", "/z"]))

    def test_no_form(self) -> None:
        """A name twice is no form, though both are to be left out."""
        self.assertIsNone(canonical(b'{"user":1,"user":2}', ("/user",)))


class TimeTests(SynchronousTestCase):
    """How long it takes: the reactor waits for it."""

    def test_worst(self) -> None:
        """No content of the bound's length takes long, and none becomes much longer."""
        worst = (
            *(b"1", b"0.1", b"1e5", b"1e-5", b"0.0", b"0e0", b"-1", b"1e300", b"1e200", b"1e20"),
            *(b"{}", b"[]", b'{"":1}', b"[1]", b'""', b'"\\u0001"', b"0." + b"1" * 30, b"9" * 4300),
            *(b'"\\ud800"', b"[[[[[[[[]]]]]]]]", b"1" * 16, b"0.123456789012345678"),
        )
        for one in worst:
            count = (CANONICAL_BYTES - 2) // (len(one) + 1)
            content = b"[" + b",".join([one] * count) + b"]"
            form = canonical(content)
            self.assertLess(len(form or b""), 8 * CANONICAL_BYTES)
            self.assertLess(strict.cpu_seconds(canonical, content), strict.CPU_BUDGET, one)
        names = b",".join(b'"%x":1' % number for number in range(6500))
        self.assertLess(
            strict.cpu_seconds(canonical, b"{" + names + b"}"), strict.CPU_BUDGET, "names"
        )
