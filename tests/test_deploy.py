"""What ``deploy/`` has is accepted by what will read it, and its parts agree with each other."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import Any

import attrs
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from pyproxy.workers.supervisor import STOP_LIMIT
from tests.documents import DOCS, ROOT, blocks, commands

DEPLOY = ROOT / "deploy"

CONFIGURATION = "/etc/pyproxy"
"""Where every deployment has its configuration."""

LIMIT = 60.0
"""Seconds for a tool to judge a file."""

MOST_EXPOSED = 14
"""Tenths of systemd's measure of exposure; the rest is what it needs of the network."""

KUBERNETES = ("1.28", "")
"""The oldest version that the manifests are for, and the newest that is known."""

SELECTED = {"app.kubernetes.io/name": "pyproxy"}


def tool(name: str, where: str) -> str:
    """Return the path of a command, of this environment or of the system.  Raises: SkipTest."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise SkipTest(f"there is no {name}; it comes with {where}")
    return found


def module(name: str) -> Any:
    """Return a module of the extra ``deploy``, which the lowest versions are tested without."""
    if find_spec(name) is None:
        raise SkipTest(f"{name} comes with the extra `deploy`")
    return import_module(name)


def judged(*words: str, environment: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    """Run a command; return its status, what it printed, and what it complained of."""
    done = subprocess.run(
        words,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def settings_of(unit: str) -> dict[str, list[str]]:
    """Return the settings of a unit of systemd; each may stand there several times."""
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", (DEPLOY / unit).read_text("utf-8"), re.M):
        found.setdefault(name, []).append(value)
    return found


def only(values: list[str]) -> str:
    """Return the one value of a setting."""
    (value,) = values
    return value


def image() -> dict[str, str]:
    """Return the last stage of the Dockerfile: of each instruction the last value."""
    parser = module("dockerfile_parse").DockerfileParser(
        fileobj=BytesIO((DEPLOY / "Dockerfile").read_bytes())
    )
    last: dict[str, str] = {}
    for step in parser.structure:
        last = {} if step["instruction"] == "FROM" else last
        last[step["instruction"]] = step["value"]
    return last


def compose() -> Any:
    """Return the Compose file."""
    return module("yaml").safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))


def manifests() -> dict[str, Any]:
    """Return the Kubernetes manifests by their kinds."""
    load = module("yaml").safe_load_all
    paths = sorted((DEPLOY / "kubernetes").iterdir())
    found = [each for path in paths for each in load(path.read_text("utf-8"))]
    by_kind = {each["kind"]: each for each in found}
    if len(by_kind) != len(found):
        raise AssertionError("two manifests of one kind")
    return by_kind


@attrs.frozen
class Deployment:
    """The proxy as something starts and ends it.

    Attributes:
        words: its command.
        folder: what is in ``CONFIGURATION``.
        secrets: what is in ``$CREDENTIALS_DIRECTORY``, by name.
        grace: seconds from SIGTERM to SIGKILL.
    """

    words: list[str]
    folder: Path
    secrets: Mapping[str, str]
    grace: float

    def check(self, withhold: bool = False) -> tuple[int, str, str]:
        """Have the proxy check its configuration, and print it.

        Args: withhold, whether its secrets are missing.
        """
        folder = str(self.folder)
        words = [word.replace(CONFIGURATION, folder) for word in self.words[1:]]
        with tempfile.TemporaryDirectory(prefix="credentials-") as credentials:
            for name, content in () if withhold else self.secrets.items():
                (Path(credentials) / name).write_text(content)
            environment = {**os.environ, "CREDENTIALS_DIRECTORY": credentials}
            command = (sys.executable, *words, "--check", "--print-config")
            return judged(*command, environment=environment)

    def effective(self) -> dict[str, Any]:
        """Return the configuration in force, with the defaults."""
        status, printed, complaint = self.check()
        if status:
            raise AssertionError(f"{self.words}: {complaint}")
        return tomllib.loads(printed)


def under_systemd() -> Deployment:
    """Return what the unit starts."""
    unit = settings_of("pyproxy.service")
    names = [value.partition(":")[0] for value in unit["LoadCredential"]]
    return Deployment(
        shlex.split(only(unit["ExecStart"])),
        DEPLOY,
        dict.fromkeys(names, "Bearer sk-example\n"),
        float(only(unit["TimeoutStopSec"])),
    )


def in_compose(name: str) -> Deployment:
    """Return what one service of the Compose file starts."""
    whole, stage = compose(), image()
    service = whole["services"][name]
    folders = {
        inside: DEPLOY / outside
        for outside, inside, _ in (each.split(":") for each in service.get("volumes", ()))
    }
    files = {each: DEPLOY / whole["secrets"][each]["file"] for each in service.get("secrets", ())}
    return Deployment(
        [*json.loads(stage["ENTRYPOINT"]), *service.get("command", json.loads(stage["CMD"]))],
        folders.get(CONFIGURATION, DEPLOY),
        {each: file.read_text("utf-8") for each, file in files.items()},
        float(service["stop_grace_period"].removesuffix("s")),
    )


def pod() -> Any:
    """Return what the Deployment says of a pod."""
    return manifests()["Deployment"]["spec"]["template"]["spec"]


@contextmanager
def in_kubernetes() -> Iterator[Deployment]:
    """Yield what the Deployment starts; each volume has what is mounted of it."""
    known, spec = manifests(), pod()
    (container,) = spec["containers"]
    volumes = {each["name"]: each for each in spec["volumes"]}
    mounted = {each["mountPath"]: volumes[each["name"]] for each in container["volumeMounts"]}
    environment = {each["name"]: each["value"] for each in container["env"]}
    source, secret = known["ConfigMap"], known["Secret"]
    where = mounted[environment["CREDENTIALS_DIRECTORY"]]
    if mounted[CONFIGURATION]["configMap"]["name"] != source["metadata"]["name"]:
        raise AssertionError("another ConfigMap is mounted")
    if where["secret"]["secretName"] != secret["metadata"]["name"]:
        raise AssertionError("another Secret is mounted")
    with tempfile.TemporaryDirectory(prefix="configuration-") as folder:
        for name, content in source["data"].items():
            (Path(folder) / name).write_text(content)
        yield Deployment(
            [*json.loads(image()["ENTRYPOINT"]), *container["args"]],
            Path(folder),
            secret["stringData"],
            float(spec["terminationGracePeriodSeconds"]),
        )


class DeploymentTests(SynchronousTestCase):
    """The proxy takes each configuration as it will find it, and has the time that it asks for."""

    def check(self, deployment: Deployment) -> dict[str, Any]:
        """Check one; return the configuration in force."""
        config = deployment.effective()
        if deployment.secrets:
            status, _, complaint = deployment.check(withhold=True)
            self.assertEqual(1, status)
            self.assertIn("cannot be read", complaint)
        # What hangs in a worker is killed after its own limit, and that takes a moment too.
        drain = config["drain_delay"] + config["drain_timeout"]
        self.assertGreater(deployment.grace, drain + STOP_LIMIT)
        return config

    def test_systemd(self) -> None:
        """Unit, socket and configuration: the socket is of the kind that is adopted."""
        config = self.check(under_systemd())
        place = only(settings_of("pyproxy.socket")["ListenStream"])
        kind = "INET6" if place.startswith("[") or ":" not in place else "INET"
        self.assertEqual(
            [{"endpoint": f"systemd:domain={kind}:index=0"}],
            config["listeners"],
        )

    def test_compose(self) -> None:
        """Each service of the Compose file; the proxy sends to where the demo listens."""
        proxy, demo = (self.check(in_compose(name)) for name in ("proxy", "demo"))
        (listener,) = demo["listeners"]
        self.assertEqual("tcp:8000", listener["endpoint"])
        self.assertEqual("http://demo:8000", proxy["upstreams"]["demo"]["target"])

    def test_kubernetes(self) -> None:
        """The ConfigMap; its ports are the pod's, and it serves until every node looks away."""
        with in_kubernetes() as deployment:
            config = self.check(deployment)
        (container,) = pod()["containers"]
        ports = {each["name"]: each["containerPort"] for each in container["ports"]}
        self.assertEqual(f"tcp:{ports['http']}", config["listeners"][0]["endpoint"])
        self.assertEqual(f"tcp:{ports['admin']}:interface=0.0.0.0", config["admin"])
        probe = container["readinessProbe"]
        noticed = probe["periodSeconds"] * probe["failureThreshold"] + probe["timeoutSeconds"]
        self.assertGreater(config["drain_delay"], noticed)


