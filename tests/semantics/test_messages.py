"""Heads of messages."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.errors import HeadTooLarge, Malformed, TargetTooLong, UnknownVersion
from pyproxy.semantics.fields import Fields
from pyproxy.semantics.messages import (
    FIRST_PIECE_BYTES,
    MAX_EMPTY_BYTES,
    MAX_HEAD_BYTES,
    MAX_METHOD_BYTES,
    MAX_TARGET_BYTES,
    NOTED,
    HeadReader,
    RequestHead,
    ResponseHead,
    noted_values,
    parse_request_head,
    parse_response_head,
    split_head,
    write_head,
)
from tests.semantics import strict
from tests.semantics.test_fields import near_sections

REQUEST_LINES = (
    (b"GET / HTTP/1.1", (b"GET", b"/", 1)),
    (b"GET / HTTP/1.0", (b"GET", b"/", 0)),
    (b"get /a HTTP/1.1", (b"get", b"/a", 1)),
    (b"M-SEARCH * HTTP/1.1", (b"M-SEARCH", b"*", 1)),
    (b"!#$%&'*+-.^_`|~ /a HTTP/1.1", (b"!#$%&'*+-.^_`|~", b"/a", 1)),
    (b"GET /a%2Fb//c;d?e?f=%25& HTTP/1.1", (b"GET", b"/a%2Fb//c;d?e?f=%25&", 1)),
    (b"GET /? HTTP/1.1", (b"GET", b"/?", 1)),
    (b"GET /caf\xc3\xa9 HTTP/1.1", (b"GET", b"/caf\xc3\xa9", 1)),
    (b'GET /"<>\\^`{|} HTTP/1.1', (b"GET", b'/"<>\\^`{|}', 1)),
    (b"GET http://h/a HTTP/1.1", (b"GET", b"http://h/a", 1)),
    (b"CONNECT h:443 HTTP/1.1", (b"CONNECT", b"h:443", 1)),
)

REFUSED_REQUEST_LINES = (
    b"",
    b"GET",
    b"GET /",
    b"GET / ",
    b"GET  / HTTP/1.1",
    b"GET /  HTTP/1.1",
    b"GET / HTTP/1.1 ",
    b" GET / HTTP/1.1",
    b"GET\t/ HTTP/1.1",
    b"GET /\tHTTP/1.1",
    b"GET /a\tb HTTP/1.1",
    b"GET /a b HTTP/1.1",
    b"GET /a#b HTTP/1.1",
    b"GET # HTTP/1.1",
    b"GET /\0 HTTP/1.1",
    b"GET /\x7f HTTP/1.1",
    b"GET /\r HTTP/1.1",
    b"GET /\n HTTP/1.1",
    b"GET / HTTP/1.1\n",
    b"GET / HTTP/1.1\r",
    b"G\xc3\xa9T / HTTP/1.1",
    b"GET: / HTTP/1.1",
    b"(GET) / HTTP/1.1",
    b"GET / http/1.1",
    b"GET / Http/1.1",
    b"GET / HTTP/1",
    b"GET / HTTP/1.",
    b"GET / HTTP/1.10",
    b"GET / HTTP/01.1",
    b"GET / HTTP/+1.1",
    b"GET / HTTP/1,1",
    b"GET / HTTPS/1.1",
    b"GET / ICY/1.1",
    b"HTTP/1.1 200 OK",
)

STATUS_LINES = (
    (b"HTTP/1.1 200 OK", (200, b"OK", 1)),
    (b"HTTP/1.0 404 Not Found", (404, b"Not Found", 0)),
    (b"HTTP/1.1 200 ", (200, b"", 1)),
    (b"HTTP/1.1 200", (200, b"", 1)),
    (b"HTTP/1.1 599 caf\xc3\xa9\t!", (599, b"caf\xc3\xa9\t!", 1)),
    (b"HTTP/1.1 100 Continue", (100, b"Continue", 1)),
)

REFUSED_STATUS_LINES = (
    b"",
    b"HTTP/1.1",
    b"HTTP/1.1 ",
    b"HTTP/1.1  200 OK",
    b"HTTP/1.1 20 OK",
    b"HTTP/1.1 2000 OK",
    b"HTTP/1.1 099 OK",
    b"HTTP/1.1 +20 OK",
    b"HTTP/1.1 2OO OK",
    b"HTTP/1.1 200\tOK",
    b"HTTP/1.1 200 O\0K",
    b"HTTP/1.1 200 O\rK",
    b"HTTP/1.1 200 O\nK",
    b"HTTP/1.1 200 OK\n",
    b"HTTP/1.1 200 \x7f",
    b"HTTP/2.0 200 OK",
    b"HTTP/1.2 200 OK",
    b"http/1.1 200 OK",
    b"ICY 200 OK",
    b" HTTP/1.1 200 OK",
)


def request_facts(head: RequestHead) -> tuple[bytes, bytes, int, Fields]:
    """Return what a request's head says."""
    return head.method, head.target, head.minor_version, head.fields


