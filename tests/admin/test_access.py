"""Who may read the admin site: no web page of another site."""

from __future__ import annotations

from twisted.internet.address import UNIXAddress

from pyproxy.semantics.origins import MAX_ORIGIN_BYTES
from tests.admin.kit import AdminTestCase

GUARDED = ("/", "/api/config", "/api/routes", "/x")
FOR_PROBES = ("/healthz", "/readyz")


class HostTests(AdminTestCase):
    """A name that somebody else points here is not the site's (DNS rebinding)."""

    def test_own_names(self) -> None:
        """Names of loopback and addresses, any of them, are answered."""
        for host in (
            "localhost",
            "LocalHost:9000",
            "localhost.",
            "admin.localhost:9000",
            "127.0.0.1",
            "[::1]:9000",
            "10.1.2.3:9000",
            "192.0.2.7",
            "[2001:db8::7]:9000",
            "[::ffff:192.0.2.7]",
        ):
            with self.subTest(host=host):
                self.assertEqual(200, self.ask("GET", "/api/config", host=host).status)

    def test_other_names(self) -> None:
        """All other names get 421, and the way to ask; what is at the path does not matter."""
        for host in (
            "evil.example",
            "evil.example:9000",
            "localhost.evil.example",
            "notlocalhost",
            "127.0.0.1.evil.example",
            "10.1.2.3.",
            "[evil]",
            "localhost, evil.example",
            "user@localhost",
            "",
            "localhost" * MAX_ORIGIN_BYTES,
        ):
            for path in GUARDED:
                with self.subTest(host=host, path=path):
                    answer = self.ask("GET", path, host=host)
                    self.assertEqual(421, answer.status)
                    self.assertEqual("Misdirected Request", answer.json["title"])
                    self.assertIn("Ask by localhost or by an IP address", answer.json["detail"])

    def test_one_host(self) -> None:
        """A request has one Host; without any, or with two, it is nobody's."""
        for host, lines in ((None, ()), ("localhost", ("Host: evil.example",))):
            with self.subTest(host=host, lines=lines):
                self.assertEqual(421, self.ask("GET", "/", *lines, host=host).status)

    def test_probes(self) -> None:
        """Probes may ask by any name."""
        for path in FOR_PROBES:
            for host in ("evil.example", None):
                with self.subTest(path=path, host=host):
                    self.assertEqual(200, self.ask("GET", path, host=host).status)

    def test_unix_socket(self) -> None:
        """Through a Unix socket any name is good: no page gets there by itself."""
        for host in ("localhost", "admin.example.com", "x", None):
            with self.subTest(host=host):
                connection = self.connect(UNIXAddress("/run/admin.sock"))
                self.assertEqual(200, connection.ask("GET", "/api/config", host=host).status)


class PageTests(AdminTestCase):
    """A browser says which page made it ask."""

    def judge(self, host: str, *lines: str, method: str = "GET", path: str = "/api/config") -> int:
        """Return the status of a request."""
        return self.ask(method, path, *lines, host=host).status

    def test_origin_of_another_host(self) -> None:
        """A page of another host gets 403, whatever its name."""
        for host, origin in (
            ("localhost:9000", "http://evil.example"),
            ("localhost:9000", "http://localhost.evil.example:9000"),
            ("127.0.0.1:9000", "http://localhost:9000"),
            ("10.1.2.3:9000", "http://localhost:3000"),
            ("10.1.2.3:9000", "http://10.1.2.4:9000"),
            ("10.1.2.3:9000", "http://10.1.2.3:8000"),
            ("localhost:9000", "null"),
            ("localhost:9000", ""),
            ("localhost:9000", "http://localhost:9000, http://evil.example"),
            ("localhost:9000", "http://localhost" + ":9000" * MAX_ORIGIN_BYTES),
        ):
            for path in GUARDED:
                with self.subTest(host=host, origin=origin, path=path):
                    self.assertEqual(403, self.judge(host, f"Origin: {origin}", path=path))

    def test_two_origins(self) -> None:
        """A request has one Origin at most."""
        line = "Origin: http://localhost:9000"
        self.assertEqual(403, self.judge("localhost:9000", line, line))

    def test_own_origin(self) -> None:
        """A page of the site itself may read it."""
        for host in ("localhost:9000", "127.0.0.1:9000", "10.1.2.3:9000", "[2001:db8::7]:9000"):
            with self.subTest(host=host):
                self.assertEqual(200, self.judge(host, f"Origin: http://{host}"))

    def test_site_marks(self) -> None:
        """What a browser marks as of another site, or of another origin of this one, gets 403."""
        for site, status in (
            ("cross-site", 403),
            ("same-site", 403),
            ("anything", 403),
            ("same-origin", 200),
            ("none", 200),
        ):
            with self.subTest(site=site):
                self.assertEqual(status, self.judge("localhost:9000", f"Sec-Fetch-Site: {site}"))
                fetched = ("Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: script")
                mark = f"Sec-Fetch-Site: {site}"
                self.assertEqual(status, self.judge("localhost:9000", mark, *fetched))

    def test_links(self) -> None:
        """Somebody may follow a link in the whole window; the page behind it sees nothing then."""
        marks = ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate")
        for dest, method, status in (
            ("document", "GET", 200),
            ("iframe", "GET", 403),
            ("document", "POST", 403),
        ):
            with self.subTest(dest=dest, method=method):
                lines = (*marks, f"Sec-Fetch-Dest: {dest}")
                self.assertEqual(status, self.judge("localhost:9000", *lines, method=method))

    def test_remedy(self) -> None:
        """Whoever reads the refusal is told what to do."""
        answer = self.ask("GET", "/", "Origin: http://evil.example")
        self.assertEqual("Forbidden", answer.json["title"])
        self.assertIn("Open the address itself", answer.json["detail"])

    def test_probes(self) -> None:
        """Probes are no secret, and are asked by pages too."""
        for path in FOR_PROBES:
            with self.subTest(path=path):
                answer = self.ask("GET", path, "Origin: http://evil.example")
                self.assertEqual(200, answer.status)
                self.assertIsNone(answer.field("Access-Control-Allow-Origin"))

    def test_unix_socket(self) -> None:
        """Behind a Unix socket pages of another host are refused, too."""
        connection = self.connect(UNIXAddress("/run/admin.sock"))
        for origin, status in (("http://admin.test", 200), ("http://evil.example", 403)):
            with self.subTest(origin=origin):
                answer = connection.ask("GET", "/", f"Origin: {origin}", host="admin.test")
                self.assertEqual(status, answer.status)
