"""The benchmarks' arithmetic: targets, tables and the drawing.  Starts no process."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import attrs
from twisted.trial.unittest import SynchronousTestCase

from benchmarks import metrics, plot, report, targets
from benchmarks.__main__ import MEASURES, USUAL, plan
from benchmarks.descriptors import descriptors_missing
from benchmarks.load import Client, Flood, Job, Soak, Tally, summary
from benchmarks.measures import Measure
from benchmarks.payloads import EVENT_LENGTH, EVENT_MARK, FLOOD_EVENTS, KIB, event, own_answer
from benchmarks.processes import Running
from benchmarks.silence import run_ns_in
from benchmarks.systems import SYSTEMS
from benchmarks.targets import HOLDS, MISSED, TARGETS, UNKNOWN, Bound, Target, judge
from benchmarks.upstream import EVENTS_HEAD, FLOOD_BATCH

SMALL: Measure = next(measure for measure in MEASURES if measure.name == "small")
MEMORY: Measure = next(measure for measure in MEASURES if measure.name == "memory")
NAMES = ["pyproxy", "nginx", "aiohttp", "direct"]


def results() -> report.Results:
    """Return two rounds in which pyproxy costs half of aiohttp and five times nginx."""
    made = report.Results(notes={"rounds": "2"})
    for more in (0.0, 2.0):
        made.add(SMALL, "pyproxy", {"rate": 9000, "CPU": 99 + more})
        made.add(SMALL, "nginx", {"rate": 50000, "CPU": 19 + more})
        made.add(SMALL, "aiohttp", {"rate": 4500, "CPU": 199 + more})
    return made


def lines_of(text: str) -> list[list[str]]:
    """Return the words of each line."""
    return [line.split() for line in text.splitlines()]


class TargetTests(SynchronousTestCase):
    """A target holds, is missed, or cannot be told."""

    TARGET = Target("small", "CPU", Bound(0.5, "aiohttp"), Bound(4.0, "nginx"))

    def test_ratios(self) -> None:
        """Each bound meets the ratio to its own peer; the bound itself is good enough."""
        judged = judge(self.TARGET, "pyproxy", results().median)
        self.assertEqual(judged.value, 100)
        self.assertEqual((judged.at_least.measured, judged.at_least.verdict), (0.5, HOLDS))
        self.assertEqual((judged.aim.measured, judged.aim.verdict), (5.0, MISSED))

    def test_more_is_better(self) -> None:
        """A rate has to reach its bound, not to stay below."""
        for bound, verdict in ((2.0, HOLDS), (2.1, MISSED)):
            target = Target("small", "rate", Bound(bound, "aiohttp"), Bound(1), more_is_better=True)
            judged = judge(target, "pyproxy", results().median)
            self.assertEqual(judged.at_least.verdict, verdict)

    def test_absolute(self) -> None:
        """A bound without a peer is a figure in the unit of the measure."""
        made = report.Results()
        made.add(MEMORY, "pyproxy", {"stream": 11.0})
        judged = judge(Target("memory", "stream", Bound(14), Bound(8)), "pyproxy", made.median)
        self.assertEqual((judged.at_least.measured, judged.at_least.verdict), (11.0, HOLDS))
        self.assertEqual((judged.aim.measured, judged.aim.verdict), (11.0, MISSED))

    def test_plus(self) -> None:
        """A bound may allow for so much more than the peer's figure."""
        for plus, verdict in ((80, HOLDS), (79, MISSED)):
            target = Target("small", "CPU", Bound(1.0, "nginx", plus=plus), Bound(1))
            at_least = judge(target, "pyproxy", results().median).at_least
            self.assertEqual(at_least.verdict, verdict)
            line = report.targets_table([judge(target, "pyproxy", results().median)], [SMALL])
            self.assertIn(f"<= 1.00 nginx + {plus}", line)

    def test_not_measured(self) -> None:
        """Without the peer, or with nothing from it, no bound holds; ``missed`` counts that."""
        for nothing in ({}, {"CPU": 0.0}):
            made = report.Results()
            made.add(SMALL, "pyproxy", {"CPU": 100})
            made.add(SMALL, "aiohttp", nothing)
            judged = judge(self.TARGET, "pyproxy", made.median)
            self.assertEqual(judged.at_least.verdict, UNKNOWN)
            self.assertEqual(targets.missed([judged]), [judged])

    def test_only_an_aim_missed(self) -> None:
        """A missed aim is no miss."""
        judged = judge(self.TARGET, "pyproxy", results().median)
        self.assertEqual(judged.aim.verdict, MISSED)
        self.assertEqual(targets.missed([judged]), [])

    def test_targets_name_what_exists(self) -> None:
        """Each target names a usual measure's figure with its sense, and peers that take part."""
        systems = {system.name: system for system in SYSTEMS}
        measures = {measure.name: measure for measure in USUAL}
        for target in TARGETS:
            measure = measures[target.measure]
            figure = next(one for one in measure.figures if one.name == target.figure)
            self.assertEqual(figure.more_is_better, target.more_is_better)
            for bound in (target.at_least, target.aim):
                if bound.peer is not None:
                    self.assertIn(measure.upstream, systems[bound.peer].upstreams)

    def test_an_aim_asks_for_more(self) -> None:
        """Where both bounds are of one kind the aim is the stricter one."""
        for target in TARGETS:
            if target.at_least.peer == target.aim.peer:
                self.assertLess(target.aim.value, target.at_least.value)


