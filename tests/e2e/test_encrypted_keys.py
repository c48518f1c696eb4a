"""A federation with encrypted keys on both sides: no passphrase, secret or plain key is where others could find it."""

import os
import re
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.institution.directory import InstitutionDirectory
from client.node.processes import state_path
from common.processes.supervisor import running_services
from tests.e2e.deployed import Hub, Run, command, run_toml, until

BANKS = ("north", "south")
HUB, AGENT, NODE = "oak maple birch larch", "hazel willow rowan elm", "alder aspen beech yew"
_WORDS = "|".join((HUB, AGENT, NODE)).encode()
PLAIN = re.compile(rb'-----BEGIN (OPENSSH )?PRIVATE KEY-----\s+[A-Za-z0-9+/]{40}|"mlkem768": ?"[0-9a-f]{32}|' + _WORDS)
"""A private key in a file, and the passphrases. The installed app and its code hold neither."""


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text + "\n")
    path.chmod(0o600)
    return path


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    root = tmp_path_factory.mktemp("encrypted")
    hub = Hub.create(root)
    agent, node = written(root / "agent", AGENT), written(root / "node", NODE)
    try:
        for name in BANKS:
            directory = hub.enrol(name).directory
            command("fedfin-institution", "passphrase", "--home", directory, "--new-passphrase-file", agent)
            change = ("--only", "node", "--passphrase-file", agent, "--new-passphrase-file", node)
            command("fedfin-institution", "passphrase", "--home", directory, *change)
            given = ("--passphrase-file", str(agent), "--passphrase-file", str(node))
            hub.institutions[name].started.arguments += given
        written(root / "credentials" / "fedfin-passphrase", HUB)
        command(
            "fedfin-hub",
            "passphrase",
            "--home",
            hub.directory,
            "--new-passphrase-file",
            root / "credentials/fedfin-passphrase",
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CREDENTIALS_DIRECTORY", str(root / "credentials"))
            hub.start()
            hub.start_institutions()
            yield hub
    finally:
        hub.stop()


def secrets_seen(hub: Hub) -> list[str]:
    """Every place of this federation on disk or in /proc that shows a plain key or a passphrase."""
    root, seen = hub.directory.parent, []
    own = {root / "agent", root / "node", root / "credentials" / "fedfin-passphrase"}
    for path in root.rglob("*"):
        # The key of loopback is made anew at every start.
        if path in own or path.name == "loopback.key" or not stat.S_ISREG(path.stat().st_mode):
            continue
        if PLAIN.search(path.read_bytes()):
            seen.append(str(path))
    for process in Path("/proc").glob("[0-9]*"):
        try:
            shown = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue
        if str(root).encode() in shown and PLAIN.search(shown):
            seen.append(str(process))
    return seen


def killed(state: Path, service: str) -> None:
    """Kill a process, and wait until it is up again."""

    def pid() -> int | None:
        return next((entry["pid"] for entry in running_services(state) if entry["name"] == service), None)

    before = pid()
    assert before is not None
    os.kill(before, signal.SIGKILL)
    until(lambda: pid() not in (before, None), f"{service} is started again", within=60)


def test_a_run_ends_well_and_processes_that_are_killed_get_their_keys_again(encrypted: Hub) -> None:
    run = encrypted.run(text=run_toml(encrypted.directory.parent / "base"))
    assert run.ended() == "finished", run.file("outcome.json")
    north = state_path(InstitutionDirectory(encrypted.institutions["north"].directory), "all")
    for service in ("agent", "supernode"):
        killed(north, service)
    for service in ("gateway", "superexec"):
        killed(encrypted.home.services_path, service)
    until(encrypted.is_up, "the hub is up again", within=60)
    encrypted.await_connected(*BANKS)
    again = Run(encrypted, encrypted.run(name="again").name)
    assert again.ended() == "finished", again.file("outcome.json")
    assert set(again.outcomes(2).values()) == {"contributed"}
    assert secrets_seen(encrypted) == []


def test_a_change_of_passphrase_and_of_the_server_certificate_need_no_restart(encrypted: Hub) -> None:
    root = encrypted.directory.parent
    new = written(root / "new" / "fedfin-passphrase", "the next passphrase of the hub")
    command("fedfin-hub", "passphrase", "--home", encrypted.directory, "--new-passphrase-file", new)
    rotate = ("certs", "--rotate", "server", "--home", encrypted.directory)
    old = command("fedfin-hub", *rotate, code=2)
    assert "the passphrase does not open the private keys" in old["error"]
    command("fedfin-hub", *rotate, "--passphrase-file", new)
    until(lambda: "the new server certificate is in use" in log(encrypted), "the gateway uses it", within=30)
    command("fedfin-hub", "verify", "--home", encrypted.directory)


def log(hub: Hub) -> str:
    return (hub.home.state / "logs" / "gateway.log").read_text()
