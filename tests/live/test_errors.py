"""What the proxy says itself: errors that tell what to do, a log that tells no secret."""

from __future__ import annotations

import itertools
import json
import os
import re
import resource
from contextlib import suppress

from tests.live.kit import (
    Closed,
    LiveTestCase,
    Proxy,
    Response,
    answer,
    answer_and_close,
    chunk,
    eventually,
    free_port,
    request,
)

COMBINED = re.compile(
    r"127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "
    r'"(?P<line>(?:[^"\\]|\\.)*)" (?P<status>\d{3}|-) (?P<size>\d+|-) '
    r'"(?P<referer>(?:[^"\\]|\\.)*)" "(?P<agent>(?:[^"\\]|\\.)*)"'
)
"""A line of the combined log format, as Apache and nginx write it."""


class ErrorTests(LiveTestCase):
    """Responses that the proxy makes."""

    proxy_arguments = ("--prefix", "/defm")

    def errors(self, *fields: bytes) -> dict[int, Response]:
        """Provoke one error of each kind that is quick to provoke, by status."""
        self.upstream.script = answer_and_close(b"nonsense\r\n\r\n")
        return {
            400: self.ask(b"GET /defm/../.. HTTP/1.1", *fields),
            404: self.ask(b"GET /other HTTP/1.1", *fields),
            405: self.ask(b"CONNECT a:1 HTTP/1.1", *fields),
            502: self.ask(b"GET /defm/ HTTP/1.1", *fields),
            505: self.ask(b"GET /defm/ HTTP/2.0", *fields),
        }

    def test_problem_details(self) -> None:
        """A client that accepts JSON gets ``application/problem+json`` (RFC 9457 3)."""
        for accept in (
            b"Accept: application/json",
            b"Accept: text/html;q=0.1, application/problem+json",
        ):
            errors = self.errors(accept)
            del errors[505]  # refused by its first line: what it accepts was not read
            for status, response in errors.items():
                with self.subTest(accept=accept, status=status):
                    self.assertEqual(response.status, status)
                    self.assertEqual(
                        (response.value(b"content-type") or b"").split(b";")[0],
                        b"application/problem+json",
                    )
                    problem = json.loads(response.body)
                    self.assertEqual(problem["status"], status)
                    self.assertTrue(problem["title"])
                    self.assertTrue(problem["detail"])

    def test_plain_text(self) -> None:
        """Everybody else gets plain text that says something."""
        for accept in (b"Accept: text/html", b"Accept: application/json;q=0, text/plain"):
            for status, response in self.errors(accept).items():
                with self.subTest(accept=accept, status=status):
                    self.assertEqual(response.status, status)
                    self.assertTrue(
                        (response.value(b"content-type") or b"").startswith(b"text/plain")
                    )
                    self.assertGreater(len(response.body), 10)
                    self.assertLess(len(response.body), 2000)

    def test_shape(self) -> None:
        """Errors have a length, no traceback and no name of an inner part."""
        for status, response in self.errors().items():
            with self.subTest(status=status):
                self.assertEqual(response.value(b"content-length"), b"%d" % len(response.body))
                for word in (b"Traceback", b"twisted", b"Failure", b".py", b"<class"):
                    self.assertNotIn(word.lower(), response.body.lower())

    def test_proxy_status(self) -> None:
        """Proxy-Status tells what went wrong, in registered words (RFC 9209 2.3)."""
        for status, response in self.errors().items():
            with self.subTest(status=status):
                value = b", ".join(response.head.values(b"proxy-status"))
                self.assertRegex(value, rb"^[!#-~]+ *; *error=[a-z_]+")
        self.upstream.script = answer()
        self.assertEqual(self.ask(b"GET /defm/ HTTP/1.1").head.values(b"proxy-status"), [])

    def test_proxy_status_of_upstream_failures(self) -> None:
        """Each failure of the upstream has the word that RFC 9209 gives it."""
        for octets, word in (
            (b"nonsense\r\n\r\n", b"http_protocol_error"),
            (b"", b"connection_terminated"),
            (b"HTTP/1.1 200 O", b"http_response_incomplete"),
        ):
            with self.subTest(word=word):
                self.upstream.drop_connections()
                eventually(lambda: False, 0.1)
                self.upstream.script = answer_and_close(octets)
                response = self.ask(b"GET /defm/ HTTP/1.1")
                self.assertEqual(response.status, 502)
                self.assertIn(b"error=" + word, b"".join(response.head.values(b"proxy-status")))
        with Proxy("--target", f"http://127.0.0.1:{free_port()}") as proxy:
            response = proxy.ask(request())
        self.assertEqual(response.status, 502)
        self.assertIn(b"error=connection_refused", b"".join(response.head.values(b"proxy-status")))

    def test_no_descriptor_left(self) -> None:
        """What the proxy lacks itself is not the upstream's fault: 503; later it goes on."""
        self.upstream.script = answer()
        with Proxy("--target", self.upstream.url, "--prefix=/p") as proxy, proxy.client() as client:
            client.send(request(b"GET /other HTTP/1.1"))
            self.assertEqual(client.read_response().status, 404)
            used = set(os.listdir(f"/proc/{proxy.pid}/fd"))
            free = next(number for number in itertools.count() if str(number) not in used)
            soft, hard = resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE, (free, hard))
            client.send(request(b"GET /p/ HTTP/1.1"))
            response = client.read_response()
            self.assertEqual(response.status, 503)
            self.assertIn(
                b"error=connection_limit_reached", b"".join(response.head.values(b"proxy-status"))
            )
            resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE, (soft, hard))
            client.send(request(b"GET /p/ HTTP/1.1"))
            self.assertEqual(client.read_response().status, 200)

    def test_request_id(self) -> None:
        """Each error has an id, none twice, that the log knows too."""
        seen = set()
        for status, response in self.errors(b"Accept: application/json").items():
            with self.subTest(status=status):
                found = [
                    value for name, value in response.head.fields if b"request-id" in name.lower()
                ] or re.findall(rb'"request[-_ ]?id": ?"([^"]+)"', response.body, re.IGNORECASE)
                self.assertEqual(len(found), 1, response)
                seen.add(found[0])
                pattern = re.escape(found[0].decode())
                self.assertIsNotNone(self.proxy.wait_log(pattern), f"{pattern} is not logged")
        self.assertEqual(len(seen), 5)

    def test_head(self) -> None:
        """An error that answers HEAD has no content (RFC 9110 9.3.2)."""
        with self.proxy.client() as client:
            client.send(request(b"HEAD /other HTTP/1.1"))
            self.assertEqual(client.read_response(b"HEAD").status, 404)
            self.assertTrue(client.quiet(0.1) or client.read_to_end() == b"")

    def test_connection_goes_on(self) -> None:
        """An error that is no matter of framing leaves the connection to the next request."""
        with self.proxy.client() as client:
            client.send(request(b"GET /other HTTP/1.1"))
            self.assertEqual(client.read_response().status, 404)
            client.send(request(b"GET /defm/ HTTP/1.1"))
            self.assertEqual(client.read_response().body, b"ok")

    def test_error_to_an_unread_body(self) -> None:
        """The body of a refused request is never taken for the next request."""
        smuggled = request(b"GET /defm/smuggled HTTP/1.1")
        for framing, body in (
            (b"Content-Length: %d" % len(smuggled), smuggled),
            (b"Transfer-Encoding: chunked", chunk(smuggled) + b"0\r\n\r\n"),
        ):
            with self.subTest(framing=framing), self.proxy.client() as client:
                client.send(request(b"POST /other HTTP/1.1", framing, body=body))
                self.assertEqual(client.read_response().status, 404)
                with suppress(Closed):
                    client.send(request(b"GET /defm/next HTTP/1.1"))
                    self.assertEqual(client.read_response().body, b"ok")
        self.assertNotIn(b"/smuggled", [head.target for head in self.upstream.requests])

    def test_the_target_is_not_reflected(self) -> None:
        """What a client wrote does not come back as markup or as a field."""
        response = self.ask(
            b"GET /<script>alert(1)</script>%0d%0aX:1 HTTP/1.1", b"Accept: text/html"
        )
        self.assertIn(response.status, (400, 404))
        self.assertNotIn(b"html", response.value(b"content-type") or b"")
        self.assertNotIn(b"x", response.head.names())