def response_facts(head: ResponseHead) -> tuple[int, bytes, int, Fields]:
    """Return what a response's head says."""
    return head.status, head.reason, head.minor_version, head.fields


class RequestHeadTests(SynchronousTestCase):
    """The head of a request."""

    def test_kept(self) -> None:
        """Method and target are kept as they came.  RFC 9112 3.1, 3.2; RFC 9110 9.1."""
        for line, expected in REQUEST_LINES:
            head = parse_request_head(line + b"\r\nHost: h\r\n")
            self.assertEqual((*expected, [(b"Host", b"h")]), request_facts(head), line)

    def test_refused(self) -> None:
        """Only ``method SP target SP HTTP/1.x`` is a request line, with single spaces.

        RFC 9112 3: a lenient reading is an option that ends in smuggling, so it is not taken.
        """
        for line in REFUSED_REQUEST_LINES:
            error = strict.refusal(parse_request_head, line + b"\r\nHost: h\r\n")
            self.assertIs(Malformed, type(error), line)

    def test_other_versions(self) -> None:
        """A well-formed version that is not spoken is told apart, for a 505.  RFC 9110 15.6.6."""
        for version in (b"HTTP/1.2", b"HTTP/1.9", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/3.0"):
            octets = b"GET / " + version + b"\r\n"
            self.assertRaises(UnknownVersion, parse_request_head, octets)
        self.assertRaises(UnknownVersion, parse_request_head, b"PRI * HTTP/2.0\r\n")

    def test_other_version_of_a_bad_line(self) -> None:
        """A request line that is wrong in more than its version is malformed."""
        for line in (b"GET  / HTTP/2.0", b"GET / x HTTP/2.0", b"GET / HTTP/2"):
            error = strict.refusal(parse_request_head, line + b"\r\n")
            self.assertIs(Malformed, type(error), line)

    def test_length_of_target(self) -> None:
        """A target of MAX_TARGET_BYTES passes, a longer one is for a 414.  RFC 9112 3."""
        target = b"/" + b"a" * (MAX_TARGET_BYTES - 1)
        self.assertEqual(target, parse_request_head(b"GET %b HTTP/1.1\r\n" % target).target)
        with self.assertRaises(TargetTooLong):
            parse_request_head(b"GET %ba HTTP/1.1\r\n" % target)

    def test_length_of_method(self) -> None:
        """A method of MAX_METHOD_BYTES passes, a longer one is refused.  RFC 9112 3."""
        method = b"M" * MAX_METHOD_BYTES
        self.assertEqual(method, parse_request_head(method + b" / HTTP/1.1\r\n").method)
        strict.refusal(parse_request_head, method + b"M / HTTP/1.1\r\n")

    def test_no_text_repeats_the_line(self) -> None:
        """The text of a refusal never quotes the target: keys stand in queries."""
        for line in (b"GET /?key=sekret x HTTP/1.1", b"GET /?key=sekret HTTP/2.0"):
            with self.assertRaises(Malformed) as caught:
                parse_request_head(line + b"\r\n")
            self.assertNotIn("sekret", str(caught.exception))

    @given(
        st.lists(
            st.sampled_from(
                [
                    b"GET",
                    b"p",
                    b" ",
                    b"\t",
                    b"/",
                    b"*",
                    b"#",
                    b"\x80",
                    b"HTTP/1.1",
                    b"HTTP/1.0",
                    b"HTTP/2.0",
                    b"\r",
                    b"\n",
                    b"\0",
                ]
            ),
            max_size=8,
        ).map(b"".join)
        | st.just(b"GET / HTTP/1.1"),
        near_sections,
    )
    def test_agrees_with_strict_parser(self, line: bytes, section: bytes) -> None:
        """Exactly the heads that RFC 9112 allows are accepted, and read as it says."""
        octets = line + b"\r\n" + section
        expected = strict.request_head(octets)
        if expected is None:
            self.assertRaises(Malformed, parse_request_head, octets)
        else:
            self.assertEqual(expected, request_facts(parse_request_head(octets)))

    def test_round_trip(self) -> None:
        """A head that is written again has the octets that it came with.  RFC 9112 2.1."""
        octets = b"POST /a?%2F HTTP/1.1\r\nHOST: h\r\nx: 1\r\nX: \xff\r\nE: \r\n"
        head = parse_request_head(octets)
        line = b"%b %b HTTP/1.%d" % (head.method, head.target, head.minor_version)
        self.assertEqual(octets + b"\r\n", write_head(line, head.fields))
        self.assertEqual(b"GET / HTTP/1.1\r\n\r\n", write_head(b"GET / HTTP/1.1", []))


class ResponseHeadTests(SynchronousTestCase):
    """The head of a response."""

    def test_kept(self) -> None:
        """Status and reason phrase are kept; the phrase may be missing.  RFC 9112 4."""
        for line, expected in STATUS_LINES:
            head = parse_response_head(line + b"\r\nA: b\r\n")
            self.assertEqual((*expected, [(b"A", b"b")]), response_facts(head), line)

    def test_refused(self) -> None:
        """Any other first line is no status line.  RFC 9112 4."""
        for line in REFUSED_STATUS_LINES:
            strict.refusal(parse_response_head, line + b"\r\n")

    @given(
        st.lists(
            st.sampled_from(
                [
                    b"HTTP/1.1",
                    b"HTTP/1.0",
                    b" ",
                    b"200",
                    b"2",
                    b"OK",
                    b"\t",
                    b"\r",
                    b"\n",
                    b"\xff",
                    b"\0",
                ]
            ),
            max_size=6,
        ).map(b"".join)
        | st.just(b"HTTP/1.1 200 OK"),
        near_sections,
    )
    def test_agrees_with_strict_parser(self, line: bytes, section: bytes) -> None:
        """Exactly the heads that RFC 9112 allows are accepted, and read as it says."""
        octets = line + b"\r\n" + section
        expected = strict.response_head(octets)
        if expected is None:
            self.assertRaises(Malformed, parse_response_head, octets)
        else:
            self.assertEqual(expected, response_facts(parse_response_head(octets)))


CROWDED = b"Host: h\r\nX: 1\r\nVIA: a\r\nx: 2\r\nvia: b\r\nHOST: \r\nVia: a\r\n"


class NotedTests(SynchronousTestCase):
    """Names are looked at once for each head; the rules ask what was found."""

    heads: tuple[RequestHead | ResponseHead, ...] = (
        parse_request_head(b"GET / HTTP/1.1\r\n" + CROWDED),
        parse_response_head(b"HTTP/1.1 200 OK\r\n" + CROWDED),
    )

    def test_names(self) -> None:
        """They are in lower case, one for each field, in the fields' order.  RFC 9110 5.1."""
        for head in self.heads:
            self.assertEqual([b"host", b"x", b"via", b"x", b"via", b"host", b"via"], head.names)
            self.assertEqual([name.lower() for name, _ in head.fields], head.names)
            self.assertEqual(b"VIA", head.fields[2][0])

    def test_noted(self) -> None:
        """Of the names that rules ask about, those that are there, in whatever case."""
        for head in self.heads:
            self.assertEqual({b"host", b"via"}, head.noted)
        for name in NOTED:
            self.assertEqual({name}, ResponseHead(200, b"", 1, [(name.upper(), b"")]).noted)
        self.assertEqual(set(), RequestHead(b"GET", b"/", 1, []).noted)

    def test_noted_values(self) -> None:
        """Every field of the name counts, in order, an empty one and a repeated one too."""
        for head in self.heads:
            self.assertEqual([b"h", b""], noted_values(head, b"host"))
            self.assertEqual([b"a", b"b", b"a"], noted_values(head, b"via"))
            self.assertEqual([], noted_values(head, b"te"))

    @given(st.lists(st.tuples(st.sampled_from([b"Via", b"vIA", b"Te", b"X"]), st.binary())))
    def test_agrees_with_a_search(self, fields: Fields) -> None:
        """What was found is what a search through all fields finds."""
        head = RequestHead(b"GET", b"/", 1, fields)
        for name in (b"via", b"te"):
            self.assertEqual(
                [value for each, value in fields if each.lower() == name],
                noted_values(head, name),
            )


class SplitHeadTests(SynchronousTestCase):
    """A large read is parted where its head ends; only the head is copied."""

    HEAD = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"

    def test_head_and_content(self) -> None:
        """The head comes with its empty line as octets, the rest as a view of the same place."""
        place = bytearray(self.HEAD + b"c" * FIRST_PIECE_BYTES)
        head, rest = split_head(memoryview(place))
        assert rest is not None
        self.assertEqual((bytes, self.HEAD), (type(head), head))
        self.assertEqual(b"c" * FIRST_PIECE_BYTES, rest)
        self.assertIs(place, rest.obj)

    def test_first_empty_line(self) -> None:
        """It is the first empty line that counts: content may have some too."""
        content = b"\r\n\r\n" * FIRST_PIECE_BYTES
        head, rest = split_head(memoryview(self.HEAD + content))
        self.assertEqual((self.HEAD, content), (head, rest))

    def test_small(self) -> None:
        """A small read is copied whole: that is cheaper than to part it."""
        octets = self.HEAD + b"c" * (FIRST_PIECE_BYTES - len(self.HEAD))
        self.assertEqual((octets, None), split_head(memoryview(octets)))
        octets += b"c"
        self.assertEqual((self.HEAD, octets[len(self.HEAD) :]), split_head(memoryview(octets)))

    def test_end_of_a_long_head(self) -> None:
        """A head that does not end among the first octets is left to the reader of heads."""
        for length, found in ((FIRST_PIECE_BYTES, True), (FIRST_PIECE_BYTES + 1, False)):
            long = self.HEAD[:-4] + b"h" * (length - len(self.HEAD)) + b"\r\n\r\n"
            octets = long + b"content"
            expected = (long, b"content") if found else (octets, None)
            self.assertEqual(expected, split_head(memoryview(octets)), length)

    def test_nothing_is_lost(self) -> None:
        """Whatever the read begins with, the parts are the whole, in their order."""
        many = b"c" * 2 * FIRST_PIECE_BYTES
        for octets in (
            b"",
            b"\r\n" + self.HEAD + many,
            b"\r\n\r\n" + self.HEAD + many,
            b"\n\r\n" + self.HEAD + many,
            many,
        ):
            head, rest = split_head(memoryview(octets))
            self.assertEqual(octets, head + (rest or b""))


Found = tuple[bytes, bytes]


def read_parts(parts: list[bytes], prefix: bytes = b"") -> Found | str:
    """Return (head, what follows), or what else came of feeding parts to a reader."""
    reader = HeadReader(prefix)
    for number, part in enumerate(parts):
        try:
            found = reader.feed(part)
        except Malformed:
            return "refused"
        if found is not None:
            return found[0], found[1] + b"".join(parts[number + 1 :])
    return "not yet"


class HeadReaderTests(SynchronousTestCase):
    """A head is collected octet by octet, bounded, and given up as soon as it is hopeless."""

    def test_whole_head(self) -> None:
        """The head ends at its empty line; what follows is given back.  RFC 9112 2.1."""
        self.assertEqual(
            (b"GET / HTTP/1.1\r\nHost: h\r\n", b"rest"),
            HeadReader().feed(b"GET / HTTP/1.1\r\nHost: h\r\n\r\nrest"),
        )

    def test_empty(self) -> None:
        """The reader knows whether a head has begun; empty lines are none.  RFC 9112 2.2."""
        reader = HeadReader()
        self.assertTrue(reader.empty)
        for part in (b"\r\n", b"\r", b"\n", b"\r\n\r"):
            reader.feed(part)
            self.assertEqual((True, 0), (reader.empty, reader.kept))
        reader.feed(b"\nG")
        self.assertEqual((False, 1), (reader.empty, reader.kept))
        self.assertEqual((b"GET / HTTP/1.1\r\n", b""), reader.feed(b"ET / HTTP/1.1\r\n\r\n"))
        self.assertTrue(reader.empty)

    def test_given_up(self) -> None:
        """Who gives a head up gets its octets, and the reader begins anew."""
        reader = HeadReader(b"HTTP/1.")
        self.assertIsNone(reader.feed(b"HTTP/1.1 2"))
        self.assertRaises(Malformed, reader.feed, b"00 OK\n")
        self.assertEqual(b"HTTP/1.1 2", reader.give_up())
        self.assertTrue(reader.empty)

    def test_empty_lines_before(self) -> None:
        """Empty lines before a request line are skipped, of CRLF or of LF alone.  RFC 9112 2.2."""
        line = b"GET / HTTP/1.1\r\n"
        for before in (b"\r\n", b"\n", b"\r\n\r\n\r\n", b"\n\n", b"\n\r\n", b"\r\n\n\n\r\n"):
            octets = before + line + b"\r\n" + b"x"
            self.assertEqual((line, b"x"), read_parts([octets]))
            for parts in strict.splits(octets):
                self.assertEqual((line, b"x"), read_parts(parts), parts)

    def test_empty_lines_are_bounded(self) -> None:
        """Nobody sends them for ever, at once or one by one; each request has the bound anew."""
        for line in (b"\r\n", b"\n"):
            most = MAX_EMPTY_BYTES // len(line)
            for parts in ([line * most], [line] * most):
                reader = HeadReader()
                for _ in range(2):
                    for part in parts:
                        self.assertIsNone(reader.feed(part))
                        self.assertTrue(reader.empty)
                    self.assertIsNotNone(reader.feed(b"GET / HTTP/1.1\r\n\r\n"))
                for part in parts:
                    reader.feed(part)
                strict.refusal(reader.feed, line)
            strict.refusal(HeadReader().feed, line * (most + 1) + b"GET / HTTP/1.1\r\n\r\n")

    def test_many_empty_lines_are_linear(self) -> None:
        """Empty lines cost no more than their octets, however many come at once."""
        taken = strict.cpu_seconds(HeadReader().feed, b"\r\n" * (MAX_EMPTY_BYTES // 2))
        self.assertLess(taken, strict.CPU_BUDGET)

    def test_hopeless_at_once(self) -> None:
        """A bare CR, a bare LF or a NUL is refused as soon as it is seen.  RFC 9112 2.2, 5.5."""
        for octets in (
            b"GET / HTTP/1.1\n",
            b"GET /\rx",
            b"\rx",
            b"\r\r\n",
            b"GET /\0",
            b"GET / HTTP/1.1\r\nb\n",
            b"GET / HTTP/1.1\r\nb: \rc",
            b"GET / HTTP/1.1\r\nb: \0",
        ):
            for parts in strict.splits(octets):
                self.assertEqual("refused", read_parts(parts), parts)

    def test_no_request_line_at_once(self) -> None:
        """What is no request line is refused at its end: nobody waits for a head behind it.

        A client of HTTP/0.9 sends no more than its line.
        """
        for octets in (b"GET /\r\n", b"nonsense\r\n", b"GET /#a HTTP/1.1\r\n"):
            for parts in strict.splits(octets):
                self.assertEqual("refused", read_parts(parts), parts)

    def test_reason_of_a_stray_octet(self) -> None:
        """What is no HTTP at all is called by its name, whether its first line ends or not."""
        for octets, word in (
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "TLS"),
            (b"\r\n\r\n\0\r\nQUIT\n\x21\x11", "PROXY"),
            (b"GET / HTTP/1.1\nHost: h\n\n", "bare CR or LF in the request line"),
            (b"GET / HTTP/1.1\r\nHost: h\n\n", "bare LF in a head"),
            (b"GET / HTTP/1.1\r\nHost: h\rX: y", "bare CR in a head"),
            (b"GET / HTTP/1.1\r\nHost: h\0", "NUL in a head"),
            (b"\x05\x01\x00", "NUL in the request line"),
        ):
            for parts in strict.splits(octets):
                reader = HeadReader()
                with self.assertRaises(Malformed) as caught:
                    for part in parts:
                        reader.feed(part)
                self.assertIn(word, str(caught.exception), parts)

    def test_prefix(self) -> None:
        """What cannot become a response is refused at its first wrong octet."""
        self.assertEqual("refused", read_parts([b"I"], b"HTTP/"))
        self.assertEqual("refused", read_parts([b"HTTQ"], b"HTTP/"))
        self.assertEqual("not yet", read_parts([b"HTT"], b"HTTP/"))
        self.assertEqual("not yet", read_parts([b"H", b"TTP/1.1 2"], b"HTTP/"))

    def test_bound_of_head(self) -> None:
        """A head of MAX_HEAD_BYTES passes in any packets, a longer one is too large.

        RFC 9110 5.4.
        """
        start = b"GET / HTTP/1.1\r\nA: "
        fitting = start + b"a" * (MAX_HEAD_BYTES - len(start) - 4) + b"\r\n\r\n"
        for cut in (1, 2, 3, 4, 5, MAX_HEAD_BYTES // 2):
            found = read_parts([fitting[:-cut], fitting[-cut:]])
            self.assertEqual((fitting[:-2], b""), found)
        long = fitting.replace(b"A: ", b"A: aaaa")
        self.assertRaises(HeadTooLarge, HeadReader().feed, long)
        self.assertRaises(HeadTooLarge, HeadReader().feed, long[:-3])

    def test_bound_of_target(self) -> None:
        """A start line without an end is given up past the bound of a target.  RFC 9112 3."""
        self.assertRaises(TargetTooLong, HeadReader().feed, b"GET /" + b"a" * MAX_TARGET_BYTES * 2)

    def test_longest_target_in_packets(self) -> None:
        """The longest allowed target passes however the network cut its request line."""
        target = b"/" + b"a" * (MAX_TARGET_BYTES - 1)
        octets = b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % target
        whole = read_parts([octets])
        self.assertEqual(octets[:-2], whole[0])
        for cut in (MAX_TARGET_BYTES, MAX_TARGET_BYTES + 5, MAX_TARGET_BYTES + 13):
            self.assertEqual(whole, read_parts([octets[:cut], octets[cut:]]), cut)

    def test_empty_lines_before_a_response(self) -> None:
        """Whether an empty line before a status line is skipped does not depend on its packets."""
        octets = b"\r\nHTTP/1.1 200 OK\r\n\r\n"
        whole = read_parts([octets], b"HTTP/")
        for parts in strict.splits(octets):
            self.assertEqual(whole, read_parts(parts, b"HTTP/"), parts)

    @given(
        st.lists(
            st.sampled_from(
                [b"GET / HTTP/1.1\r\n", b"A: b\r\n", b"\r\n", b"\r", b"\n", b"\0", b"x"]
            ),
            max_size=8,
        ).map(b"".join)
    )
    @example(b"GET / HTTP/1.1\r\nA: b\r\n\r\nGET")
    def test_split_anywhere(self, octets: bytes) -> None:
        """However the octets are cut, the same head comes out, or the same refusal."""

        def parsed(result: Found | str) -> object:
            if isinstance(result, str):
                return result
            try:
                return request_facts(parse_request_head(result[0])), result[1]
            except Malformed:
                return "refused"

        whole = parsed(read_parts([octets]))
        for parts in strict.splits(octets):
            self.assertEqual(whole, parsed(read_parts(parts)), parts)
