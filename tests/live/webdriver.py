"""A browser as a person has it: a headless Chromium that its own driver steers.

Spec: W3C WebDriver, of which little is needed; the logs are chromedriver's own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from http.client import HTTPConnection
from typing import Any, Self
from urllib.parse import urlsplit

from tests.live.kit import PATIENCE, eventually, free_port

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")

START_LIMIT = 60.0
"""Seconds in which the browser has to start, and to answer a command."""

DESKTOP = (1280, 900)
PHONE = (390, 844)
"""Sizes of windows."""

_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class Browser:
    """A browser with one window.  Args: the window's size; what its requests have to say."""

    def __init__(self, size: tuple[int, int] = DESKTOP) -> None:
        self._size = size
        self._profile = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._port = free_port()
        self._session = ""

    def __enter__(self) -> Self:
        self._profile = tempfile.mkdtemp(prefix="live-driver-")
        self._process = subprocess.Popen(
            [DRIVER or "chromedriver", f"--port={self._port}", "--allowed-ips=127.0.0.1"],
            env={**os.environ, "TMPDIR": self._profile},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            if not eventually(self._is_ready, START_LIMIT):
                raise AssertionError("the browser's driver does not start")
            self._begin()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        if self._session:
            self._ask("DELETE", "")
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(START_LIMIT)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self._profile, ignore_errors=True)

    def _is_ready(self) -> bool:
        try:
            return bool(self._call("GET", "/status")["ready"])
        except OSError:
            return False

    def _begin(self) -> None:
        width, height = self._size
        arguments = [
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update"),
            *("--disable-sync", "--disable-quic", "--no-proxy-server", "--hide-scrollbars"),
            "--host-resolver-rules=MAP *.test 127.0.0.1",
            f"--user-data-dir={self._profile}/profile",
            f"--window-size={width},{height}",
        ]
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": {"binary": CHROMIUM, "args": arguments},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        said = self._call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._session = said["sessionId"]
        self._ask("POST", "/timeouts", {"implicit": int(PATIENCE * 1000)})
        # A window of a desktop cannot be as narrow as a phone.
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1}
        self.command("Emulation.setDeviceMetricsOverride", mobile=width < 500, **metrics)

    def _call(self, method: str, path: str, content: object = None) -> Any:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=START_LIMIT)
        try:
            octets = None if content is None else json.dumps(content).encode()
            connection.request(method, path, octets, {"Content-Type": "application/json"})
            value = json.loads(connection.getresponse().read())["value"]
        finally:
            connection.close()
        if isinstance(value, dict) and "error" in value:
            raise AssertionError(f"{path}: {value['error']}: {value.get('message')}")
        return value

    def _ask(self, method: str, path: str, content: object = None) -> Any:
        return self._call(method, f"/session/{self._session}{path}", content)

    def command(self, name: str, **parameters: Any) -> Any:
        """Give a command of Chromium's own protocol."""
        return self._ask("POST", "/goog/cdp/execute", {"cmd": name, "params": parameters})

    def open(self, url: str) -> None:
        """Go to a page."""
        self._ask("POST", "/url", {"url": url})

    @property
    def url(self) -> str:
        """Where it is."""
        return str(self._ask("GET", "/url"))

    def run(self, script: str, *arguments: Any) -> Any:
        """Run a script in the page; return what it returns."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def wait(self, script: str, limit: float = START_LIMIT) -> Any:
        """Run a script until it returns something true; return that, or the last."""
        end = time.monotonic() + limit
        while not (found := self.run(script)) and time.monotonic() < end:
            time.sleep(0.02)
        return found

    def click(self, selector: str) -> None:
        """Click on an element, as a person does."""
        self._ask("POST", f"/element/{self._find(selector)}/click", {})

    def type(self, selector: str, text: str) -> None:
        """Type into an element."""
        self._ask("POST", f"/element/{self._find(selector)}/value", {"text": text})

    def _find(self, selector: str) -> str:
        found = self._ask("POST", "/element", {"using": "css selector", "value": selector})
        return str(found[_ELEMENT])

    def name_of(self, selector: str, number: int) -> str:
        """Return the accessible name of one of the elements that match."""
        found = self._ask("POST", "/elements", {"using": "css selector", "value": selector})
        return str(self._ask("GET", f"/element/{found[number][_ELEMENT]}/computedlabel"))

    def troubles(self) -> list[str]:
        """Return what the console has said of errors, since it was asked last."""
        entries = self._ask("POST", "/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]

    def hosts(self) -> set[str]:
        """Return the hosts and ports that were asked for anything, since it was asked last."""
        found = set()
        for entry in self._ask("POST", "/se/log", {"type": "performance"}):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                parts = urlsplit(message["params"]["request"]["url"])
                if parts.scheme not in ("data", "blob", "chrome"):
                    found.add(parts.netloc)
        return found

    def picture(self) -> str:
        """Return what it shows, as PNG in base64."""
        return str(self._ask("GET", "/screenshot"))