class AccessLogTests(LiveTestCase):
    """The access log in twistd's log."""

    def line(self, start: str) -> re.Match[str]:
        """Return the one access line of this test whose request line begins so."""

        def found() -> list[re.Match[str]]:
            return [
                each for each in COMBINED.finditer(self.log()) if each["line"].startswith(start)
            ]

        eventually(found)
        lines = found()
        self.assertEqual(len(lines), 1, self.log())
        return lines[0]

    def test_combined_format(self) -> None:
        """A request leaves one line in the combined format."""
        self.upstream.script = answer(b"HTTP/1.1 404 No\r\nContent-Length: 5\r\n\r\nwords")
        self.ask(b"GET /log/a%2Fb?c=d HTTP/1.1", b"Referer: http://r.example/", b"User-Agent: me/1")
        line = self.line("GET /log/a")
        self.assertEqual(
            line.groupdict(),
            {
                "line": "GET /log/a%2Fb?c=d HTTP/1.1",
                "status": "404",
                "size": "5",
                "referer": "http://r.example/",
                "agent": "me/1",
            },
        )

    def test_missing_fields(self) -> None:
        """A missing Referer or User-Agent is ``-``."""
        self.ask(b"GET /bare HTTP/1.1")
        line = self.line("GET /bare")
        self.assertEqual((line["referer"], line["agent"]), ("-", "-"))

    def test_own_errors(self) -> None:
        """What the proxy answers itself is logged too."""
        self.ask(b"GET /../own HTTP/1.1")
        self.assertEqual(self.line("GET /../own")["status"], "400")

    def test_one_line_a_request(self) -> None:
        """Nothing that a client writes begins a line or ends a quotation."""
        self.ask(
            b"GET /inject%0a%22 HTTP/1.1",
            b'User-Agent: a" 200 1 "x" "y',
            b"Referer: \xff\xc2\x9b2J\\",
        )
        self.assertEqual(self.line("GET /inject")["status"], "200")
        self.assertNotIn("\x9b", self.log())
        self.assertNotIn('"a" 200', self.log())

    def test_broken_exchange(self) -> None:
        """An exchange that breaks off leaves its line as well."""
        self.upstream.script = answer_and_close(
            b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nwords"
        )
        with self.proxy.client() as client:
            client.send(request(b"GET /broken HTTP/1.1"))
            client.wait_closed()
        self.line("GET /broken")

    def test_credentials_are_not_logged(self) -> None:
        """Keys in fields, in the query and in Referer stay out of the log (FIELD 18)."""
        secrets = [f"s3cr3t{count}x" for count in range(16)]
        value = [each.encode() for each in secrets]
        query = (
            b"key=%s&api_key=%s&api-key=%s&apikey=%s&access_token=%s&token=%s&sig=%s&plain=visible"
        ) % tuple(value[:7])
        self.ask(
            b"GET /keys?" + query + b" HTTP/1.1",
            b"Authorization: Bearer " + value[7],
            b"Cookie: session=" + value[8],
            b"Proxy-Authorization: Basic " + value[9],
            b"api-key: " + value[10],
            b"X-Api-Key: " + value[11],
            b"X-Goog-Api-Key: " + value[12],
            b"Referer: http://r.example/?api_key=" + value[13],
        )
        line = self.line("GET /keys")
        self.assertIn("plain=visible", line["line"])
        for secret in secrets:
            self.assertNotIn(secret, self.log())
        self.assertIn(b"/keys?" + query, self.upstream.request.octets)

    def test_credentials_of_refused_requests_are_not_logged(self) -> None:
        """Nor do they get into the log by way of an error (FIELD 18)."""
        for octets in (
            request(b"GET /..?api_key=hidden1x HTTP/1.1", b"Authorization: Bearer hidden2x"),
            request(b"GET /a HTTP/1.1", b"Authorization : Bearer hidden3x"),
            request(b"GET /a HTTP/1.1", b"X-Api-Key: hidden4x\x00"),
            request(b"GET /a b?api_key=hidden5x HTTP/1.1"),
        ):
            response = self.proxy.ask(octets)
            self.assertEqual(response.status, 400)
            self.assertNotIn(b"hidden", response.body)
        self.upstream.script = answer_and_close(b"HTTP/1.1 200 OK\r\nSet-Cookie a=hidden6x\r\n\r\n")
        self.assertNotIn(b"hidden", self.ask().body)
        self.assertNotIn("hidden", self.log())


class InjectedSecretTests(LiveTestCase):
    """An injected secret wherever it may turn up."""

    environment = {"LIVE_KEY": "sk-live-Zx81Qp"}
    proxy_arguments = (
        *("--header", "Authorization: Bearer ${{LIVE_KEY}}"),
        "--allow-host=front.example",
    )

    def test_not_in_log_or_errors(self) -> None:
        """It is masked by value: in targets, in what an upstream says, in errors (FIELD 18)."""
        self.upstream.script = answer_and_close(b"HTTP/1.1 sk-live-Zx81Qp\r\n\r\n")
        octets = b""
        for accept in (b"Accept: application/json", b"Accept: text/plain"):
            response = self.ask(b"GET /x HTTP/1.1", accept)
            self.assertEqual(response.status, 502)
            octets += response.head.octets + response.body
        self.ask(b"GET /sk-live-Zx81Qp?a=sk-live-Zx81Qp HTTP/1.1", b"User-Agent: sk-live-Zx81Qp")
        eventually(lambda: self.log().count('"GET ') >= 3)
        self.assertNotIn(b"sk-live", octets)
        self.assertNotIn("sk-live-Zx81Qp", self.proxy.log())
