"""What a stored response is for a request."""

from __future__ import annotations

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.semantics.answering import Answer, answer
from pyproxy.semantics.fields import Field, Fields, values
from pyproxy.semantics.http_dates import write_date
from pyproxy.semantics.stored import StoredResponse
from pyproxy.semantics.wishes import wishes_of
from tests.semantics import strict
from tests.semantics.kit import NOW, kept, names_of

CHANGED = write_date(NOW - 3600)
STORED = attrs.evolve(
    kept(
        *((b"Cache-Control", b"max-age=60"), (b"ETag", b'"a"'), (b"Last-Modified", CHANGED)),
        *((b"Content-Length", b"10"), (b"Content-Type", b"text/plain"), (b"Vary", b"Accept")),
        *((b"Content-MD5", b"x"), (b"Content-Digest", b"x=:eA==:"), (b"X-A", b"1")),
        *((b"Content-Language", b"en"), (b"Content-Encoding", b"br")),
    ),
    length=10,
)
THEN = NOW + 7.5


def answer_to(
    *fields: Field, stored: StoredResponse = STORED, method: bytes = b"GET"
) -> Answer | None:
    """Return the answer to a request with some fields."""
    return answer(stored, method, wishes_of(fields, names_of(fields)), THEN)


def answered(*fields: Field, stored: StoredResponse = STORED, method: bytes = b"GET") -> Answer:
    """Return the answer, which is there."""
    said = answer_to(*fields, stored=stored, method=method)
    assert said is not None
    return said


class WholeTests(SynchronousTestCase):
    """The whole response.  RFC 9111 4."""

    def test_whole(self) -> None:
        """All of it, with its length and its age."""
        said = answered()
        self.assertEqual((200, b"Reason", (0, 10)), (said.status, said.reason, said.span))
        self.assertEqual([b"10"], values(said.fields, b"content-length"))
        self.assertEqual([b"7"], values(said.fields, b"age"))
        self.assertEqual(
            [field for field in STORED.fields if field[0] != b"Content-Length"], said.fields[:-2]
        )

    def test_head(self) -> None:
        """HEAD gets what GET would, without the content.  RFC 9110 9.3.2."""
        said = answered(method=b"HEAD")
        self.assertEqual(attrs.evolve(answered(), span=None), said)
        self.assertEqual(said, answered((b"Range", b"bytes=0-1"), method=b"HEAD"))

    def test_empty(self) -> None:
        """Content may be empty; some status codes have none.  RFC 9110 8.6, 15.3.5."""
        self.assertEqual((0, 0), answered(stored=attrs.evolve(STORED, length=0)).span)
        none = kept((b"Cache-Control", b"max-age=60"), status=204)
        said = answered(stored=none)
        self.assertEqual((204, None), (said.status, said.span))
        self.assertEqual([], values(said.fields, b"content-length"))
        self.assertEqual([b"7"], values(said.fields, b"age"))

    def test_only_the_upstream(self) -> None:
        """Some conditions are for the origin, and a length may not be known yet."""
        self.assertIsNone(answer_to((b"If-Match", b'"a"')))
        self.assertIsNone(answer_to((b"If-Unmodified-Since", CHANGED)))
        self.assertIsNone(answer_to(stored=attrs.evolve(STORED, length=None)))


