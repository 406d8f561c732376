"""Where a key stands in its file."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pyproxy.config.places import Places
from pyproxy.config.walker import KeyPath

TEXT = '''# a comment

workers = 1
[[routes]]
path = "/a"
methods = [
  "GET",
  "POST",
]
note = """
[upstreams.x]
"""

[[routes]]
path = "/b"
"odd key" = 1
[upstreams.x]
set_headers = { A = "1", B = "2" }
limits.connect = 5
'''


class PlacesTests(SynchronousTestCase):
    """The line on which a key, or what is nearest around it, can be found."""

    def test_lines(self) -> None:
        """Of keys, of tables by their headers, of long values by their last line."""
        places = Places(TEXT)
        for path, line in (
            (("workers",), 3),
            (("routes",), 4),
            (("routes", 0), 4),
            (("routes", 0, "path"), 5),
            (("routes", 0, "methods"), 9),
            (("routes", 0, "methods", 1), 9),
            (("routes", 0, "note"), 12),
            (("routes", 1), 14),
            (("routes", 1, "path"), 15),
            (("routes", 1, "odd key"), 16),
            (("upstreams", "x"), 17),
            (("upstreams", "x", "set_headers", "B"), 18),
            (("upstreams", "x", "limits", "connect"), 19),
        ):
            self.assertEqual(line, places.line(path), path)

    def test_what_is_not_there(self) -> None:
        """A missing key is sought in its table, a missing table in the file."""
        places = Places(TEXT)
        for path, line in (
            (("routes", 1, "upstream"), 14),
            (("routes", 7), 4),
            (("listeners",), 1),
            (("routes", "path"), 4),
            (("workers", 0), 3),
            ((), 1),
        ):
            found: KeyPath = path
            self.assertEqual(line, places.line(found), path)

    def test_empty(self) -> None:
        """A file without a line."""
        self.assertEqual(1, Places("").line(("routes",)))

    def test_many(self) -> None:
        """Lines are found in a large file too, until that has taken too long."""
        count = 1000
        text = "".join(f'[[routes]]\npath = "/{n}"\n' for n in range(count))
        places = Places(text)
        self.assertEqual(
            [2, 1000, 2000], [places.line(("routes", n, "path")) for n in (0, 499, 999)]
        )
        places._end = 0.0
        self.assertEqual(0, places.line(("routes", 1, "path")))