class SystemdTests(SynchronousTestCase):
    """The units are what systemd reads."""

    def setUp(self) -> None:
        """Copy the units, with a Python that is there."""
        self.analyze = tool("systemd-analyze", "Debian's systemd")
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        for name in ("pyproxy.service", "pyproxy.socket"):
            text = (DEPLOY / name).read_text("utf-8")
            path = self.folder / name
            path.write_text(text.replace("/opt/pyproxy/bin/python", sys.executable))

    def test_valid(self) -> None:
        """All settings are known to systemd, and all commands are there."""
        units = [str(path) for path in sorted(self.folder.iterdir())]
        status, printed, complaint = judged(self.analyze, "verify", *units)
        self.assertEqual((0, []), (status, re.findall(".*pyproxy.*", printed + complaint)))

    def test_template(self) -> None:
        """What the page changes for two instances at one socket is known to systemd too."""
        page = (DOCS / "deploy.rst").read_text("utf-8")
        (block,) = [each.text for each in blocks(page) if "Sockets=" in each.text]
        for_service, for_socket = block.split("# pyproxy.socket\n")
        service = (self.folder / "pyproxy.service").rename(self.folder / "pyproxy@.service")
        changed = for_service.replace("/opt/pyproxy/bin/python", sys.executable)
        command = re.compile("^ExecStart=.*\n", re.MULTILINE)
        service.write_text(command.sub("", service.read_text("utf-8")) + changed)
        listening = self.folder / "pyproxy.socket"
        listening.write_text(listening.read_text("utf-8") + for_socket)
        for unit in ("pyproxy@a.service", "pyproxy@b.service", "pyproxy.socket"):
            status, printed, complaint = judged(self.analyze, "verify", str(self.folder / unit))
            self.assertEqual((0, []), (status, re.findall(".*pyproxy.*", printed + complaint)))

    def test_exposure(self) -> None:
        """A proxy that somebody has taken over can do little else on the machine."""
        unit = str(self.folder / "pyproxy.service")
        words = ("security", "--offline=true", "--no-pager", f"--threshold={MOST_EXPOSED}", unit)
        status, printed, complaint = judged(self.analyze, *words)
        self.assertEqual(0, status, complaint or printed.splitlines()[-1:])