class ConditionTests(SynchronousTestCase):
    """Whether a client has it already.  RFC 9111 4.3.2, RFC 9110 13.1."""

    def status(self, *fields: Field, stored: StoredResponse = STORED) -> int:
        """Return the status of the answer."""
        return answered(*fields, stored=stored).status

    def test_tags(self) -> None:
        """Any tag of the list, weakly compared, or any at all.  RFC 9110 13.1.2."""
        for value, status in (
            (b'"a"', 304),
            (b'W/"a"', 304),
            (b'"b", W/"a"', 304),
            (b"*", 304),
            (b'"b"', 200),
            (b'"A"', 200),
            (b"a", 200),
            (b"", 200),
            (b'"b, \\"a"', 200),
            (b'"*"', 200),
        ):
            with self.subTest(value=value):
                self.assertEqual(status, self.status((b"If-None-Match", value)))
        self.assertEqual(304, self.status((b"If-None-Match", b'"b"'), (b"If-None-Match", b'"a"')))
        bare = attrs.evolve(STORED, etag=None)
        self.assertEqual(200, self.status((b"If-None-Match", b'"a"'), stored=bare))

    def test_dates(self) -> None:
        """A date that is not before the last change, or the response.  RFC 9111 4.3.2."""
        bare = attrs.evolve(STORED, modified=None)
        odd = attrs.evolve(STORED, modified=b"yesterday")
        for value, stored, status in (
            (CHANGED, STORED, 304),
            (write_date(NOW), STORED, 304),
            (write_date(NOW - 3601), STORED, 200),
            (write_date(NOW), bare, 304),
            (write_date(NOW - 1), bare, 200),
            (CHANGED, odd, 200),
            (b"yesterday", odd, 200),
            (b"", STORED, 200),
            (b"0", STORED, 200),
            (CHANGED.replace(b"GMT", b"EST"), STORED, 200),
        ):
            with self.subTest(value=value):
                self.assertEqual(status, self.status((b"If-Modified-Since", value), stored=stored))
        twice = ((b"If-Modified-Since", CHANGED), (b"If-Modified-Since", write_date(NOW)))
        self.assertEqual(200, self.status(*twice))

    def test_tag_before_date(self) -> None:
        """Where there are tags, dates do not count.  RFC 9110 13.1.3."""
        since = (b"If-Modified-Since", write_date(NOW))
        self.assertEqual(200, self.status((b"If-None-Match", b'"b"'), since))

    def test_not_modified(self) -> None:
        """A 304 has no content, and says nothing of it.  RFC 9110 15.4.5."""
        said = answered((b"If-None-Match", b"*"), (b"Range", b"bytes=0-1"))
        self.assertEqual((304, b"Not Modified", None), (said.status, said.reason, said.span))
        names = set(names_of(said.fields))
        self.assertLessEqual({b"cache-control", b"date", b"etag", b"vary", b"age"}, names)
        self.assertTrue(names.isdisjoint((b"content-length", b"content-type", b"content-encoding")))

    def test_other_statuses(self) -> None:
        """Conditions are for responses of success.  RFC 9110 13.2.1."""
        for status, expected in ((203, 304), (404, 404), (301, 301), (500, 500)):
            with self.subTest(status=status):
                stored = attrs.evolve(STORED, status=status)
                self.assertEqual(expected, self.status((b"If-None-Match", b"*"), stored=stored))


