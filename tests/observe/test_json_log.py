"""Access logs made of accounts: what a line says, and what it must not."""

from __future__ import annotations

import json
import re
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pyproxy.account import Account
from pyproxy.errors import BadResponse
from pyproxy.observe.facts import FACTS, NAMES, facts_of
from pyproxy.observe.json_log import account_log, parse_format, shown
from pyproxy.observe.masking import Mask
from pyproxy.semantics.dialects.reading import Usage
from pyproxy.semantics.trace_context import parse
from tests.documents import ROOT

BEGAN = 1_800_000_000.25
MASK = Mask.of([b"sekret"])


def account(**facts: Any) -> Account:
    """Return an account of a small exchange."""
    whole: dict[str, Any] = {
        "method": b"GET",
        "target": b"/a",
        "scheme": b"http",
        "client": b"192.0.2.1",
        "host": b"front.test",
        "route": "/",
        "status": 200,
        "sent": 5,
        "ended": BEGAN + 0.5,
        **facts,
    }
    return Account(1, "id-1", float, lambda account: None, BEGAN, **whole)


def line(kind: str, one: Account, mask: Mask = MASK) -> str:
    """Return the line of an account."""
    lines: list[str] = []
    account_log(kind, mask, lines.append)(one)
    (said,) = lines
    return said


class JsonTests(SynchronousTestCase):
    """One object of JSON a line."""

    def test_small(self) -> None:
        """What is known, in order; what is not is not there."""
        self.assertEqual(
            '{"time":"2027-01-15T08:00:00.250Z","request_id":"id-1","route":"/",'
            '"client":"192.0.2.1","method":"GET","target":"/a","protocol":"HTTP/1.1",'
            '"scheme":"http","host":"front.test","status":200,"received":0,"sent":5,'
            '"duration":0.5}',
            line("json", account()),
        )

    def test_whole(self) -> None:
        """Every fact, by its name, of its type."""
        one = account(
            minor_version=0,
            referer=b"http://a",
            user_agent=b"curl",
            websocket=True,
            received=7,
            messages_received=1,
            messages_sent=2,
            passed=BEGAN,
            asked=BEGAN,
            connected=BEGAN + 0.1,
            responded=BEGAN + 0.2,
            first=BEGAN + 0.3,
            last=BEGAN + 0.4,
            first_token=BEGAN + 0.3000004,
            last_token=BEGAN - 1,
            reused=True,
            peer="http://127.0.0.1:9",
            attempts=2,
            closed_by="upstream",
            error="http_response_incomplete",
            detail="a\nb",
            cache="uri-miss",
            model="gpt\u2028",
            dialect="openai-chat",
            usage=Usage(1, 2, 3, 4, 5, 0.5),
            events=3,
            comments=1,
            output_events=2,
            outcome="truncated",
            trace=parse(b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"),
        )
        said = line("json", one)
        self.assertTrue(said.isascii() and said.isprintable())
        facts = json.loads(said)
        self.assertEqual([fact.name for fact in FACTS], list(facts))
        kinds = {"string": str, "integer": int, "number": float, "true": bool}
        for fact in FACTS:
            self.assertIs(kinds[fact.type], type(facts[fact.name]), fact.name)
        self.assertEqual((0.0, 0.3), (facts["last_token"], facts["first_token"]))
        self.assertEqual("a b", facts["detail"])
        self.assertEqual("HTTP/1.0", facts["protocol"])

    def test_nothing_known(self) -> None:
        """What was refused before anybody knew what it is; a client that left."""
        one = Account(1, "id-1", float, lambda account: None, BEGAN)
        self.assertEqual(
            {
                "time": "2027-01-15T08:00:00.250Z",
                "request_id": "id-1",
                "status": 499,
                "received": 0,
                "sent": 0,
            },
            json.loads(line("json", one)),
        )

    def test_masked(self) -> None:
        """As the combined log is: secrets by value, and what looks like a credential."""
        facts = facts_of(
            account(
                target=b"/a?api_key=abc&b=sekret",
                host=b"sekret.test",
                referer=b"http://user:pass@h/?token=abc",
                user_agent=b"Bearer abcdefghijkl",
                detail="it said sekret",
            ),
            MASK,
        )
        for name in ("target", "host", "referer", "user_agent", "detail"):
            self.assertNotRegex(facts[name], "sekret|abc|pass", name)
        self.assertIn("***", facts["target"])

    def test_odd_octets(self) -> None:
        """Whatever a client sends stays on one line, of ASCII."""
        one = account(target=b"/\xff\xc3\xa4?a=\\", user_agent='"\u009b\u2028'.encode())
        said = line("json", one)
        self.assertTrue(said.isascii() and said.isprintable())
        facts = json.loads(said)
        self.assertEqual(
            ("/\\xff\u00e4?a=\\", '"\u009b\u2028'), (facts["target"], facts["user_agent"])
        )

    def test_unlogged(self) -> None:
        """A route without an access log has no line."""
        lines: list[str] = []
        account_log("json", MASK, lines.append)(account(logged=False))
        self.assertEqual([], lines)

    def test_error(self) -> None:
        """What the log alone may say of an error stands there."""
        one = account(ended=None)
        one.end(502, 3, BadResponse("bad", "bad for the log"), False)
        facts = json.loads(line("json", one))
        self.assertEqual(
            ("proxy", "http_protocol_error", "bad for the log", 502),
            (facts["closed_by"], facts["error"], facts["detail"], facts["status"]),
        )


class FormatTests(SynchronousTestCase):
    """A format of one's own."""

    def test_facts(self) -> None:
        """Each by its name; what is not known is a hyphen."""
        one = account(reused=True, connected=BEGAN + 1.5)
        self.assertEqual(
            '192.0.2.1 "GET /a" 200 {5} 1.500000 - true',
            line(
                '{client} "{method} {target}" {status} {{{sent}}} {connected} {model} {reused}', one
            ),
        )

    def test_escaped(self) -> None:
        """No value can break out of quotes."""
        one = account(target=b'/"\\\xff', detail="\x1b[0m")
        self.assertEqual('"/\\x22\\x5c\\x5cxff" \\x1b[0m', line('"{target}" {detail}', one))

    def test_parse(self) -> None:
        """Every fact can be asked for."""
        for name in NAMES:
            self.assertEqual([("", name)], parse_format(f"{{{name}}}"))
        self.assertRaises(ValueError, parse_format, "no fact")

    def test_shown(self) -> None:
        """Values as text."""
        self.assertEqual(["-", "true", "7", "0.100000"], [shown(v) for v in (None, True, 7, 0.1)])


class DocumentTests(SynchronousTestCase):
    """What is logged is what docs/logging.rst says."""

    def test_table(self) -> None:
        """Name, type, unit and meaning of every fact, in order."""
        text = (ROOT / "docs" / "logging.rst").read_text("utf-8")
        cells = r"^   \* - ``(\w+)``\n     - (.*)\n     -(.*)\n     - (.*)\n"
        rows = re.findall(cells, text, re.MULTILINE)
        self.assertEqual(
            [
                (
                    fact.name,
                    fact.type,
                    fact.unit.replace("`", "``"),
                    fact.meaning.replace("`", "``"),
                )
                for fact in FACTS
            ],
            [(name, kind, unit.strip(), meaning) for name, kind, unit, meaning in rows],
        )