class ReportTests(SynchronousTestCase):
    """Medians, ratios and targets as text, reST and JSON."""

    def setUp(self) -> None:
        """Report two rounds."""
        self.results = results()
        self.judged = report.judged(self.results, [SMALL, MEMORY])
        self.document = report.document(self.results, [SMALL], NAMES, self.judged[:2])

    def test_medians_and_ratios(self) -> None:
        """The first table has the medians, the second ours by theirs, ``direct`` left out."""
        lines = lines_of(report.table(self.results, [SMALL], NAMES))
        self.assertIn(["small", "CPU", "us/request", "100", "20.0", "200", "-"], lines)
        self.assertIn(["small", "CPU", "less", "5.00", "0.50"], lines)
        self.assertIn(["rounds:", "2"], lines)

    def test_errors_are_remarks(self) -> None:
        """What went wrong while the time ran is added up and shown."""
        for _ in range(2):
            self.results.add(SMALL, "nginx", {"CPU": 19, "errors": 3})
        lines = report.table(self.results, [SMALL], NAMES).splitlines()
        self.assertIn("ERRORS: small, nginx: 6 while the time ran", lines)

    def test_targets(self) -> None:
        """Each line has the figure, both bounds, both ratios and both verdicts."""
        lines = lines_of(report.targets_table(self.judged[:2], [SMALL]))
        expected = "small CPU us/request 100 <= 0.45 aiohttp 0.50 MISSED <= 2.50 nginx 5.00 MISSED"
        self.assertIn(expected.split(), lines)
        expected = (
            "small rate requests/s 9000 >= 2.20 aiohttp 2.00 MISSED >= 0.40 nginx 0.18 MISSED"
        )
        self.assertIn(expected.split(), lines)

    def test_targets_that_were_asked_for(self) -> None:
        """A measure that nobody asked for has no target; one without a figure is not measured."""
        self.assertEqual({one.target.measure for one in self.judged}, {"small", "memory"})
        memory = [one for one in self.judged if one.target.measure == "memory"]
        self.assertEqual([one.at_least.verdict for one in memory], [UNKNOWN])
        self.assertEqual(report.targets_table([], [SMALL]), "")

    def test_columns_stand_under_each_other(self) -> None:
        """Every line of a table has its columns at the same places."""
        text = report.targets_table(self.judged[:2], [SMALL])
        rows = [line for line in text.splitlines() if line.startswith("small")]
        self.assertEqual(len({row.index("aiohttp") for row in rows}), 1)

    def test_rest(self) -> None:
        """The reST has a list-table of medians and one of targets, each row whole."""
        text = report.rest(self.document)
        self.assertEqual(text.count(".. list-table::"), 2)
        medians, goals = text.split(".. list-table::")[1:]
        rows = [["measure", "figure", "pyproxy", "nginx", "aiohttp"]]
        rows += [["small", "rate, requests/s", "9000", "50000", "4500"]]
        rows += [["small", "CPU, us/request", "100", "20.0", "200"]]
        for row in rows:
            self.assertIn("   * - " + "\n     - ".join(row) + "\n", medians)
        self.assertEqual(goals.count("* -"), 3)
        self.assertIn(":rounds: 2\n", text)

    def test_rest_parts_websockets(self) -> None:
        """Requests and WebSockets have tables of their own; what is missing is no bullet list."""
        echo = next(measure for measure in MEASURES if measure.name == "ws-64")
        self.results.add(echo, "autobahn", {"CPU": 150.0})
        names = [*NAMES, "autobahn"]
        text = report.rest(report.document(self.results, [SMALL, echo], names, []))
        requests, sockets = text.split(".. list-table::")[1:]
        self.assertNotIn("autobahn", requests)
        self.assertIn("* - measure\n     - figure\n     - autobahn\n", sockets)
        self.assertIn("* - ws-64\n     - rate, messages/s\n     - –\n", sockets)

    def test_json(self) -> None:
        """The document survives JSON: the drawing and the reST are made of what was written."""
        again: report.Document = json.loads(json.dumps(self.document))
        self.assertEqual(again, self.document)
        self.assertEqual(report.rest(again), report.rest(self.document))


