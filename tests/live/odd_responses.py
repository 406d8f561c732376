"""Odd responses, octet by octet: what docs/upstreams.rst says of each is tried with these."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

import attrs

from pyproxy.semantics.oddities import Oddity


class Verdict(Enum):
    """What becomes of a response; the value begins the last cell of its row."""

    PASSES = "passes"
    MENDED = "mended"
    REFUSED = "refused"
    BROKEN = "broken off"


PASSES, MENDED, REFUSED, BROKEN = Verdict

OK_LINE = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"Content-Length: 2\r\n"
CODING = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"2\r\nok\r\n0\r\n\r\n"
END = b"0\r\n\r\n"


@attrs.frozen
class Row:
    """A response, and what becomes of it.

    Attributes:
        form: the first cell of its row; one that stands for several has a response for each.
        oddity: what the log says of it, once.
        passes: octets that have to be in the client's head.
        stays_out: octets that must not be there.
        method: of the request; closes: the upstream closes behind it.
    """

    form: str
    octets: bytes
    verdict: Verdict
    oddity: Oddity | None = None
    passes: bytes = b""
    stays_out: bytes = b"\0"
    method: bytes = b"GET"
    closes: bool = False


def line(form: str, octets: bytes, verdict: Verdict, oddity: Oddity | None = None) -> Row:
    """Return a row about a status line."""
    return Row(form, octets + b"\r\n" + LENGTH + b"\r\nok", verdict, oddity)


def fields(
    form: str,
    octets: bytes,
    verdict: Verdict,
    oddity: Oddity | None = None,
    passes: bytes = b"",
    stays_out: bytes = b"\0",
) -> Row:
    """Return a row about field lines, which come with a length."""
    head = OK_LINE + octets + b"\r\n" + LENGTH + b"\r\nok"
    return Row(form, head, verdict, oddity, passes, stays_out)


def framed(
    form: str,
    octets: bytes,
    body: bytes,
    verdict: Verdict,
    oddity: Oddity | None = None,
    stays_out: bytes = b"\0",
    status_line: bytes = OK_LINE,
    closes: bool = False,
) -> Row:
    """Return a row about fields that frame."""
    head = status_line + octets + b"\r\n\r\n" + body
    return Row(form, head, verdict, oddity, b"", stays_out, closes=closes)


def chunks(
    form: str, octets: bytes, verdict: Verdict, oddity: Oddity | None = None, closes: bool = False
) -> Row:
    """Return a row about chunks."""
    return Row(form, OK_LINE + CODING + b"\r\n" + octets, verdict, oddity, closes=closes)


def empty(
    form: str,
    status_line: bytes,
    octets: bytes,
    verdict: Verdict,
    oddity: Oddity | None = None,
    stays_out: bytes = b"\0",
    method: bytes = b"GET",
) -> Row:
    """Return a row about a response without content."""
    head = status_line + b"\r\n" + octets + b"\r\n\r\n"
    return Row(form, head, verdict, oddity, b"", stays_out, method)


def each(
    make: Callable[..., Row], form: str, all_octets: tuple[bytes, ...], *rest: Any
) -> list[Row]:
    """Return what stands for the forms of one row."""
    return [make(form, octets, *rest) for octets in all_octets]


STATUS_LINES = (
    *each(
        line,
        "no reason phrase, with or without its space",
        (b"HTTP/1.1 200", b"HTTP/1.1 200 "),
        PASSES,
    ),
    line("two spaces before the status", b"HTTP/1.1  200 OK", MENDED, Oddity.STATUS_LINE),
    line("a tab before the status", b"HTTP/1.1\t200 OK", MENDED, Oddity.STATUS_LINE),
    line("a tab behind the status", b"HTTP/1.1 200\tOK", MENDED, Oddity.STATUS_LINE),
    line("``HTTP/1.2``", b"HTTP/1.2 200 OK", MENDED, Oddity.VERSION),
    line("``HTTP/2.0``", b"HTTP/2.0 200 OK", MENDED, Oddity.VERSION),
    line("``HTTP/0.9`` with a status", b"HTTP/0.9 200 OK", MENDED, Oddity.VERSION),
    line("``HTTP/2``", b"HTTP/2 200 OK", REFUSED),
    line("``HTTP/1``", b"HTTP/1 200 OK", REFUSED),
    line("``HTTP/3.0``", b"HTTP/3.0 200 OK", REFUSED),
    line("``http/1.1``", b"http/1.1 200 OK", REFUSED),
    line("``ICY 200 OK``", b"ICY 200 OK", REFUSED),
    line("no status line at all (HTTP/0.9)", b"hello", REFUSED),
    *each(line, "a status of 600 to 999", (b"HTTP/1.1 600 Odd", b"HTTP/1.1 999 Odd"), PASSES),
    line("a status below 100", b"HTTP/1.1 099 Odd", REFUSED),
    *each(line, "two or four digits", (b"HTTP/1.1 20 OK", b"HTTP/1.1 2000 OK"), REFUSED),
    line("``200OK``", b"HTTP/1.1 200OK", REFUSED),
    line("control characters in the reason", b"HTTP/1.1 200 O\x01K", MENDED, Oddity.CONTROL),
    line("NUL in the reason", b"HTTP/1.1 200 O\0K", REFUSED),
    line("a bare CR in the reason", b"HTTP/1.1 200 O\rK", REFUSED),
    line("an empty line before it", b"\r\nHTTP/1.1 200 OK", REFUSED),
    line("a space before it", b" HTTP/1.1 200 OK", REFUSED),
    line("an unknown 1xx before the response", b"HTTP/1.1 199 Odd\r\n\r\nHTTP/1.1 200 OK", PASSES),
    line(
        "1xx with ``Content-Length``",
        b"HTTP/1.1 103 Odd\r\nContent-Length: 2\r\n\r\nHTTP/1.1 200 OK",
        PASSES,
    ),
    Row(
        "101 that nobody asked for",
        b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nok",
        REFUSED,
    ),
)

FIELD_LINES = (
    Row(
        "LF alone at the ends of all lines",
        b"HTTP/1.1 200 OK\nX: a\nContent-Length: 2\n\nok",
        MENDED,
        Oddity.BARE_LF,
        b"X: a\r\n",
    ),
    fields(
        "LF alone at the end of one", b"X: a\nY: b", MENDED, Oddity.BARE_LF, b"X: a\r\nY: b\r\n"
    ),
    fields("CR CR LF", b"X: a\r", REFUSED),
    fields("a bare CR in a value", b"X: a\rb", REFUSED),
    fields("a space before the colon", b"X : a", MENDED, Oddity.BLANK_BEFORE_COLON, b"X: a\r\n"),
    fields("a tab before the colon", b"X\t: a", MENDED, Oddity.BLANK_BEFORE_COLON, b"X: a\r\n"),
    framed("a space before the colon of a length", b"Content-Length : 2", b"ok", REFUSED),
    framed("a space before the colon of a coding", b"Transfer-Encoding : chunked", CHUNKS, REFUSED),
    fields("a folded field (obs-fold)", b"X: a\r\n\t b", MENDED, Oddity.FOLD, b"X: a b\r\n"),
    fields("a fold before anything of the value", b"X:\r\n b", MENDED, Oddity.FOLD, b"X: b\r\n"),
    framed("a folded length", b"Content-Length:\r\n 2", b"ok", REFUSED),
    framed("a folded coding", b"Transfer-Encoding:\r\n chunked", CHUNKS, REFUSED),
    fields("white space before the first field", b" X: a", REFUSED),
    fields("no colon", b"X", REFUSED),
    fields("an empty name", b": a", REFUSED),
    fields("a space in a name", b"X Y: a", REFUSED),
    *each(fields, "``X(y)``, ``X[y]``, ``X/y``", (b"X(y): a", b"X[y]: a", b"X/y: a"), REFUSED),
    *each(fields, "a control or high octet in a name", (b"X\x01: a", b"X\xe9: a"), REFUSED),
    fields("NUL in a value", b"X: a\0b", REFUSED),
    fields(
        "control characters in a value",
        b"X: \x0b" + bytes({*range(1, 32), 127} - {9, 10, 13}),
        MENDED,
        Oddity.CONTROL,
        b"X: \x0b" + bytes(sorted({*range(1, 32), 127} - {9, 10, 13})) + b"\r\n",
    ),
    fields(
        "control characters in a cookie",
        b"Set-Cookie: k=a\x01b; Path=/",
        MENDED,
        Oddity.CONTROL,
        b"k=a\x01b",
    ),
    fields("octets from 0x80 in a value", b"X: caf\xc3\xa9\x85", PASSES, None, b"caf\xc3\xa9\x85"),
    fields("``Connection: close;x``", b"Connection: close;x", MENDED, Oddity.CONNECTION),
    fields(
        "``Connection: Content-Length``", b"Connection: Content-Length", MENDED, Oddity.CONNECTION
    ),
    fields("no ``Date``", b"X: y", PASSES, None, b"", b"\r\nDate:"),
)

LENGTHS = (
    framed(
        "``Content-Length`` and ``chunked``",
        b"Content-Length: 3\r\nTransfer-Encoding: chunked",
        CHUNKS,
        MENDED,
        Oddity.BOTH_LENGTHS,
        b"Content-Length",
    ),
    framed(
        "``Content-Length: x`` and ``chunked``",
        b"Content-Length: x\r\nTransfer-Encoding: chunked",
        CHUNKS,
        REFUSED,
    ),
    framed(
        "two lengths that differ, and ``chunked``",
        b"Content-Length: 3\r\nContent-Length: 4\r\nTransfer-Encoding: chunked",
        CHUNKS,
        REFUSED,
    ),
    framed(
        "``Content-Length: 2, 2``",
        b"Content-Length: 2, 2",
        b"ok",
        MENDED,
        Oddity.SAME_LENGTHS,
        b"2, 2",
    ),
    framed(
        "``Content-Length: 2`` twice",
        b"Content-Length: 2\r\nContent-Length: 2",
        b"ok",
        MENDED,
        Oddity.SAME_LENGTHS,
    ),
    framed(
        "``Content-Length: 02`` and ``2``",
        b"Content-Length: 02\r\nContent-Length: 2",
        b"ok",
        MENDED,
        Oddity.SAME_LENGTHS,
    ),
    framed("``Content-Length: 02``", b"Content-Length: 02", b"ok", PASSES),
    framed(
        "``Content-Length`` with forty zeros",
        b"Content-Length: " + b"0" * 40 + b"2",
        b"ok",
        MENDED,
        Oddity.SAME_LENGTHS,
        b"000",
    ),
    framed("lengths that differ", b"Content-Length: 2\r\nContent-Length: 3", b"ok", REFUSED),
    framed("``Content-Length: 2, 3``", b"Content-Length: 2, 3", b"ok", REFUSED),
    framed("``Content-Length: 2,``", b"Content-Length: 2,", b"ok", REFUSED),
    framed("``Content-Length: +2``", b"Content-Length: +2", b"ok", REFUSED),
    *each(
        framed,
        "``Content-Length: 2;x``, ``2 2``",
        (b"Content-Length: 2;x", b"Content-Length: 2 2"),
        b"ok",
        REFUSED,
    ),
    framed("``Content-Length`` without a value", b"Content-Length:", b"ok", REFUSED),
    framed("2\\ :sup:`64` + 2", b"Content-Length: 18446744073709551618", b"ok", REFUSED),
    framed(
        "``identity``", b"Transfer-Encoding: identity", b"ok", MENDED, Oddity.IDENTITY, closes=True
    ),
    framed(
        "``identity`` in HTTP/1.0",
        b"Transfer-Encoding: identity",
        b"ok",
        MENDED,
        Oddity.IDENTITY,
        status_line=b"HTTP/1.0 200 OK\r\n",
        closes=True,
    ),
    framed(
        "``identity`` and ``Content-Length``",
        b"Transfer-Encoding: identity\r\nContent-Length: 2",
        b"ok",
        MENDED,
        Oddity.IDENTITY,
        b"identity",
    ),
    framed(
        "``Transfer-Encoding`` without a value",
        b"Transfer-Encoding:",
        b"ok",
        MENDED,
        Oddity.IDENTITY,
        closes=True,
    ),
    framed(
        "``identity, chunked``",
        b"Transfer-Encoding: identity, chunked",
        CHUNKS,
        MENDED,
        Oddity.CHUNKED_AGAIN,
    ),
    framed("``chunked, identity``", b"Transfer-Encoding: chunked, identity", CHUNKS, REFUSED),
    framed(
        "``chunked, chunked``",
        b"Transfer-Encoding: chunked, chunked",
        CHUNKS,
        MENDED,
        Oddity.CHUNKED_AGAIN,
    ),
    framed(
        "``chunked`` in two fields",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        CHUNKS,
        MENDED,
        Oddity.CHUNKED_AGAIN,
    ),
    framed("``chunked,``", b"Transfer-Encoding: chunked,", CHUNKS, REFUSED),
    framed("``, chunked``", b"Transfer-Encoding: , chunked", CHUNKS, REFUSED),
    framed("``gzip, chunked``", b"Transfer-Encoding: gzip, chunked", CHUNKS, REFUSED),
    *each(
        framed,
        "``gzip``, ``xchunked``, ``chunked;q=1``",
        (
            b"Transfer-Encoding: gzip",
            b"Transfer-Encoding: xchunked",
            b"Transfer-Encoding: chunked;q=1",
        ),
        b"ok",
        REFUSED,
    ),
    framed(
        "``chunked`` in HTTP/1.0",
        b"Transfer-Encoding: chunked",
        CHUNKS,
        REFUSED,
        status_line=b"HTTP/1.0 200 OK\r\n",
    ),
    framed("octets behind the content", b"Content-Length: 2", b"okmore", PASSES),
    framed("CRLF behind the content", b"Content-Length: 2", b"ok\r\n", PASSES),
)

NOTHING = (
    empty("204 with a length", b"HTTP/1.1 204 X", b"Content-Length: 2", PASSES, None, b"Length"),
    empty("204 with ``chunked``", b"HTTP/1.1 204 X", b"Transfer-Encoding: chunked", PASSES),
    empty("304 with a length", b"HTTP/1.1 304 X", b"Content-Length: 2", PASSES),
    *(
        empty(
            "204, 304 or an answer to HEAD with another coding",
            status_line,
            b"Transfer-Encoding: gzip",
            MENDED,
            Oddity.CODING_OF_NOTHING,
            b"Transfer-Encoding",
            method,
        )
        for status_line, method in (
            (b"HTTP/1.1 204 X", b"GET"),
            (b"HTTP/1.1 304 X", b"GET"),
            (b"HTTP/1.1 200 X", b"HEAD"),
        )
    ),
    empty(
        "an answer to HEAD with both lengths",
        b"HTTP/1.1 200 X",
        b"Content-Length: 3\r\nTransfer-Encoding: chunked",
        MENDED,
        Oddity.BOTH_LENGTHS,
        b"Content-Length",
        b"HEAD",
    ),
    empty(
        "an answer to HEAD with ``Content-Length: x``",
        b"HTTP/1.1 200 X",
        b"Content-Length: x",
        REFUSED,
        method=b"HEAD",
    ),
    empty(
        "an answer to HEAD with lengths that differ",
        b"HTTP/1.1 200 X",
        b"Content-Length: 2\r\nContent-Length: 3",
        REFUSED,
        method=b"HEAD",
    ),
)

CHUNK_FORMS = (
    *each(
        chunks,
        "blanks behind a size",
        (b"2 \r\nok\r\n" + END, b"2  \t\r\nok\r\n" + END),
        MENDED,
        Oddity.CHUNK_LINE,
    ),
    chunks("a blank behind the last size", b"2\r\nok\r\n0 \r\n\r\n", MENDED, Oddity.CHUNK_LINE),
    *each(
        chunks,
        "a blank before a size",
        (b" 2\r\nok\r\n" + END, b"\t 2\r\nok\r\n 0\r\n\r\n"),
        MENDED,
        Oddity.CHUNK_LINE,
    ),
    chunks("a blank before an extension", b"2 ;a=b\r\nok\r\n" + END, MENDED, Oddity.CHUNK_LINE),
    chunks("extensions of every kind", b'2; a = "b;c"\r\nok\r\n0;\r\n\r\n', PASSES),
    chunks(
        "control characters in an extension", b"2;\x01\r\nok\r\n" + END, MENDED, Oddity.CHUNK_LINE
    ),
    chunks("NUL in an extension", b"2;\0\r\nok\r\n" + END, BROKEN),
    *each(
        chunks,
        "``2 x``, ``2,x``",
        (b"2 x\r\nok\r\n" + END, b"2,x\r\nok\r\n" + END),
        BROKEN,
    ),
    *each(
        chunks,
        "``0x2``, ``+2``, ``0_2``",
        tuple(size + b"\r\nok\r\n" + END for size in (b"0x2", b"+2", b"0_2")),
        BROKEN,
    ),
    chunks("``-2``", b"-2\r\nok\r\n" + END, BROKEN),
    *each(chunks, "no size", (b"\r\nok\r\n" + END, b" \r\nok\r\n" + END), BROKEN),
    chunks("a size with forty zeros", b"0" * 40 + b"2\r\nok\r\n" + END, MENDED, Oddity.CHUNK_LINE),
    chunks("a size of 2\\ :sup:`64` + 2", b"10000000000000002\r\nok\r\n" + END, BROKEN),
    chunks("LF alone behind a size", b"2\nok\r\n" + END, BROKEN),
    chunks("LF alone behind the data", b"2\r\nok\n" + END, BROKEN),
    chunks("LF alone behind the last chunk", b"2\r\nok\r\n0\r\n\n", BROKEN, closes=True),
    chunks("CR alone behind a size", b"2\rok\r\n" + END, BROKEN),
    chunks("more data than the size", b"2\r\nokay\r\n" + END, BROKEN),
    chunks("less data than the size", b"3\r\nok\r\n" + END, BROKEN),
    chunks("the last chunk, then a close", b"2\r\nok\r\n0\r\n", BROKEN, closes=True),
    chunks("a close without the last chunk", b"2\r\nok\r\n", BROKEN, closes=True),
    chunks("no chunks at all", b"hello, world", BROKEN),
    chunks(
        "a trailer with a space before its colon",
        b"2\r\nok\r\n0\r\nX : y\r\n\r\n",
        MENDED,
        Oddity.BLANK_BEFORE_COLON,
    ),
    chunks("a folded trailer", b"2\r\nok\r\n0\r\nX: y\r\n z\r\n\r\n", MENDED, Oddity.FOLD),
    chunks(
        "control characters in a trailer",
        b"2\r\nok\r\n0\r\nX: y\x01\r\n\r\n",
        MENDED,
        Oddity.CONTROL,
    ),
    chunks("NUL in a trailer", b"2\r\nok\r\n0\r\nX: y\0\r\n\r\n", BROKEN),
    chunks("a trailer without a colon", b"2\r\nok\r\n0\r\nX\r\n\r\n", BROKEN),
    chunks("a trailer whose line ends in LF", b"2\r\nok\r\n0\r\nX: y\n\r\n", BROKEN),
    chunks(
        "``Content-Length`` in the trailers", b"2\r\nok\r\n0\r\nContent-Length: 5\r\n\r\n", PASSES
    ),
)

ENDINGS = (
    Row("no length at all", OK_LINE + b"\r\nok", PASSES, closes=True),
    framed("a length, and a close before it", b"Content-Length: 5", b"ok", BROKEN, closes=True),
    Row("a head that breaks off", b"HTTP/1.1 200 OK\r\nX: y", REFUSED, closes=True),
    Row("a close before the head", b"", REFUSED, closes=True),
)

ROWS = (*STATUS_LINES, *FIELD_LINES, *LENGTHS, *NOTHING, *CHUNK_FORMS, *ENDINGS)
