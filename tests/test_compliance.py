"""What the comparison of verdicts blames the proxy for, so that the runs themselves can fail."""

from __future__ import annotations

import socket
import struct

from twisted.trial.unittest import SynchronousTestCase

from compliance.verdicts import Comparison, Verdict, read_report, table
from compliance.wires import gathering

OK = Verdict("OK", "OK", 1000)
LAX = Verdict("NON-STRICT", "OK", 1000)
FAILED = Verdict("FAILED", "FAILED", None)


class VerdictTests(SynchronousTestCase):
    """Which verdict is worse."""

    def test_worse(self) -> None:
        """A worse behavior, in the case or at the close, whatever the other one is."""
        for better, worse in (
            (OK, LAX),
            (LAX, FAILED),
            (OK, Verdict("OK", "WRONG CODE", 1000)),
            (OK, Verdict("UNIMPLEMENTED", "OK", 1000)),
            (Verdict("FAILED", "OK", 1000), FAILED),
            (FAILED, Verdict("SOMETHING NEW", "FAILED", None)),
        ):
            self.assertTrue(better.no_worse_than(worse), (better, worse))
            self.assertFalse(worse.no_worse_than(better), (better, worse))

    def test_itself(self) -> None:
        """A verdict is no worse than itself; with another close code it is another one."""
        for verdict in (OK, FAILED, Verdict("SOMETHING NEW", "OK", None)):
            self.assertTrue(verdict.no_worse_than(verdict))
        for code in (1002, None):
            self.assertFalse(Verdict("OK", "OK", code).no_worse_than(OK))
            self.assertFalse(OK.no_worse_than(Verdict("OK", "OK", code)))

    def test_neither(self) -> None:
        """What is better in one thing and worse in another is worse."""
        one, other = Verdict("FAILED", "OK", 1000), Verdict("OK", "FAILED", None)
        self.assertFalse(one.no_worse_than(other) or other.no_worse_than(one))


