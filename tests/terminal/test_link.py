"""The stream of an admin site, and what else may answer at its address."""

from __future__ import annotations

import socket
import threading

from twisted.trial.unittest import SynchronousTestCase

from pyproxy.admin.command import Trouble
from pyproxy.terminal import link
from pyproxy.terminal.link import Link

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LIMIT = 10.0


def chunk(octets: bytes) -> bytes:
    """Return a chunk."""
    return b"%x\r\n%b\r\n" % (len(octets), octets)


class LinkTests(SynchronousTestCase):
    """A link to somebody who answers as a test says."""

    def setUp(self) -> None:
        """Listen."""
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.listener.close)
        self.listener.settimeout(LIMIT)
        self.place = f"tcp:{self.listener.getsockname()[1]}"
        self.asked = b""

    def answered(self, answer: bytes, stays: bool = False) -> Link:
        """Ask somebody who answers so, and leaves unless he stays."""
        leave = threading.Event()

        def serve() -> None:
            client, _ = self.listener.accept()
            with client:
                client.settimeout(LIMIT)
                while b"\r\n\r\n" not in self.asked:
                    self.asked += client.recv(65536)
                client.sendall(answer)
                if stays:
                    leave.wait(LIMIT)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        self.addCleanup(thread.join, LIMIT)
        self.addCleanup(leave.set)
        return Link.open(self.place, "/events", "a-token")

    def test_events(self) -> None:
        """Events come as they are cut; comments and what has no data are none."""
        text = b'retry: 9\n\n: c\n\nevent: a\ndata: {"b":1}\n\nevent: c\r\ndata: [2]\r\n\r\n'
        cut = b"".join(chunk(text[at : at + 5]) for at in range(0, len(text), 5))
        found = self.answered(HEAD + cut + b"0\r\n\r\n")
        self.assertEqual([("a", {"b": 1}), ("c", [2])], list(found.events()))
        self.assertIn(b"Authorization: Bearer a-token\r\n", self.asked)

    def test_refused(self) -> None:
        """A refusal is told in the site's own words, or with its status."""
        for content, words in (
            (b'{"detail": "No."}', "No."),
            (b"x", "it answers 403"),
            (b"", "403"),
        ):
            self.asked = b""
            head = b"HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\n\r\n" % len(content)
            error = self.assertRaises(Trouble, self.answered, head + content)
            self.assertIn(words, str(error))

    def test_strangers(self) -> None:
        """What is no admin site is called so."""
        error = self.assertRaises(Trouble, self.answered, b"SSH-2.0-x\r\n")
        self.assertIn("no admin site", str(error))
        self.asked = b""
        found = self.answered(HEAD + chunk(b"data: no json\n\n") + b"0\r\n\r\n")
        error = self.assertRaises(Trouble, list, found.events())
        self.assertIn("no admin site", str(error))

    def test_leaves(self) -> None:
        """One who leaves without an answer, or in the middle of one, is away."""
        self.assertRaises(Trouble, self.answered, b"")
        self.asked = b""
        found = self.answered(HEAD + chunk(b'data: {"b":1}\n\n') + b"9\r\nda")
        events = found.events()
        self.assertEqual(("", {"b": 1}), next(events))
        self.assertRaises(Trouble, list, events)

    def test_silence(self) -> None:
        """One who says nothing for too long is away."""
        self.patch(link, "SILENCE_LIMIT", 0.1)
        found = self.answered(HEAD, stays=True)
        error = self.assertRaises(Trouble, list, found.events())
        self.assertIn("nothing came", str(error))

    def test_place(self) -> None:
        """What is no place is refused."""
        self.assertRaises(Trouble, Link.open, "ftp://x", "/events")
