"""The resource at the root of the tree."""

from __future__ import annotations

from typing import Any, cast

from twisted.web.resource import IResource, Resource
from twisted.web.static import Data
from zope.interface.verify import verifyObject

from tests.memory import StageTestCase, request


class PrefixResourceTests(StageTestCase):
    """It forwards everything that nothing is mounted for."""

    def test_interface(self) -> None:
        """It is a resource of twisted.web, as routes are composed of."""
        root: Any = self.stage().root
        self.assertTrue(verifyObject(IResource, root))
        self.assertIsInstance(root, Resource)

    def test_not_walked(self) -> None:
        """The tree is walked only once something is mounted (invariant 8)."""
        scene = self.stage()
        root: Any = scene.root
        looked_up: list[bytes] = []
        find = root.getChildWithDefault

        def note(path: bytes, asked: Any) -> IResource:
            looked_up.append(path)
            return cast(IResource, find(path, asked))

        root.getChildWithDefault = note
        self.assertEqual(b"", scene.client(request(b"GET /a/b HTTP/1.1")).value())
        self.assertTrue(scene.answer().startswith(b"GET /a/b HTTP/1.1\r\n"))
        self.assertEqual([], looked_up)
        root.putChild(b"a", Data(b"x", "text/plain"))
        self.assertTrue(scene.client(request(b"GET /a HTTP/1.1")).value().endswith(b"x"))
        self.assertEqual([b"a"], looked_up)

    def test_extension_methods(self) -> None:
        """No method is looked up: ``render_PURGE`` need not exist."""
        scene = self.stage()
        for method in (b"PURGE", b"propfind", b"QUERY"):
            scene.client(request(method + b" / HTTP/1.1"))
            self.assertTrue(scene.answer().startswith(method + b" / HTTP/1.1\r\n"))

    def test_mounted_at_a_path_of_several_segments(self) -> None:
        """A tree below a child works; its siblings are forwarded."""
        scene = self.stage()
        root: Any = scene.root
        branch = Resource()
        branch.putChild(b"b", Data(b"mounted", "text/plain"))
        root.putChild(b"a", branch)
        self.assertTrue(scene.client(request(b"GET /a/b HTTP/1.1")).value().endswith(b"mounted"))
        scene.client(request(b"GET /b/a HTTP/1.1"))
        self.assertTrue(scene.answer().startswith(b"GET /b/a HTTP/1.1\r\n"))

    def test_outside_the_prefix(self) -> None:
        """Mounted resources need not lie under the prefix."""
        scene = self.stage(prefix=b"/api")
        root: Any = scene.root
        root.putChild(b"health", Data(b"well", "text/plain"))
        self.assertTrue(scene.client(request(b"GET /health HTTP/1.1")).value().endswith(b"well"))
        self.assertIn(b" 404 ", scene.client(request(b"GET /other HTTP/1.1")).value())