class _Admin(BaseHTTPRequestHandler):
    """Answers as the test says, at one path."""

    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/healthz" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Write nothing."""


class DockerfileTests(SynchronousTestCase):
    """The image."""

    def test_linted(self) -> None:
        """Nothing is found by hadolint."""
        lint = tool("hadolint", "the extra `deploy`")
        self.assertEqual((0, "", ""), judged(lint, "--no-color", str(DEPLOY / "Dockerfile")))

    def test_copies(self) -> None:
        """What is copied is there, and passes .dockerignore."""
        text = (DEPLOY / "Dockerfile").read_text("utf-8")
        sources = {
            word
            for line in re.findall(r"^COPY (?!--)(.+)", text, re.M)
            for word in line.split()[:-1]
        }
        ignore = (ROOT / ".dockerignore").read_text("utf-8").split("\n")
        self.assertIn("*", ignore)
        self.assertEqual(sources, {line[1:] for line in ignore if line.startswith("!")})
        self.assertEqual([], [word for word in sources if not (ROOT / word).exists()])

    def test_not_root(self) -> None:
        """Its user is a number, the same in Kubernetes."""
        user, group = map(int, image()["USER"].split(":"))
        context = pod()["securityContext"]
        self.assertEqual((user, group), (context["runAsUser"], context["runAsGroup"]))
        self.assertGreater(user, 0)

    def test_signals(self) -> None:
        """Signals reach the proxy itself: no shell is in between."""
        stage = image()
        self.assertEqual("SIGTERM", stage["STOPSIGNAL"])
        self.assertEqual(["-m", "pyproxy"], json.loads(stage["ENTRYPOINT"])[1:])

    def health(self, port: int) -> int:
        """Run the health check against a port; return its status."""
        _, _, command = image()["HEALTHCHECK"].partition(" CMD ")
        words = [word.replace(" 9000,", f" {port},") for word in json.loads(command)[1:]]
        self.assertIn(f" {port},", words[-1])
        return judged(sys.executable, *words)[0]

    def test_health(self) -> None:
        """It is healthy while /healthz says 200, and at no other time."""
        server = HTTPServer(("127.0.0.1", 0), _Admin)
        self.addCleanup(server.server_close)
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        # However the test ends: who waits at a closed socket's number holds the next one open.
        self.addCleanup(thread.join)
        self.addCleanup(server.shutdown)
        self.addCleanup(setattr, _Admin, "status", 200)
        self.assertEqual(0, self.health(server.server_port))
        _Admin.status = 503
        self.assertEqual(1, self.health(server.server_port))
        server.shutdown()
        thread.join()
        server.server_close()
        self.assertEqual(1, self.health(server.server_port))

    def test_health_is_asked_where_it_is_told(self) -> None:
        """The configurations of containers have the admin site at the port that is asked."""
        for name in ("proxy", "demo"):
            admin = in_compose(name).effective()["admin"]
            self.assertEqual("tcp:9000:interface=127.0.0.1", admin)


