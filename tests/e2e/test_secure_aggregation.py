"""Secure aggregation as it is deployed: the hub learns the sum alone, whoever is killed or added."""

import json
import os
import signal
from collections.abc import Iterator

import psutil
import pytest

from client.commands.status import is_serving
from client.institution.directory import InstitutionDirectory
from client.institution.peers import add_peer, remove_peer
from common.identity.keys import PublicKeys
from tests.e2e.conftest import BANKS
from tests.e2e.deployed import Hub, charges, command, run_toml, until
from tests.e2e.test_institution_faults import agent_of

SECURE = "secure = true\nhonest = 2\nthreshold = {threshold}\n"
PLAIN = (b"fedfin secure MaskedSum 1\n", b"fedfin secure Unmasking 1\n", b"fedfin secure DealtShares 1\n")
"""How the answers inside the envelopes begin."""


def secure_toml(hub: Hub, threshold: int = 2) -> str:
    text = run_toml(hub.directory.parent / "base").replace("local_steps = 2", "local_steps = 1")
    return text.replace("quorum = 2\n", SECURE.format(threshold=threshold))


@pytest.fixture
def approved(hub: Hub) -> Iterator[Hub]:
    """The federation whose officers have compared fingerprints with each other."""
    homes = {name: InstitutionDirectory(hub.institutions[name].directory) for name in BANKS}
    shown = command("fedfin-institution", "peers", "show", "--home", homes["south"].directory)
    given = (shown["file"], "--fingerprint", shown["fingerprint"], "--home", homes["north"].directory)
    command("fedfin-institution", "peers", "add", *given)
    for name, home in homes.items():
        for other in set(BANKS) - {name}:
            keys = PublicKeys.load(homes[other].keys_path / "public.json")
            add_peer(home, keys, keys.fingerprint)
    yield hub
    for name, home in homes.items():
        for other in set(BANKS) - {name}:
            remove_peer(home, other)


def answered(hub: Hub, name: str, kind: str) -> int:
    """The number of answers of a kind that an agent has given since its start."""
    path = InstitutionDirectory(hub.institutions[name].directory).agent_status_path
    return int(json.loads(path.read_bytes())["answers"].get(f"secure {kind}", 0))


def masked(hub: Hub, name: str) -> int:
    """The number of masked sums that an agent has answered with since its start."""
    return answered(hub, name, "MaskedSum")


def has_left(hub: Hub, name: str, agent: int) -> bool:
    """Whether the relay has taken the agent's last answer: of the agent's socket, the listening end alone is left."""
    path = str(InstitutionDirectory(hub.institutions[name].directory).socket)
    return [each.laddr for each in psutil.Process(agent).net_connections(kind="unix")].count(path) == 1


def test_the_sum_is_that_of_those_that_are_left_and_the_hub_has_nothing_else(approved: Hub) -> None:
    """`west` is killed between its masked sum and its shares. It is back in a later run."""
    hub = approved
    hub.wiretap.forget()
    before = masked(hub, "west")
    run = hub.run("run.rounds=2", text=secure_toml(hub))
    agent = agent_of(hub, "west")
    assert agent is not None
    until(lambda: masked(hub, "west") == before + 1, "west has masked its sum", every=0.02)
    until(lambda: has_left(hub, "west", agent), "west's relay has its masked sum", every=0.02)
    os.kill(agent, signal.SIGKILL)
    assert run.ended() == "finished"
    # Its sum counts: the others give the shares of its mask.
    assert run.outcomes(1) == dict.fromkeys(BANKS, "contributed")
    assert run.outcomes(2) == {"north": "contributed", "south": "contributed", "west": "failed:unavailable"}
    assert [len(charges(hub, name, run)) for name in BANKS] == [2, 2, 1]

    record = run.history()[-1]
    assert record["epsilon_alone"]["north"] > record["epsilon"]["north"] > 0
    assert record["weights"] == {"north": 0.5, "south": 0.5}
    files = [path for path in hub.directory.rglob("*") if path.is_file()]
    for data in (hub.wiretap.heard(), *(path.read_bytes() for path in files)):
        assert not any(word in data for word in PLAIN)
    large = {path.name for path in run.directory.rglob("*") if path.is_file() and path.suffix == ".safetensors"}
    assert large == {"adapter_model.safetensors"}
    stated = command("fedfin-institution", "budget", "statement", "--home", hub.institutions["north"].directory)
    assert "epsilon_alone" in json.dumps(stated)

    socket = InstitutionDirectory(hub.institutions["west"].directory).socket
    until(lambda: agent_of(hub, "west") not in (None, agent) and is_serving(socket), "west's agent is back")
    again = hub.run("run.rounds=1", text=secure_toml(hub, threshold=3))
    assert again.ended() == "finished"
    assert again.outcomes(1) == dict.fromkeys(BANKS, "contributed")


