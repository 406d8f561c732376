"""The cache through the life of its process: figures, purges, reloads, several workers."""

from __future__ import annotations

from tests.live.caches import CacheFileTestCase, echo, fresh, is_hit, told
from tests.live.kit import MIB, Head, Response, answer, eventually, request
from tests.live.test_workers import wait_workers

HOST = "http://front.example"


def tagged(head: Head) -> bytes:
    """Answer with a page that has its own tag, and one of all."""
    return fresh(head.target, b"Cache-Tag: all, " + head.target.strip(b"/"))


class AdminTests(CacheFileTestCase):
    """Figures, entries and purges."""

    def setUp(self) -> None:
        """Have three pages stored."""
        super().setUp()
        self.upstream.script = echo(tagged)
        self.write()
        self.start()
        for target in (b"/a", b"/a/b", b"/c"):
            self.get(target)

    def kept(self) -> list[bytes]:
        """Return which of the pages are stored."""
        only = b"Cache-Control: only-if-cached"
        return [one for one in (b"/a", b"/a/b", b"/c") if self.get(one, only).status == 200]

    def test_figures(self) -> None:
        """Each request counts as what it was."""
        self.get(b"/a")
        self.get(b"/a")
        self.get(b"/a", b"Cache-Control: no-cache")
        self.proxy.ask(request(b"POST /x HTTP/1.1"))
        told_of = self.tell()
        store = told_of["store"]
        self.assertEqual(
            ("memory", 3, 64 * MIB), (store["store"], store["entries"], store["bound"])
        )
        self.assertLess(0, store["bytes"])
        route = told_of["routes"]["/"]
        expected = {"requests": 7, "hits": 2, "misses": 4, "stored": 4, "passed": 1, "collapsed": 0}
        self.assertEqual(expected, {name: route[name] for name in expected})

    def test_entries(self) -> None:
        """What is stored is shown by the URLs that clients ask for."""
        shown = self.tell(b"/api/cache/entries?prefix=" + HOST.encode() + b"/a")["entries"]
        self.assertEqual({HOST + "/a", HOST + "/a/b"}, {entry["url"] for entry in shown})
        (entry,) = self.tell(b"/api/cache/entries?tag=c")["entries"]
        self.assertEqual((HOST + "/c", 200, 2), (entry["url"], entry["status"], entry["bytes"]))

    def test_purges(self) -> None:
        """What is purged is asked for anew, and nothing else."""
        for what, left in (
            ({"url": HOST + "/a"}, [b"/a/b", b"/c"]),
            ({"tag": "c"}, [b"/a/b"]),
            ({"prefix": HOST + "/a/"}, []),
        ):
            self.assertEqual(1, self.tell(b"/api/cache/purge", what)["purged"])
            self.assertEqual(left, self.kept())
            self.assertEqual(0, self.tell(b"/api/cache/purge", what)["purged"])
        self.assertEqual(0, self.tell()["store"]["entries"])
        for target in (b"/a", b"/c"):
            self.get(target)
        self.assertEqual(2, self.tell(b"/api/cache/purge", {"tag": "all"})["purged"])

    def test_upstream_stops(self) -> None:
        """Fresh responses outlive their upstream; what is not stored gets 502."""
        self.upstream.close()
        self.assertTrue(is_hit(self.get(b"/a")))
        self.assertEqual(502, self.get(b"/other").status)


class StaleTests(CacheFileTestCase):
    """An upstream that is away."""

    def test_stale_if_error(self) -> None:
        """What is stale stands in for an upstream that takes no connections (RFC 5861 4)."""
        said = b"Cache-Control: max-age=0, stale-if-error=60"
        self.upstream.script = answer(fresh(b"old").replace(b"Cache-Control: max-age=60", said, 1))
        self.write()
        self.start()
        self.get()
        self.upstream.close()
        for _ in range(3):
            response = self.get()
            self.assertEqual((200, b"old"), (response.status, response.body))
            self.assertTrue(told(response))
        self.assertEqual(502, self.get(b"/other").status)


