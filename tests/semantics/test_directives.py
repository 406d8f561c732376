"""Directives of Cache-Control and of targeted fields."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.semantics.directives import (
    MAX_SECONDS,
    NO_DIRECTIVES,
    Directives,
    read_directives,
    read_targeted,
)
from tests.semantics import strict
from tests.semantics.kit import CONTROLS

RESTRICTIONS = (b"no-cache", b"no-store", b"private")


class ReadingTests(SynchronousTestCase):
    """Cache-Control."""

    def test_forms(self) -> None:
        """Names have no case; arguments are tokens or quoted strings.  RFC 9111 5.2."""
        for lines, found in (
            ([], {}),
            ([b"", b" , "], {}),
            ([b"no-store"], {b"no-store": [None]}),
            ([b"No-Store,MAX-AGE=5"], {b"no-store": [None], b"max-age": [b"5"]}),
            ([b"max-age=5", b"max-age=6 , public"], {b"max-age": [b"5", b"6"], b"public": [None]}),
            ([b'max-age="5"'], {b"max-age": [b"5"]}),
            (
                [b'ext="a, no-store, \\"private", public'],
                {b"ext": [b'a, no-store, "private'], b"public": [None]},
            ),
            ([b'ext="max-age=3600", max-age=1'], {b"ext": [b"max-age=3600"], b"max-age": [b"1"]}),
            ([b'private="a, b"'], {b"private": [b"a, b"]}),
            ([b"ext=no-store"], {b"ext": [b"no-store"]}),
            ([b'community="UCI"'], {b"community": [b"UCI"]}),
            ([b"=5, \xe9, (x)"], {}),
        ):
            with self.subTest(lines=lines):
                self.assertEqual(found, read_directives(lines).found)

    def test_presence(self) -> None:
        """Directives are known by their names; none of them is nothing."""
        said = read_directives([b"Public, x=1"])
        self.assertIn(b"public", said)
        self.assertIn(b"x", said)
        self.assertNotIn(b"1", said)
        self.assertTrue(said)
        self.assertFalse(NO_DIRECTIVES)
        self.assertFalse(read_directives([b","]))

    def test_members_that_are_no_directives(self) -> None:
        """What forbids is found wherever it stands: behind semicolons, spaces, an open quote."""
        for value, words in (
            (b"private; max-age=60", {b"private", b"max-age"}),
            (b"max-age=60; private", {b"private", b"max-age"}),
            (b"no-store;", {b"no-store"}),
            (b"No-Store no-cache", {b"no-store", b"no-cache"}),
            (b'max-age=60, ext="open, private', {b"private", b"max-age", b"ext"}),
            (b'max-age="60, no-store', {b"no-store", b"max-age"}),
            (b'x="a"b, no-store"', {b"x", b"no-store"}),
            (b"'no-store' (private)", {b"private"}),
            (b"no-store =1", {b"no-store"}),
            (b"max-age =3600", {b"max-age"}),
            (b"must-revalidate;", {b"proxy-revalidate"}),
            (b"s-maxage = 60", {b"max-age"}),
        ):
            with self.subTest(value=value):
                self.assertEqual(words, set(read_directives([value]).found))

    def test_members_that_are_no_directives_allow_nothing(self) -> None:
        """What allows has to be said in order: to store, to share, to be fresh."""
        for value in (
            b"public;",
            b"x public",
            b"must-revalidate; a",
            b"s-maxage =60",
            b'a="public',
        ):
            with self.subTest(value=value):
                said = read_directives([value])
                for name in (b"public", b"must-revalidate", b"s-maxage", b"must-understand"):
                    self.assertNotIn(name, said)
                self.assertEqual(0, said.seconds(b"max-age") or 0)

    @given(st.lists(st.sampled_from(CONTROLS), max_size=6).map(b"".join))
    @example(b'max-age=60, a="\\", private')
    def test_nothing_that_forbids_is_lost(self, value: bytes) -> None:
        """Where a restriction stands outside of whole quoted strings, it counts."""
        bare = re.sub(rb'"(?:[^"\\]|\\.)*"', b'""', value, flags=re.DOTALL)
        said = read_directives([value])
        for name in RESTRICTIONS:
            if re.search(rb"(?<![-\w=.'])" + name + rb"(?![-\w=.'])", bare):
                self.assertIn(name, said, value)

    def test_hostile_lines_are_linear(self) -> None:
        """No line makes it slow."""
        for part in (b'"', b'a="', b"\\", b'="\\"', b",", b"a=b;", b"a=", b"private ", b"private,"):
            line = part * (strict.CROWD // len(part))
            taken = strict.cpu_seconds(read_directives, [line])
            self.assertLess(taken, strict.CPU_BUDGET, part)


class SecondsTests(SynchronousTestCase):
    """Lifetimes and the like."""

    def seconds(self, value: bytes) -> int | None:
        """Return the seconds of max-age in a line."""
        return read_directives([value]).seconds(b"max-age")

    def test_seconds(self) -> None:
        """Digits, in quotes or not; of several the least.  RFC 9111 1.2.2, 4.2.1, 5.2."""
        for value, seconds in (
            (b"public", None),
            (b"max-age=0", 0),
            (b"max-age=60", 60),
            (b'max-age="60"', 60),
            (b"max-age=003600", 3600),
            (b"max-age=60, max-age=5", 5),
            (b"max-age=5, Max-Age=60", 5),
            (b"max-age=60, max-age", 0),
        ):
            with self.subTest(value=value):
                self.assertEqual(seconds, self.seconds(value))

    def test_absurd_numbers(self) -> None:
        """What is longer than 2^31 is 2^31; zeros in front make nothing longer.  RFC 9111 1.2.2."""
        for digits, seconds in (
            (b"2147483647", MAX_SECONDS - 1),
            (b"2147483648", MAX_SECONDS),
            (b"2147483649", MAX_SECONDS),
            (b"9999999999", MAX_SECONDS),
            (b"9" * 10000, MAX_SECONDS),
            (b"0" * 10000, 0),
            (b"0" * 10000 + b"7", 7),
        ):
            with self.subTest(digits=digits[:20]):
                self.assertEqual(seconds, self.seconds(b"max-age=" + digits))

    def test_odd_arguments_are_stale(self) -> None:
        """What cannot be read makes a response rather stale than fresh.  RFC 9111 4.2.1."""
        for argument in (
            *(b"", b"=", b"=-1", b"=+60", b"=60.0", b"=6e9", b"=0x60", b"=1_000", b"= 60"),
            *(b"=60s", b"=a60", b"='60'", b'="60', b'=" 60"', b'=""', b"=60 60", b"=\xb2"),
            *(b"=\xd9\xa3", b"=60;x", b" =60", b" 60", b":60"),
        ):
            with self.subTest(argument=argument):
                self.assertFalse(self.seconds(b"max-age" + argument))

    @given(st.integers(0, 10**12), st.lists(st.sampled_from(CONTROLS), max_size=6).map(b"".join))
    def test_nothing_makes_it_longer(self, seconds: int, more: bytes) -> None:
        """Whatever else stands there, a lifetime grows no longer than it was."""
        said = read_directives([b"max-age=%d" % seconds, more])
        found = said.seconds(b"max-age")
        self.assertTrue(found is not None and 0 <= found <= min(seconds, MAX_SECONDS), more)


class FieldsTests(SynchronousTestCase):
    """``private`` and ``no-cache``, which may name fields."""

    def test_fields(self) -> None:
        """Without names, or with anything else than names, they mean all.  RFC 9111 5.2.2.4, .7."""
        for value, everything, names in (
            (b"public", False, ()),
            (b"private", True, ()),
            (b'private="set-cookie"', False, (b"set-cookie",)),
            (b'private="Set-Cookie , X-User,"', False, (b"set-cookie", b"x-user")),
            (b"private=Set-Cookie", True, ()),
            (b"private=1", True, ()),
            (b"private=true", True, ()),
            (b'private="a", private="b"', False, (b"a", b"b")),
            (b'private="a", private', True, (b"a",)),
            (b'private="a b"', True, ()),
            (b'private=""', True, ()),
            (b'private=","', True, ()),
            (b"private=", True, ()),
            (b'private="a", private;', True, (b"a",)),
            (b'private="set-cookie', True, ()),
            (b'private="set-cookie, max-age=60', True, ()),
            (b'private="a\\"b"', True, ()),
            (b'private="\\"a\\""', True, ()),
            (b"private='a b'", True, ()),
        ):
            with self.subTest(value=value):
                said = read_directives([value])
                self.assertEqual(everything, said.everything(b"private"))
                self.assertEqual(frozenset(names), said.fields(b"private"))


class TargetedTests(SynchronousTestCase):
    """A dictionary of structured fields."""

    def said(self, *lines: bytes) -> Directives:
        """Return what lines say."""
        said = read_targeted(lines)
        assert said is not None
        return said

    def test_values(self) -> None:
        """Each directive has a value of one type.  RFC 9213 2.1."""
        for value, found in (
            (b"max-age=60", {b"max-age": [b"60"]}),
            (b"no-store, max-age=60;x=1", {b"no-store": [None], b"max-age": [b"60"]}),
            (b"max-age=0, max-age=60", {b"max-age": [b"60"]}),
            (b"no-store=?1, private=?0", {b"no-store": [None]}),
            (b'private="set-cookie, a"', {b"private": [b"set-cookie, a"]}),
            (b"none", {b"none": [None]}),
        ):
            with self.subTest(value=value):
                self.assertEqual(found, self.said(value).found)
        self.assertEqual({b"a": [None], b"b": [b"2"]}, self.said(b"a", b"b=2").found)

    def test_wrong_types(self) -> None:
        """No other type is taken for seconds or names: it is stale, and all is private."""
        for value in (b"60.5", b'"60"', b"-1", b"?1", b"@60", b":NjA=:", b"(60)", b"a", b'%"60"'):
            with self.subTest(value=value):
                said = self.said(b"max-age=%b, private=%b" % (value, value))
                self.assertEqual(0, said.seconds(b"max-age"))
                self.assertTrue(said.everything(b"private"))

    def test_fields(self) -> None:
        """Names of fields stand in a string, and nowhere else.  RFC 9213 2.1."""
        said = self.said(b'private="set-cookie, X-User", no-cache=("a" "b")')
        self.assertFalse(said.everything(b"private"))
        self.assertEqual({b"set-cookie", b"x-user"}, said.fields(b"private"))
        self.assertTrue(said.everything(b"no-cache"))

    def test_ignored(self) -> None:
        """One that is empty or cannot be parsed is not there.  RFC 9213 2.1."""
        for value in (
            *(b"", b" ", b"Max-Age=60", b"max-age=60,", b"max-age=60 no-store", b"max-age = 60"),
            *(b'private="a', b"a=\xe9", b"max-age=9999999999999999", b"private=?0", b"a=(", b"(a)"),
            *(b"a=@99999999999999", b'a=%"%ff"', b"a=:?:", b"max-age=60, &&&"),
        ):
            with self.subTest(value=value):
                self.assertIsNone(read_targeted([value]))

    @given(
        st.lists(st.sampled_from(CONTROLS), max_size=8).map(b"".join)
        | st.lists(st.sampled_from([*b'a1-.=?@:(") ;,%\\*\xe9']), max_size=12).map(bytes)
    )
    def test_whatever_comes(self, value: bytes) -> None:
        """Whatever stands there, it is read or not there."""
        said = read_targeted([value])
        self.assertTrue(said is None or said)

    def test_hostile_lines_are_linear(self) -> None:
        """No line makes it slow."""
        for part in (b'a="', b"a,", b"a=(", b"a=1;", b"a=:a", b"a=(a;b ", b"a=1, "):
            line = part * (strict.CROWD // len(part))
            taken = strict.cpu_seconds(read_targeted, [line])
            self.assertLess(taken, strict.CPU_BUDGET, part)