class ComposeTests(SynchronousTestCase):
    """The Compose file."""

    def test_valid(self) -> None:
        """It is as the Compose specification has it."""
        module("check_jsonschema")
        words = ("-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec")
        status, printed, _ = judged(sys.executable, *words, str(DEPLOY / "compose.yaml"))
        self.assertEqual(0, status, printed)

    def test_who_reaches_it(self) -> None:
        """The port is published on loopback, and the upstream's network leads nowhere else."""
        whole = compose()
        published = [each for one in whole["services"].values() for each in one.get("ports", ())]
        self.assertEqual(["127.0.0.1:8000:8000"], published)
        self.assertTrue(whole["networks"]["upstream"]["internal"])
        self.assertEqual(["upstream"], whole["services"]["demo"]["networks"])

    def test_built_from_here(self) -> None:
        """The image is built by the Dockerfile, from the checkout."""
        build = compose()["services"]["proxy"]["build"]
        self.assertEqual(ROOT, (DEPLOY / build["context"]).resolve())
        self.assertEqual(DEPLOY / "Dockerfile", ROOT / build["dockerfile"])

    def test_confined(self) -> None:
        """Nothing is written, and nobody gets rights."""
        for name, service in compose()["services"].items():
            self.assertEqual(
                (True, ["ALL"], ["no-new-privileges:true"]),
                (service["read_only"], service["cap_drop"], service["security_opt"]),
                name,
            )