class PlotTests(SynchronousTestCase):
    """The drawing is XML with a bar for each system."""

    def bars(self, made: report.Results, names: list[str]) -> dict[str, float]:
        """Return the widths of the bars by system, in the drawing's order."""
        drawing = plot.svg(report.document(made, [SMALL], names, []))
        root = ElementTree.fromstring(drawing)
        found = root.iter("{http://www.w3.org/2000/svg}rect")
        bars = [one for one in found if one.get("class") == "bar"]
        return {one.attrib["data-system"]: float(one.attrib["width"]) for one in bars}

    def test_a_bar_a_system(self) -> None:
        """Every system that was measured has one bar, the cheapest first; ``direct`` has none."""
        bars = self.bars(results(), NAMES)
        self.assertEqual(list(bars), ["nginx", "pyproxy", "aiohttp"])

    def test_lengths(self) -> None:
        """Lengths are in proportion, as far as there is room."""
        bars = self.bars(results(), NAMES)
        self.assertAlmostEqual(bars["aiohttp"] / bars["pyproxy"], 2.0, places=2)
        made = results()
        made.add(SMALL, "treq", {"CPU": 100_000})
        bars = self.bars(made, [*NAMES, "treq"])
        self.assertAlmostEqual(bars["treq"] / bars["pyproxy"], plot.LONGEST, places=2)

    def test_names_are_escaped(self) -> None:
        """A name with special characters does not break the XML."""
        made = results()
        made.add(SMALL, 'a<b&"c"', {"CPU": 50})
        self.assertIn('a<b&"c"', self.bars(made, [*NAMES, 'a<b&"c"']))

    def test_nothing_measured(self) -> None:
        """A run without any of the panels gives an empty drawing."""
        self.assertEqual(self.bars(report.Results(), NAMES), {})

    def test_panels_exist(self) -> None:
        """Each panel is a usual measure's figure for which less is better."""
        senses = {(m.name, f.name): f.more_is_better for m in USUAL for f in m.figures}
        for place in plot.PANELS:
            self.assertIs(senses[place], False, place)


class MachineTests(SynchronousTestCase):
    """What is asked of the kernel."""

    def test_run_time(self) -> None:
        """A process's time on a CPU is read in nanoseconds, and grows while it works."""
        code = "import sys; print(sum(range(200_000)), flush=True); sys.stdin.read()"
        with subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as popen:
            process = Running(popen, Path(os.devnull))
            before = process.run_ns()
            assert popen.stdout is not None
            popen.stdout.readline()
            self.assertGreater(process.run_ns(), before)
            at_rest = run_ns_in(process, 0.0, calm=0.0)
            self.assertLess(at_rest, process.run_ns())

    def test_descriptors(self) -> None:
        """A measure that needs more descriptors than there are says so."""
        self.assertIsNone(descriptors_missing("streams", 1))
        missing = descriptors_missing("2 streams", 10**12)
        self.assertIsNotNone(missing)
        self.assertIn("2 streams need 1000000000000 descriptors", missing or "")


class PlanTests(SynchronousTestCase):
    """The command line."""

    def test_usual(self) -> None:
        """Everything but the soak, three rounds of three seconds; targets are not insisted on."""
        the_plan, outputs = plan([])
        self.assertNotIn("soak", [measure.name for measure in the_plan.measures])
        self.assertEqual((the_plan.rounds, the_plan.sizes.seconds), (3, 3))
        self.assertFalse(outputs.check)

    def test_soak(self) -> None:
        """A soak is one round of a minute, or of as many seconds as asked for."""
        the_plan, _ = plan(["--only", "soak"])
        self.assertEqual((the_plan.rounds, the_plan.sizes.soak_seconds), (1, 60))
        the_plan, _ = plan(["--only", "soak", "--seconds", "5"])
        self.assertEqual(the_plan.sizes.soak_seconds, 5)

    def test_quick(self) -> None:
        """A quick run has every measure, with fewer connections, once."""
        usual, quick = plan([])[0], plan(["--quick"])[0]
        self.assertEqual(usual.measures, quick.measures)
        self.assertEqual(quick.rounds, 1)
        for name in attrs.asdict(usual.sizes):
            self.assertLess(getattr(quick.sizes, name), getattr(usual.sizes, name))