class ComparisonTests(SynchronousTestCase):
    """What the proxy is to blame for, and what not."""

    def compare(
        self,
        *runs: tuple[dict[str, Verdict], dict[str, Verdict]],
        cases: tuple[str, ...] = ("1.1",),
    ) -> Comparison:
        """Return the comparison of some runs, direct and proxied."""
        comparison = Comparison(cases)
        for direct, proxied in runs:
            comparison.add(direct, proxied)
        return comparison

    def test_same(self) -> None:
        """The same verdicts are neither different nor missing nor unsteady."""
        found = self.compare(({"1.1": FAILED}, {"1.1": FAILED}))
        self.assertEqual([], found.differences() + found.missing() + found.unsteady())
        self.assertEqual([], found.unsettled())

    def test_different(self) -> None:
        """Each part of a verdict counts, the close code too."""
        for other in (
            Verdict("FAILED", "OK", 1000),
            Verdict("OK", "WRONG CODE", 1000),
            Verdict("OK", "OK", 1002),
            Verdict("OK", "OK", None),
        ):
            found = self.compare(({"1.1": OK}, {"1.1": other}))
            self.assertEqual(["1.1"], found.differences())
            self.assertEqual(["1.1"], found.unsettled())

    def test_missing(self) -> None:
        """A case without a verdict on one of the ways, or on both, is missing."""
        for direct, proxied in (({}, {"1.1": OK}), ({"1.1": OK}, {}), ({}, {})):
            found = self.compare((direct, proxied))
            self.assertEqual(["1.1"], found.missing())
            self.assertEqual([], found.differences())

    def test_timing(self) -> None:
        """No worse than the worst that the server gives directly, in whatever run, is no fault."""
        tried: tuple[tuple[tuple[dict[str, Verdict], dict[str, Verdict]], ...], ...] = (
            (({"1.1": OK}, {"1.1": LAX}), ({"1.1": LAX}, {"1.1": LAX})),
            (({"1.1": OK}, {"1.1": LAX}), ({"1.1": OK}, {"1.1": LAX}), ({"1.1": LAX}, {})),
            (({"1.1": OK}, {"1.1": LAX}), ({"1.1": FAILED}, {"1.1": LAX})),
        )
        for runs in tried:
            found = self.compare(*runs)
            self.assertEqual([], found.differences())
            self.assertEqual([], found.unsettled())
            self.assertEqual(["1.1"], found.unsteady())

    def test_better(self) -> None:
        """A better verdict than any direct one is shown, and no fault."""
        found = self.compare(({"1.1": LAX}, {"1.1": OK}))
        self.assertEqual([], found.differences() + found.unsettled())
        self.assertEqual(["1.1"], found.unsteady())

    def test_sometimes_wrong(self) -> None:
        """A fault at times is run again and shown; as it passes at times it is no difference."""
        found = self.compare(({"1.1": OK}, {"1.1": FAILED}), ({"1.1": OK}, {"1.1": OK}))
        self.assertEqual([], found.differences())
        self.assertEqual(["1.1"], found.unsettled())
        self.assertEqual(["1.1"], found.unsteady())
        self.assertIn("FAILED/FAILED/no Close, OK/OK/1000", table(found, found.unsteady()))

    def test_never_right(self) -> None:
        """A case that is at best worse than every direct verdict differs, however often it ran."""
        run = ({"1.1": OK}, {"1.1": FAILED})
        found = self.compare(run, run, run)
        self.assertEqual(["1.1"], found.differences())
        self.assertIn("3 x FAILED/FAILED/no Close", table(found, found.differences()))

    def test_totals(self) -> None:
        """Cases are counted by their first verdict."""
        found = self.compare(
            ({"1.1": OK, "1.2": OK}, {"1.1": OK, "1.2": FAILED}), cases=("1.1", "1.2")
        )
        self.assertEqual([("FAILED/FAILED", 0, 1), ("OK/OK", 2, 1)], found.totals())

    def test_report(self) -> None:
        """The suite's own report is read."""
        entry = {"behavior": "OK", "behaviorClose": "OK", "remoteCloseCode": 1000, "duration": 3}
        index = {"ws": {"1.1": entry, "1.2": {**entry, "remoteCloseCode": None}}}
        self.assertEqual({"1.1": OK, "1.2": Verdict("OK", "OK", None)}, read_report(index, "ws"))
        self.assertEqual({}, read_report(index, "another"))


class WireTests(SynchronousTestCase):
    """The wire that gathers what comes soon after each other."""

    def lay(self) -> tuple[socket.socket, socket.socket]:
        """Return the two ends of a wire."""
        server = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(server.close)
        wire = gathering(server.getsockname()[1])
        client = socket.create_connection(("127.0.0.1", wire.__enter__()))
        self.addCleanup(wire.__exit__, None, None, None)
        accepted, _ = server.accept()
        for each in (client, accepted):
            each.settimeout(10)
            self.addCleanup(each.close)
        return client, accepted

    def test_faithful(self) -> None:
        """All octets arrive both ways, in order, and each end."""
        client, accepted = self.lay()
        for octets in (b"a", b"b", bytes(300_000)):
            client.sendall(octets)
        client.shutdown(socket.SHUT_WR)
        self.assertEqual(b"ab" + bytes(300_000), read_to_end(accepted))
        accepted.sendall(b"back")
        accepted.close()
        self.assertEqual(b"back", read_to_end(client))

    def test_gathers(self) -> None:
        """What is sent in two writes arrives in one read, as it may on any machine."""
        client, accepted = self.lay()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        seen: set[bytes] = set()
        # A machine that is busy right between the two writes needs another go.
        for _ in range(100):
            client.sendall(b"a")
            client.sendall(b"b")
            seen.add(first := accepted.recv(2))
            if len(first) == 2:
                break
            seen.add(accepted.recv(1))
        self.assertIn(b"ab", seen)

    def test_broken(self) -> None:
        """A reset is passed on as one."""
        client, accepted = self.lay()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        self.assertRaises(ConnectionResetError, accepted.recv, 1)


def read_to_end(sock: socket.socket) -> bytes:
    """Return what comes until the peer closes."""
    octets = b""
    while more := sock.recv(65536):
        octets += more
    return octets
