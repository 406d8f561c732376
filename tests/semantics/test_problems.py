"""What a client is told when the proxy itself answers."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from pyproxy.errors import (
    BadRequest,
    CertificateRefused,
    ConnectTimeout,
    MethodRefused,
    ProxyError,
    RouteNotFound,
    UpgradeRequired,
)
from pyproxy.semantics.problems import accepts_json, problem, proxy_status


class AcceptTests(SynchronousTestCase):
    """Whether the client asked for JSON."""

    def test_accepts(self) -> None:
        """JSON is sent to those who name it.  RFC 9110 12.5.1, RFC 9457 3."""
        for lines in (
            [b"application/json"],
            [b"Application/JSON; charset=utf-8"],
            [b"application/problem+json"],
            [b"application/vnd.api+json"],
            [b"application/*"],
            [b"text/html, application/json;q=0.5"],
            [b"text/html", b"application/json"],
            [b"application/json;q=0.001"],
        ):
            self.assertTrue(accepts_json(lines), lines)

    def test_does_not_accept(self) -> None:
        """``*/*`` names nothing, and a weight of 0 says no.  RFC 9110 12.4.2."""
        for lines in (
            [],
            [b""],
            [b"*/*"],
            [b"text/html, */*;q=0.8"],
            [b"application/json;q=0"],
            [b"application/json; Q = 0.000"],
            [b"text/plain"],
            [b"application/jsonx"],
            [b'text/plain;a=", application/json,"'],
        ):
            self.assertFalse(accepts_json(lines), lines)

    def test_most_specific_range_counts(self) -> None:
        """A more specific media range outranks one with a wildcard.  RFC 9110 12.5.1."""
        self.assertTrue(accepts_json([b"application/*;q=0, application/json"]))


class ProblemTests(SynchronousTestCase):
    """The response that an error becomes."""

    error = RouteNotFound("no route serves this path")

    def test_json(self) -> None:
        """A problem document says what happened, what to do and whose fault it is.  RFC 9457 3."""
        fields, content = problem(self.error, "id-1", [b"application/json"])
        self.assertEqual(
            {
                "type": "about:blank",
                "title": "Not Found",
                "status": 404,
                "detail": f"No route serves this path. {RouteNotFound.remedy}",
                "request_id": "id-1",
                "blame": "client",
                "error": {
                    "message": f"No route serves this path. {RouteNotFound.remedy}",
                    "type": "destination_not_found",
                    "code": 404,
                },
            },
            json.loads(content),
        )
        self.assertEqual(b"application/problem+json", dict(fields)[b"Content-Type"])
        self.assertTrue(content.isascii())

    def test_text(self) -> None:
        """Everybody else gets the same in words."""
        fields, content = problem(self.error, "id-1", [b"*/*"])
        self.assertEqual(
            f"404 Not Found\nNo route serves this path.\n{RouteNotFound.remedy}\n"
            "Request id: id-1\n",
            content.decode(),
        )
        self.assertEqual(b"text/plain; charset=utf-8", dict(fields)[b"Content-Type"])

    def test_fields(self) -> None:
        """The answer is framed, not stored, not sniffed, and says who failed.  RFC 9209 2."""
        for accept in ([], [b"application/json"]):
            fields, content = problem(self.error, "id-1", accept)
            found = dict(fields)
            self.assertEqual(len(found), len(fields))
            self.assertEqual(b"%d" % len(content), found[b"Content-Length"])
            self.assertEqual(b"no-store", found[b"Cache-Control"])
            self.assertEqual(b"nosniff", found[b"X-Content-Type-Options"])
            self.assertEqual(b"id-1", found[b"X-Request-Id"])
            self.assertEqual(proxy_status(self.error), found[b"Proxy-Status"])
            self.assertTrue({b"Allow", b"Upgrade", b"Sec-WebSocket-Version"}.isdisjoint(found))

    def test_allow(self) -> None:
        """405 names the methods that are allowed.  RFC 9110 15.5.6."""
        fields, _ = problem(MethodRefused("no tunnels"), "id-1", [])
        allowed = dict(fields)[b"Allow"].split(b", ")
        self.assertIn(b"GET", allowed)
        self.assertNotIn(b"CONNECT", allowed)

    def test_upgrade_required(self) -> None:
        """426 names the protocol, and its version, that can be spoken.

        RFC 6455 4.4, RFC 9110 15.5.22.
        """
        for accept in ([], [b"application/json"]):
            fields, content = problem(UpgradeRequired("another version"), "id-1", accept)
            self.assertEqual(
                [
                    (b"Sec-WebSocket-Version", b"13"),
                    (b"Upgrade", b"websocket"),
                    (b"Connection", b"Upgrade"),
                ],
                fields[-3:],
            )
            self.assertEqual(len(dict(fields)), len(fields))
            self.assertIn(b"Sec-WebSocket-Version: 13", content)

    def test_text_beyond_ascii(self) -> None:
        """A text beyond ASCII is sent as UTF-8, with its length in octets.  RFC 9110 8.6."""
        for accept in ([], [b"application/json"]):
            fields, content = problem(BadRequest("\u00e4 \u201cx\u201d."), "id-1", accept)
            self.assertEqual(b"%d" % len(content), dict(fields)[b"Content-Length"])
            text = json.loads(content)["detail"] if accept else content.decode()
            self.assertIn("\u00c4 \u201cx\u201d.", text)
            self.assertNotIn("..", text)

    def test_proxy_status(self) -> None:
        """Proxy-Status is a list of tokens with string parameters.  RFC 9209 2, RFC 9651 3.3.3."""
        self.assertEqual(
            b'pyproxy; error=destination_not_found; details="no route serves this path"',
            proxy_status(self.error),
        )
        value = proxy_status(CertificateRefused('a "b" \\ \u00e4\r\nX: y'))
        self.assertEqual(
            b"""pyproxy; error=tls_certificate_error; details="a 'b' ' '''X: y\"""", value
        )

    def test_every_error(self) -> None:
        """Whatever the error, its answer can be written as fields.  RFC 9110 5.5."""
        for error in (ProxyError("x"), ConnectTimeout(""), BadRequest("\0\x7f")):
            for name, value in problem(error, "id-1", [])[0]:
                self.assertTrue(value.isascii() and value.decode().isprintable(), name)