class RangeTests(SynchronousTestCase):
    """A part of it.  RFC 9110 14."""

    def test_parts(self) -> None:
        """One range of octets.  RFC 9110 14.1.2."""
        for value, span in (
            (b"bytes=0-0", (0, 1)),
            (b"bytes=0-9", (0, 10)),
            (b"bytes=2-4", (2, 5)),
            (b"Bytes= 2-4 ,", (2, 5)),
            (b"bytes=5-", (5, 10)),
            (b"bytes=5-999999999999999999", (5, 10)),
            (b"bytes=-3", (7, 10)),
            (b"bytes=-999", (0, 10)),
            (b"bytes=000-001", (0, 2)),
        ):
            with self.subTest(value=value):
                said = answered((b"Range", value))
                start, end = span
                self.assertEqual((206, b"Partial Content"), (said.status, said.reason))
                self.assertEqual(span, said.span)
                place = b"bytes %d-%d/10" % (start, end - 1)
                self.assertEqual([place], values(said.fields, b"content-range"))
                self.assertEqual([b"%d" % (end - start)], values(said.fields, b"content-length"))

    def test_fields(self) -> None:
        """A part has the fields of the whole, but for those of its content.  RFC 9110 15.3.7."""
        said = answered((b"Range", b"bytes=0-1"))
        names = names_of(said.fields)
        for name in (b"etag", b"date", b"vary", b"cache-control", b"content-type", b"age", b"x-a"):
            self.assertEqual(1, names.count(name), name)
        for name in (b"content-md5", b"content-digest"):
            self.assertNotIn(name, names)

    def test_unsatisfiable(self) -> None:
        """What begins behind the end is 416.  RFC 9110 15.5.17."""
        empty = attrs.evolve(STORED, length=0)
        for value, stored, length in (
            (b"bytes=10-", STORED, 10),
            (b"bytes=10-20", STORED, 10),
            (b"bytes=999999999999999999-", STORED, 10),
            (b"bytes=-0", STORED, 10),
            (b"bytes=0-0", empty, 0),
            (b"bytes=-1", empty, 0),
        ):
            with self.subTest(value=value):
                said = answered((b"Range", value), stored=stored)
                self.assertEqual((416, None), (said.status, said.span))
                place = b"bytes */%d" % length
                self.assertEqual([place], values(said.fields, b"content-range"))
                self.assertEqual([b"0"], values(said.fields, b"content-length"))

    def test_ignored(self) -> None:
        """What is no range of octets is not there.  RFC 9110 14.2."""
        for value in (
            *(b"", b"bytes", b"bytes=", b"bytes=,", b"bytes=-", b"bytes=a-b", b"bytes=4-2"),
            *(b"bytes=1", b"bytes=--1", b"bytes=+1-2", b"bytes=1 - 2", b"bytes=0x1-0x2"),
            *(b"items=0-1", b"bytes =0-1", b"0-1", b"bytes=1-2-3", b"bytes=\xb2-"),
            *(b"bytes=0-" + b"9" * 19, b"bytes=" + b"9" * 9999 + b"-", b'bytes="0-1"'),
        ):
            with self.subTest(value=value[:20]):
                self.assertEqual(answered(), answered((b"Range", value)))

    def test_several(self) -> None:
        """Several ranges are for the upstream."""
        for lines in (
            [b"bytes=0-1,3-4"],
            [b"bytes=0-,0-,0-"],
            [b"bytes=0-1", b"bytes=3-4"],
            [b"bytes=0-1, x"],
        ):
            with self.subTest(lines=lines):
                self.assertIsNone(answer_to(*((b"Range", line) for line in lines)))

    def test_other_statuses(self) -> None:
        """Only what is the whole has parts.  RFC 9110 14.2."""
        for status in (203, 404, 301):
            with self.subTest(status=status):
                stored = attrs.evolve(STORED, status=status)
                said = answered((b"Range", b"bytes=0-1"), stored=stored)
                self.assertEqual((status, (0, 10)), (said.status, said.span))

    def test_if_range(self) -> None:
        """A part only of what the client has parts of, strongly compared.  RFC 9110 13.1.5."""
        weak = attrs.evolve(STORED, etag=b'W/"a"')
        bare = attrs.evolve(STORED, etag=None)
        fast = attrs.evolve(STORED, date=NOW - 3600 + 59)
        other = attrs.evolve(STORED, modified=b"then")
        for value, stored, status in (
            (b'"a"', STORED, 206),
            (b'"b"', STORED, 200),
            (b'"a"', bare, 200),
            (b'"a"', weak, 200),
            (b'W/"a"', weak, 200),
            (b'W/"a"', STORED, 200),
            (b'"a", "b"', STORED, 200),
            (b"*", STORED, 200),
            (b"a", STORED, 200),
            (b"", STORED, 200),
            (CHANGED, STORED, 206),
            (write_date(NOW), STORED, 200),
            (CHANGED, fast, 200),
            (b"then", other, 200),
        ):
            with self.subTest(value=value):
                said = answered((b"Range", b"bytes=0-1"), (b"If-Range", value), stored=stored)
                self.assertEqual(status, said.status)
        self.assertEqual(200, answered((b"If-Range", b'"a"')).status)

    @given(
        st.integers(0, 30),
        st.binary(max_size=6) | st.lists(st.sampled_from([*b"0129-, "]), max_size=9).map(bytes),
        st.sampled_from((b"GET", b"HEAD")),
        st.sampled_from(((), ((b"If-Range", b'"a"'),), ((b"If-None-Match", b'"b"'),))),
    )
    def test_whatever_comes(
        self, length: int, value: bytes, method: bytes, more: tuple[Field, ...]
    ) -> None:
        """A span lies within the content, and the length that is told is the span's."""
        stored = attrs.evolve(STORED, length=length)
        said = answer_to((b"Range", b"bytes=" + value), *more, stored=stored, method=method)
        if said is None:
            self.assertIn(b",", value)
            return
        told = values(said.fields, b"content-length")
        self.assertEqual(1, len(told))
        if said.span is None:
            self.assertTrue(method == b"HEAD" or said.status == 416)
            return
        start, end = said.span
        self.assertTrue(0 <= start <= end <= length)
        self.assertEqual(end - start, int(told[0]))
        self.assertEqual(said.status == 206, bool(values(said.fields, b"content-range")))
        if said.status == 206:
            self.assertLess(start, end)

    def test_hostile_values_are_linear(self) -> None:
        """No value makes it slow."""
        for part in (b"9", b"0-,", b"-", b",", b'"', b'"a",', b"W/"):
            value = part * (strict.CROWD // len(part))
            fields: Fields = [(b"Range", b"bytes=" + value), (b"If-None-Match", value)]
            taken = strict.cpu_seconds(answer_to, *fields)
            self.assertLess(taken, strict.CPU_BUDGET, part)
