"""A deployed federation on loopback, driven by the public commands: real processes, real TLS, real kill -9.

Between institutions and gateway stands a searchable wire-tap. Waiting reads files and asks the
SuperLink from this process, since every command costs a second of a processor.
"""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from client.institution.directory import InstitutionDirectory
from client.node.processes import state_path
from common.privacy.charges import Charge, read_charges
from common.processes.supervisor import running_services
from server.hub.directory import HubDirectory
from server.runs.status import institutions
from tests.e2e.wiretap import Wiretap
from tests.simulation.helpers import WORDS
from tests.tiny_models import save_tiny_model

ROOT = Path(__file__).resolve().parent.parent.parent
ROUNDS_WITHIN_S = 600.0
"""Far more than a run of a tiny model needs, on a busy machine too. A test that waits this long has found a hang."""
DECLARED_UNITS = 64
"""The size that each institution declares."""


def environment() -> dict[str, str]:
    given = {"PYTHONPATH": str(ROOT), "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1", "HF_HUB_OFFLINE": "1"}
    return {**os.environ, **given, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


def command(program: str, *arguments: str | Path, code: int = 0, within: float = 120.0) -> dict[str, Any]:
    """Run `fedfin-hub ...` or `fedfin-institution ...` with --json. Its last line as a value, {} when it failed."""
    module = {"fedfin-hub": "server.cli", "fedfin-institution": "client.cli"}[program]
    done = subprocess.run(
        [sys.executable, "-P", "-m", module, *map(str, arguments), "--json"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=within,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == code, f"{program} {' '.join(map(str, arguments))}: {done.returncode}\n{done.stderr}"
    assert "Traceback" not in done.stderr, done.stderr
    if code:
        return {"error": done.stderr.strip()}
    value: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return value


def until(holds: Callable[[], Any], what: str, within: float = ROUNDS_WITHIN_S, every: float = 0.2) -> Any:
    """Wait for a value and return it."""
    end = time.monotonic() + within
    while not (value := holds()):
        assert time.monotonic() < end, f"waited {within:.0f} s for: {what}"
        time.sleep(every)
    return value


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@dataclass
class Started:
    """A `start` command in the background, its output in a file."""

    program: str
    arguments: tuple[str, ...]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self, **variables: str) -> None:
        """Start it, with these variables on top of the environment."""
        module = {"fedfin-hub": "server.cli", "fedfin-institution": "client.cli"}[self.program]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, *self.arguments],
                env=environment() | variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def tell(self, number: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        if self.process is None:
            return 0
        self.tell(number)
        code = self.process.wait(60)
        self.process = None
        return code


@dataclass
class Institution:
    """One institution's directory and its `start`."""

    directory: Path
    name: str
    started: Started = field(init=False)

    def __post_init__(self) -> None:
        log = self.directory.with_suffix(".log")
        self.started = Started("fedfin-institution", ("start", "--home", str(self.directory)), log)

    @property
    def ledger(self) -> Path:
        return self.directory / "ledger.jsonl"

    def pid(self, service: str) -> int:
        """The process of "agent", "supernode" or "superexec"."""
        found = running_services(state_path(InstitutionDirectory(self.directory), "all"))
        return int(next(entry["pid"] for entry in found if entry["name"] == service))


@dataclass
class Hub:
    """The hub's directory, its `start`, and everybody who is enrolled."""

    directory: Path
    wiretap: Wiretap
    institutions: dict[str, Institution] = field(default_factory=dict)
    started: Started = field(init=False)

    def __post_init__(self) -> None:
        arguments = ("start", "--home", str(self.directory))
        self.started = Started("fedfin-hub", arguments, self.directory.with_suffix(".log"))

    @classmethod
    def create(cls, root: Path) -> "Hub":
        """A hub with a test set, not started, and files for its institutions: rows and a tiny model in `root`."""
        listen = free_port()
        wiretap = Wiretap(listen)
        save_tiny_model(root / "base")
        command("fedfin-hub", "init", "--home", root / "hub", "--address", f"127.0.0.1:{wiretap.port}")
        write_rows(root / "test.csv", 40, 99)
        settings = root / "hub" / "hub.toml"
        listening = f'listen = "127.0.0.1:{wiretap.port}"'
        assert listening in settings.read_text()
        text = settings.read_text().replace(listening, f'listen = "127.0.0.1:{listen}"')
        settings.write_text(f'{text}\n[data]\ntest = "../test.csv"\n')
        return cls(root / "hub", wiretap)

    @property
    def home(self) -> HubDirectory:
        return HubDirectory(self.directory)

    def start(self, **variables: str) -> None:
        self.started.start(**variables)
        until(self.is_up, "the hub is up")

    def is_up(self) -> bool:
        services = running_services(self.home.services_path)
        return len(services) == 3 and all(entry["up"] for entry in services) and listens(self.wiretap.upstream)

    def pid(self, service: str) -> int:
        """The process of "superlink", "superexec" or "gateway"."""
        found = running_services(self.home.services_path)
        return int(next(entry["pid"] for entry in found if entry["name"] == service))

    def enrol(self, name: str, rows: int = 40, settings: str = "") -> Institution:
        """init, approve, join. Not started."""
        root = self.directory.parent
        institution = Institution(root / name, name)
        request = command("fedfin-institution", "init", "--home", institution.directory, "--name", name)
        approved = command(
            "fedfin-hub",
            "approve",
            request["request"],
            "--fingerprint",
            request["fingerprint"],
            "--home",
            self.directory,
        )
        given = (approved["package"], "--fingerprint", approved["fingerprint"], "--home", institution.directory)
        command("fedfin-institution", "join", *given)
        write_rows(institution.directory / "train.csv", rows, seed=len(self.institutions))
        (institution.directory / "institution.toml").write_text(
            settings
            or f"""
[institution]
name = "{name}"
[data]
train = "train.csv"
[model]
allowed = ["{root / "base"}", "{root / "writer"}"]
device = "cpu"
[limits]
max_epsilon = 1000000.0
delta = 1e-4
min_noise_multiplier = 0.1
[release]
declared_units = {DECLARED_UNITS}
"""
        )
        self.institutions[name] = institution
        return institution

    def connected(self) -> set[str]:
        return {entry["name"] for entry in institutions(self.home) if entry["state"] == "connected"}

    def start_institutions(self, names: Sequence[str] | None = None) -> None:
        for name in names or self.institutions:
            self.institutions[name].started.start()
        self.await_connected(*(names or self.institutions))

    def await_connected(self, *names: str) -> None:
        def are_there() -> bool:
            for name in names:
                started = self.institutions[name].started
                assert started.process is not None, f"{name} is not started"
                assert started.process.poll() is None, started.log.read_text()
            return set(names) <= self.connected()

        until(are_there, f"{', '.join(names)} are connected", every=0.5)

    def run(self, *changes: str, name: str | None = None, text: str | None = None) -> "Run":
        """Submit a run, of `text` or else of `run_toml`. Does not wait for it."""
        config = self.directory.parent / "run.toml"
        config.write_text(text or run_toml(self.directory.parent / "base"))
        given = [part for change in changes for part in ("--set", change)]
        named = ["--name", name] if name else []
        found = command("fedfin-hub", "run", config, "--home", self.directory, "--detach", *named, *given)
        return Run(self, found["run"])

    def stop(self) -> None:
        for institution in self.institutions.values():
            institution.started.tell(signal.SIGTERM)
        for institution in self.institutions.values():
            institution.started.stop()
        self.started.stop()
        self.wiretap.close()


@dataclass
class Run:
    """A run at the hub, seen through its files."""

    hub: Hub
    name: str

    @property
    def directory(self) -> Path:
        return self.hub.directory / "runs" / self.name

    def file(self, name: str, default: Any = None) -> Any:
        try:
            return json.loads((self.directory / name).read_bytes())
        except FileNotFoundError:
            return default

    def history(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.file("history.json", [])
        return found

    def outcomes(self, round_: int) -> dict[str, str]:
        """The latest attempt at a round."""
        found: dict[str, str] = [record for record in self.history() if record["round"] == round_][-1]["outcomes"]
        return found

    def ended(self, within: float = ROUNDS_WITHIN_S) -> str:
        """Wait for the end and return its outcome."""
        return str(until(lambda: self.file("outcome.json"), f"run {self.name} ends", within)["state"])

    def in_round(self, round_: int, answered: int = 0) -> None:
        """Wait until that round has been asked, and `answered` of the institutions have answered."""

        def is_there() -> bool:
            progress = self.file("progress.json", {})
            assert self.file("outcome.json") is None, f"run {self.name}: {self.file('outcome.json')}"
            return progress.get("round") == round_ and len(progress["answered"]) >= answered

        until(is_there, f"run {self.name} is in round {round_}", every=0.05)

    def closed(self, round_: int) -> dict[str, str]:
        """Wait until that round is closed, and return its outcomes."""

        def is_closed() -> bool:
            outcome = self.file("outcome.json", {})
            assert outcome.get("state") in (None, "finished"), f"run {self.name}: {outcome}"
            return any(record["round"] == round_ for record in self.history())

        until(is_closed, f"run {self.name} closes round {round_}")
        return self.outcomes(round_)

    def executor_pid(self) -> int:
        """The pid of the ServerApp process."""
        return int(self.file("executor.lock")["pid"])

    def audit(self, kind: str) -> list[dict[str, Any]]:
        """Bodies of the run's audit entries of one kind."""
        lines = (self.directory / "audit.jsonl").read_text().splitlines()
        return [entry["body"] for entry in map(json.loads, lines) if entry["kind"] == kind]


def listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def write_rows(path: Path, count: int, seed: int) -> None:
    """Rows whose label a few words give away."""
    draw = random.Random(seed)
    lines = ["text,label"]
    for number in range(count):
        label = draw.choice(sorted(WORDS))
        lines.append(f"{' '.join(draw.choice(WORDS[label]) for _ in range(4))} {number},{label}")
    path.write_text("\n".join(lines) + "\n")


def run_toml(base: Path) -> str:
    return f"""
[run]
name = "tiny"
seed = 3
rounds = 2
[task]
name = "sentiment_analysis"
labels = ["negative", "positive"]
[model]
base = "{base}"
max_tokens = 32
[adapter]
rank = 4
alpha = 8
target_modules = "all-linear"
layers = "last:1"
[training]
local_steps = 2
sampling_rate = 0.25
learning_rate = 1.0
[privacy]
mode = "custom"
noise_multiplier = 1.0
clipping_norm = 0.5
delta = 1e-4
[aggregation]
quorum = 2
deadline_s = 200
"""


def charges(hub: Hub, name: str, run: Run) -> list[Charge]:
    """The epsilon that `run` has charged at an institution, by the institution's own ledger."""
    found = read_charges(hub.institutions[name].ledger, hub.home.members()[name].keys)
    return [charge for charge in found if charge.reservation.use.run_id == run.name]