class PayloadTests(SynchronousTestCase):
    """What the load counts is what the upstream wrote."""

    def test_a_mark_an_event(self) -> None:
        """A batch of a flood has as many marks as events, its chunked coding included."""
        self.assertEqual(FLOOD_BATCH.count(EVENT_MARK), FLOOD_EVENTS)
        self.assertTrue(0 <= 64 * KIB - len(FLOOD_BATCH) < EVENT_LENGTH)

    def test_an_event_has_its_length(self) -> None:
        """An event has the promised length, whatever its stamp and number."""
        for stamp, number in ((0, 0), (10**19, 10**9)):
            self.assertEqual(len(event(stamp, number)), EVENT_LENGTH)

    def test_soaked_answers_differ(self) -> None:
        """The answer to one request of a soak is wrong for every other one."""
        self.assertNotEqual(own_answer("1-23"), own_answer("12-3"))


class Wire(asyncio.Transport):
    """Keep what a client writes, and whether it gave up."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.aborted = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Take the limits; nothing is ever full here."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def abort(self) -> None:
        self.aborted = True


class LoadTests(SynchronousTestCase):
    """The load counts what came, and nothing else."""

    def test_percentiles(self) -> None:
        """One late answer in a hundred shows in the 99th percentile, one in a thousand later."""
        tally = Tally(messages=1000, delays_ns=[1000] * 985 + [2000] * 14 + [44_000_000])
        told = summary(Tally(), tally, 2.0)
        shown = [told[name] for name in ("median_us", "p99_us", "p999_us")]
        self.assertEqual([1, 2, 44_000], shown)
        self.assertEqual(0.0, summary(Tally(), Tally(), 2.0)["p999_us"])

    def connected(self, kind: type[Client]) -> tuple[Client, Wire]:
        """Return a client whose connection was just made."""
        client = kind(Job("soak", 80, 1, "/own"), 7, Tally(), lambda number: None)
        wire = Wire()
        client.connection_made(wire)
        return client, wire

    def answer(self, mark: str) -> bytes:
        """Return a response to the request of a mark."""
        content = own_answer(mark)
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(content), content)

    def test_own_answer(self) -> None:
        """A client of a soak counts its own answer and asks for the next, until told not to."""
        client, wire = self.connected(Soak)
        client.data_received(self.answer("7-1"))
        self.assertEqual((client.tally.sent, client.tally.messages), (2, 1))
        self.assertIn(b"mark=7-2", wire.written[1])
        client.tally.sending = False
        client.data_received(self.answer("7-2"))
        self.assertEqual((client.tally.sent, client.tally.messages), (2, 2))

    def test_lost_answer(self) -> None:
        """Somebody else's answer, an error and an answer that breaks off are not counted."""
        good = self.answer("7-1")
        for octets, aborts in (
            (self.answer("6-1"), True),
            (good.replace(b"200", b"502"), True),
            (good[:-1], False),
        ):
            client, wire = self.connected(Soak)
            client.data_received(octets)
            self.assertEqual(wire.aborted, aborts)
            client.connection_lost(None)
            self.assertEqual((client.tally.sent, client.tally.messages), (1, 0))
            self.assertEqual(client.tally.errors, 1)

    def test_flood_in_pieces(self) -> None:
        """Every event of a flood is counted once, wherever the reads end."""
        octets = EVENTS_HEAD + FLOOD_BATCH + FLOOD_BATCH
        for size in (1, 7, 4096, 65536, len(octets)):
            client, _ = self.connected(Flood)
            for at in range(0, len(octets), size):
                client.data_received(octets[at : at + size])
            self.assertEqual(client.tally.messages, 2 * FLOOD_EVENTS, size)


class MetricsTests(SynchronousTestCase):
    """The measure of a scrape writes all that was counted."""

    def test_scrape(self) -> None:
        """More routes are more octets, of however many processes."""
        *_, few = metrics.scrape(2, 1)
        *_, more = metrics.scrape(20, 2)
        self.assertGreater(few, 10_000)
        self.assertGreater(more, 5 * few)