def test_a_hub_killed_between_two_exchanges_does_the_round_again_under_new_masks(approved: Hub) -> None:
    """What it had heard is lost with it, and nobody is asked for shares of a session that it has forgotten."""
    hub = approved
    sums, sessions = ({name: answered(hub, name, kind) for name in BANKS} for kind in ("MaskedSum", "Announcement"))
    run = hub.run("run.rounds=2", text=secure_toml(hub, threshold=3))
    until(lambda: masked(hub, "south") == sums["south"] + 1, "south has masked its sum", every=0.02)
    first = run.executor_pid()
    os.kill(first, signal.SIGKILL)
    assert run.ended() == "finished"
    assert run.executor_pid() != first
    for record in run.history():
        assert run.outcomes(record["round"]) == dict.fromkeys(BANKS, "contributed")
    assert [record["round"] for record in run.history()] == [1, 2]
    for name in BANKS:
        trained = masked(hub, name) - sums[name]
        assert answered(hub, name, "Announcement") - sessions[name] == 2
        # The round that was done again is a training of its own, and is charged.
        assert len(charges(hub, name, run)) == trained
    assert len(charges(hub, "south", run)) == 3


def test_an_institution_that_is_killed_before_its_masked_sum_is_left_out_and_owes_nothing(approved: Hub) -> None:
    hub = approved
    north, west = agent_of(hub, "north"), agent_of(hub, "west")
    assert north is not None
    assert west is not None
    before = answered(hub, "west", "Announcement")
    os.kill(north, signal.SIGSTOP)  # so that the hub waits at the first exchange
    try:
        run = hub.run("run.rounds=1", text=secure_toml(hub))
        until(lambda: answered(hub, "west", "Announcement") == before + 1, "west has announced", every=0.02)
        until(lambda: has_left(hub, "west", west), "west's relay has its announcement", every=0.02)
        os.kill(west, signal.SIGKILL)
    finally:
        os.kill(north, signal.SIGCONT)
    assert run.ended() == "finished"
    assert run.outcomes(1) == {"north": "contributed", "south": "contributed", "west": "failed:unavailable"}
    assert [len(charges(hub, name, run)) for name in BANKS] == [1, 1, 0]
    socket = InstitutionDirectory(hub.institutions["west"].directory).socket
    until(lambda: agent_of(hub, "west") not in (None, west) and is_serving(socket), "west's agent is back")


def test_a_participant_of_the_hubs_own_is_refused_by_all_before_a_charge(approved: Hub) -> None:
    hub = approved
    hub.enrol("ghost")
    try:
        run = hub.run("run.rounds=1", text=secure_toml(hub, threshold=3))
        assert run.ended() == "quorum_missed"
    finally:
        command("fedfin-hub", "revoke", "ghost", "--home", hub.directory)
        hub.institutions.pop("ghost")
    assert run.outcomes(1) == dict.fromkeys(BANKS, "declined:config") | {"ghost": "failed:silent"}
    for name in BANKS:
        log = hub.institutions[name].directory / "state" / "logs" / "agent.log"
        assert "ghost, with these keys, is not among the institutions that the officer approved" in log.read_text()
        assert charges(hub, name, run) == []