class KubernetesTests(SynchronousTestCase):
    """The manifests."""

    def test_valid(self) -> None:
        """Kubernetes knows every key, in the oldest version and in the newest."""
        kubernetes = module("kubernetes_validate")
        for version in KUBERNETES:
            for kind, manifest in manifests().items():
                try:
                    kubernetes.validate(manifest, version or kubernetes.latest_version(), True)
                except kubernetes.ValidationError as error:
                    self.fail(f"{kind} in {error.version}: {list(error.path)}: {error.message}")

    def test_kinds(self) -> None:
        """All that a service wants is there."""
        self.assertEqual(
            {
                *("ConfigMap", "Secret", "Deployment", "Service"),
                *("NetworkPolicy", "PodDisruptionBudget"),
            },
            set(manifests()),
        )

    def test_selectors(self) -> None:
        """Everything is about the pods of the Deployment."""
        known = {kind: each.get("spec", {}) for kind, each in manifests().items()}
        deployment = known["Deployment"]
        for what in (
            deployment["template"]["metadata"]["labels"],
            deployment["selector"]["matchLabels"],
            known["Service"]["selector"],
            known["NetworkPolicy"]["podSelector"]["matchLabels"],
            known["PodDisruptionBudget"]["selector"]["matchLabels"],
        ):
            self.assertEqual(SELECTED, what)

    def test_ports(self) -> None:
        """Ports that are named have that name in the pod, and nobody but the kubelet sees admin."""
        known = manifests()
        (container,) = pod()["containers"]
        names = {each["name"] for each in container["ports"]}
        self.assertEqual({"http", "admin"}, names)
        (port,) = known["Service"]["spec"]["ports"]
        (rule,) = known["NetworkPolicy"]["spec"]["ingress"]
        self.assertEqual("http", port["targetPort"])
        self.assertEqual([{"port": "http"}], rule["ports"])
        for probe, path in (
            ("startup", "/healthz"),
            ("liveness", "/healthz"),
            ("readiness", "/readyz"),
        ):
            asked = container[f"{probe}Probe"]["httpGet"]
            self.assertEqual({"path": path, "port": "admin"}, asked, probe)

    def test_restricted(self) -> None:
        """A pod is as Pod Security's strictest level wants it, and cannot write either."""
        spec = pod()
        (container,) = spec["containers"]
        self.assertTrue(spec["securityContext"]["runAsNonRoot"])
        self.assertEqual({"type": "RuntimeDefault"}, spec["securityContext"]["seccompProfile"])
        self.assertFalse(spec["automountServiceAccountToken"])
        self.assertEqual(
            {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            },
            container["securityContext"],
        )

    def test_followed(self) -> None:
        """A changed ConfigMap or Secret reaches the proxy: whole folders, and --watch."""
        (container,) = pod()["containers"]
        self.assertIn("--watch", container["args"])
        self.assertEqual([], [one for one in container["volumeMounts"] if "subPath" in one])


class PageTests(SynchronousTestCase):
    """The page about it."""

    def setUp(self) -> None:
        """Read it."""
        self.text = (DOCS / "deploy.rst").read_text("utf-8")

    def test_files_exist(self) -> None:
        """What it names of this folder is there, and all of this folder is named."""
        named = set(re.findall(r"deploy/[\w./-]*\w", self.text))
        self.assertEqual([], [name for name in sorted(named) if not (ROOT / name).exists()])
        there = {f"deploy/{path.name}" for path in DEPLOY.iterdir()}
        self.assertEqual(set(), there - named)

    def test_installation(self) -> None:
        """Files that are installed for systemd as it says are found where they are looked for."""
        root = Path(self.mktemp()).absolute()
        (root / "etc" / "systemd" / "system").mkdir(parents=True)
        (root / "key.txt").write_text("Bearer sk-example\n")
        (block,) = [each for each in blocks(self.text) if "daemon-reload" in each.text]
        here = {"key.txt": str(root / "key.txt"), "/opt/pyproxy/bin/python": sys.executable}
        done = []
        for words in commands(block):
            self.assertEqual("sudo", words[0])
            done.append(words[1])
            if words[1] == "install" or "--check" in words:
                moved = [here.get(word, word.replace("/etc/", f"{root}/etc/")) for word in words]
                status, _, complaint = judged("env", *moved[1:])
                self.assertEqual(0, status, complaint)
        self.assertIn("CREDENTIALS_DIRECTORY=/etc/pyproxy", done)
        there = [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()]
        self.assertEqual(
            [
                "etc/pyproxy/openai-key",
                "etc/pyproxy/pyproxy.toml",
                "etc/systemd/system/pyproxy.service",
                "etc/systemd/system/pyproxy.socket",
                "key.txt",
            ],
            sorted(there),
        )
