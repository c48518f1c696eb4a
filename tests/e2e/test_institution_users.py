"""An institution as two users of one machine, beside a third user of neither: real users, real processes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from client.institution.directory import InstitutionDirectory
from client.node.processes import Part, state_path
from common.flower.bundle import bundle_sha256
from common.identity.authority import Authority
from common.identity.enrolment import EnrolmentPackage, EnrolmentRequest
from common.identity.keys import PrivateKeys
from common.processes.supervisor import running_services
from tests.client.enrolled import ROWS
from tests.e2e.deployed import ROOT, environment, until

AGENT, NODE, STRANGER = 61001, 61002, 61003


def _python() -> str | None:
    """An interpreter of this version that other users may run. One in a home directory is closed to them."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        real = Path(candidate).resolve()
        if real.exists() and all(parent.stat().st_mode & 0o001 for parent in (real, *real.parents)):
            return candidate
    return None


PYTHON = _python() if os.getuid() == 0 else None
pytestmark = pytest.mark.skipif(PYTHON is None, reason="only root can act as other users, who need a Python too")
TRY = """
import json, os, socket, sys
def connect(path):
    with socket.socket(socket.AF_UNIX) as probe:
        probe.connect(path)
acts = {
    "read": lambda path: open(path, "rb").read(1),
    "connect": connect,
    "link": lambda path: os.symlink("/etc/passwd", path),
    "bind": lambda path: socket.socket(socket.AF_UNIX).bind(path),
}
found = {}
for act, path in json.load(sys.stdin):
    try:
        acts[act](path)
        found[f"{act} {path}"] = "done"
    except OSError as error:
        found[f"{act} {path}"] = type(error).__name__
print(json.dumps(found))
"""


def tries(user: int, *acts: tuple[str, Path]) -> set[str]:
    """The results of these acts by that user: "done" or the name of an error."""
    done = subprocess.run(
        [str(PYTHON), "-I", "-c", TRY],
        input=json.dumps([(act, str(path)) for act, path in acts]),
        capture_output=True,
        text=True,
        check=True,
        user=user,
        group=user,
        extra_groups=[],
        cwd="/",
    )
    return set(json.loads(done.stdout).values())


@dataclass
class Bank:
    """The directory of an institution whose agent and node are two users, and its running parts."""

    root: Path
    started: dict[Part, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def home(self) -> InstitutionDirectory:
        return InstitutionDirectory(self.root / "bank")

    def command(self, *arguments: str) -> list[str]:
        return [str(PYTHON), "-P", "-m", "client.cli", *arguments, "--home", str(self.home.directory)]

    @property
    def environment(self) -> dict[str, str]:
        installed = [path for path in sys.path if path.endswith("site-packages")]
        return environment() | {"PYTHONPATH": os.pathsep.join([str(ROOT), *installed]), "HOME": str(self.root)}

    def as_agent(self, *arguments: str) -> None:
        done = subprocess.run(
            self.command(*arguments),
            env=self.environment,
            capture_output=True,
            text=True,
            user=AGENT,
            group=AGENT,
            extra_groups=[NODE],
            cwd="/",
        )
        assert done.returncode == 0, done.stderr

    def start(self, part: Part, user: int, groups: list[int]) -> None:
        with (self.root / f"{part}.log").open("wb") as log:
            self.started[part] = subprocess.Popen(
                self.command("start", "--only", part),
                env=self.environment,
                stdout=log,
                stderr=log,
                user=user,
                group=user,
                extra_groups=groups,
                cwd="/",
                umask=0o077,
            )

    def is_up(self) -> bool:
        for part, process in self.started.items():
            assert process.poll() is None, (self.root / f"{part}.log").read_text()
        return self.home.socket.exists() and self.home.flower_socket.exists() and len(self.pids("node")) == 2

    def pids(self, part: Part) -> dict[str, int]:
        return {each["name"]: each["pid"] for each in running_services(state_path(self.home, part))}


@pytest.fixture(scope="module")
def bank() -> Iterator[Bank]:
    root = Path(tempfile.mkdtemp(prefix="fedfin-users-"))
    root.chmod(0o755)
    os.chown(root, AGENT, AGENT)
    bank = Bank(root)
    try:
        bank.as_agent("init", "--name", "bank", "--node-group", str(NODE))
        request = EnrolmentRequest.from_json(bank.home.request_path.read_bytes())
        authority = Authority.create(root / "authority", "authority")
        certificate = authority.issue_client(request.csr, "bank", timedelta(days=30))
        hub = PrivateKeys.generate("hub")
        package = EnrolmentPackage.make(hub, request, certificate, authority.pem, "127.0.0.1:1", bundle_sha256())
        (root / "package.json").write_text(package.to_json())
        bank.as_agent("join", str(root / "package.json"), "--fingerprint", package.fingerprint)
        (bank.home.directory / "train.csv").write_text(ROWS)
        os.chown(bank.home.directory / "train.csv", AGENT, AGENT)
        (bank.home.directory / "train.csv").chmod(0o600)
        settings = '[institution]\nname = "bank"\n[data]\ntrain = "train.csv"\n[model]\ndevice = "cpu"\n'
        bank.home.settings_path.write_text(settings)
        bank.start("agent", AGENT, [NODE])
        bank.start("node", NODE, [])
        until(bank.is_up, "agent and node are up", within=90)
        yield bank
        codes = {}
        for part, process in bank.started.items():
            process.send_signal(signal.SIGTERM)
            codes[part] = process.wait(60)
        assert codes == {"agent": 0, "node": 0}
    finally:
        for process in bank.started.values():
            process.kill()
        shutil.rmtree(root)


def private(home: InstitutionDirectory) -> list[Path]:
    return [
        home.keys_path / "private.json",
        home.ledger_path,
        home.settings_path,
        home.directory / "train.csv",
        home.agent_status_path,
    ]


def test_the_nodes_user_has_certificate_node_key_and_socket_and_nothing_else(bank: Bank) -> None:
    home = bank.home
    needed = [("read", path) for path in (home.tls / "client.key", home.node_key_path, home.package_path)]
    assert tries(NODE, *needed, ("connect", home.socket)) == {"done"}
    assert tries(NODE, *[("read", path) for path in private(home)]) == {"PermissionError"}
    places = (home.run, home.state, home.directory, home.tls, home.keys_path)
    assert tries(NODE, *[("link", place / "agent.lock") for place in places]) == {"PermissionError"}


def test_no_process_of_the_same_user_reads_the_agents_memory_or_environment(bank: Bank) -> None:
    agent = Path("/proc") / str(bank.pids("agent")["agent"])
    assert tries(AGENT, ("read", agent / "mem"), ("read", agent / "environ")) == {"PermissionError"}
    keeper = Path("/proc") / str(bank.started["agent"].pid)
    assert tries(AGENT, ("read", keeper / "mem"), ("read", keeper / "environ")) == {"PermissionError"}


def test_another_user_reaches_no_socket_takes_the_place_of_none_and_finds_no_port(bank: Bank) -> None:
    home = bank.home
    sockets = (home.socket, home.flower_socket)
    assert tries(STRANGER, *[("connect", path) for path in sockets]) == {"PermissionError"}
    bound = [("bind", path.with_name("other.sock")) for path in sockets]
    assert tries(STRANGER, *bound) == {"PermissionError"}
    files = [*private(home), home.tls / "client.key", home.node_key_path, home.node_state / "superexec.secret"]
    assert tries(STRANGER, *[("read", path) for path in files]) == {"PermissionError"}
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    assert not [row for row in rows if row[3] == "0A" and int(row[7]) in (AGENT, NODE)]  # 0A: it listens