class ReloadTests(CacheFileTestCase):
    """SIGHUP."""

    def test_kept(self) -> None:
        """A reload keeps what is stored, and the counts."""
        self.upstream.script = answer(fresh(b"x" * 1000))
        self.write()
        self.start()
        self.get()
        self.get()
        before = self.route()
        self.reload()
        self.assertEqual(before, self.route())
        self.assertTrue(is_hit(self.get()))
        self.assertEqual(before["hits"] + 1, self.route()["hits"])
        self.assertEqual(1, len(self.upstream.heads))

    def test_bounds(self) -> None:
        """New bounds hold at once, for what is stored already too."""
        content = b"x" * 100_000
        self.upstream.script = answer(fresh(content))
        self.write('memory = "8m"\nentry = "1m"')
        self.start()
        targets = [b"/%d" % number for number in range(20)]
        for target in targets:
            self.get(target)
        self.assertEqual(20, self.tell()["store"]["entries"])
        self.write('memory = "1m"\nentry = "50k"')
        self.reload()
        store = self.tell()["store"]
        self.assertEqual(MIB, store["bound"])
        self.assertLessEqual(store["bytes"], MIB)
        self.assertEqual(20, store["entries"] + store["evicted"])
        self.assertIn(store["entries"], range(8, 11))
        self.assertIn("detail=no-room", told(self.get(b"/more")))

    def test_off_and_on(self) -> None:
        """A route that caches no more serves nothing that is stored; one that does again, all."""
        self.upstream.script = answer(fresh())
        self.write()
        self.start()
        self.get()
        self.write(policy="false")
        self.reload()
        response = self.get()
        self.assertIsNone(response.value(b"cache-status"))
        self.assertEqual(2, len(self.upstream.heads))
        self.write()
        self.reload()
        self.assertTrue(is_hit(self.get()))

    def test_other_upstream(self) -> None:
        """What one upstream said is never told as another's."""
        self.upstream.script = answer(fresh(b"one"))
        self.write()
        self.start()
        self.get()
        text = self.path.read_text()
        self.path.write_text(text.replace(f"127.0.0.1:{self.upstream.port}", "localhost:1"))
        self.reload()
        self.assertEqual(502, self.get().status)

    def test_other_fields(self) -> None:
        """What came for other fields that the route adds is not served any more."""
        self.upstream.script = echo(lambda head: fresh(head.value(b"x-tenant") or b"none"))
        self.write()
        self.start()
        self.assertEqual(b"none", self.get().body)
        with self.path.open("a") as file:
            file.write('set_headers = { X-Tenant = "blue" }\n')
        self.reload()
        self.assertEqual(b"blue", self.get().body)
        self.assertEqual(b"blue", self.get().body)
        self.assertEqual(2, len(self.upstream.heads))


class WorkersTests(CacheFileTestCase):
    """Two workers, each with a store of its own."""

    workers = 2

    def setUp(self) -> None:
        """Start both, and have pages in each."""
        super().setUp()
        self.upstream.script = echo(tagged)
        self.write()
        wait_workers(self.start())
        self.assertTrue(eventually(lambda: self.fill() == 6, 30.0))

    def fill(self) -> int:
        """Ask for three pages; return how many entries there are now."""
        for target in (b"/a", b"/a/b", b"/c"):
            self.get(target)
        entries = self.tell()["store"]["entries"]
        assert isinstance(entries, int)
        return entries

    def get(self, target: bytes = b"/", *fields: bytes) -> Response:
        """Ask on a new connection; some worker answers."""
        return super().get(target, *fields)

    def test_sums(self) -> None:
        """Figures are those of both, and none of a worker is left out."""
        told_of = self.tell()
        self.assertEqual([], told_of["silent"])
        route = told_of["routes"]["/"]
        self.assertEqual((6, 6), (route["misses"], route["stored"]))
        self.assertEqual(route["requests"], route["hits"] + route["misses"])
        self.assertEqual(64 * MIB, told_of["store"]["bound"])

    def test_entries(self) -> None:
        """An entry says which worker has it."""
        shown = self.tell(b"/api/cache/entries?tag=c")["entries"]
        self.assertEqual({HOST + "/c"}, {entry["url"] for entry in shown})
        self.assertEqual(2, len({entry["worker"] for entry in shown}))

    def test_purges(self) -> None:
        """A purge reaches both."""
        for what, gone in (
            ({"url": HOST + "/a"}, b"/a"),
            ({"tag": "c"}, b"/c"),
            ({"prefix": HOST + "/a/"}, b"/a/b"),
        ):
            self.assertEqual(2, self.tell(b"/api/cache/purge", what)["purged"])
            for _ in range(10):
                only = self.get(gone, b"Cache-Control: only-if-cached")
                self.assertEqual(504, only.status)
        self.assertEqual(0, self.tell()["store"]["entries"])

    def test_reload(self) -> None:
        """A reload keeps what the workers have stored, or says with the figures that it did not."""
        before = self.tell()["store"]["entries"]
        self.reload()
        self.assertEqual(before, self.tell()["store"]["entries"])
