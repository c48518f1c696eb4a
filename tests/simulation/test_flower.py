"""Flower's simulation engine carries the same run."""

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from common.errors import ConfigurationError
from common.flower.records import RelayError, from_record, to_error, to_record
from simulation.flower import client_app, nodes_by_name, run_on_flower
from simulation.runner import run_simulation
from simulation.workspace import Workspace
from tests.simulation.helpers import write_simulation

pytestmark = pytest.mark.filterwarnings("ignore")


SECURE = "[aggregation]\nsecure = true\nhonest = 2\nthreshold = 2\n"
BFLOAT16 = '[aggregation]\nupdate_dtype = "bfloat16"\n'


@pytest.mark.parametrize(
    "changes",
    [{}, {"extra": BFLOAT16}, {"local_steps": 1, "extra": SECURE}],
    ids=["plain", "bfloat16", "secure"],
)
def test_both_engines_end_in_the_same_adapter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")]))
    config = write_simulation(tmp_path, noise="fixed", **changes)
    in_process = run_simulation(Workspace.create(config, tmp_path / "plain"))
    flower = run_simulation(Workspace.create(config, tmp_path / "flower"), engine="flower")
    assert flower.adapter_digest == in_process.adapter_digest
    assert flower.epsilon == in_process.epsilon
    assert flower.epsilon_alone == in_process.epsilon_alone
    history = [json.loads((tmp_path / out / "history.json").read_bytes()) for out in ("plain", "flower")]
    rounds = [[(each["outcomes"], each["weights"]) for each in rounds] for rounds in history]
    assert rounds[0] == rounds[1]


@pytest.fixture
def task_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of a run, Flower knows no task that a message could belong to."""
    for name, value in (("_task_id", 5), ("_run_id", 1), ("_node_id", 1)):
        monkeypatch.setattr(TaskIdentity, name, value)


def context_of(partition: int) -> Context:
    return Context(run_id=1, node_id=7, node_config={"partition-id": partition}, state=RecordDict(), run_config={})


def message_to(node: int, content: bytes, kind: str) -> Message:
    return Message(to_record(content), dst_node_id=node, message_type=kind)


@pytest.mark.usefixtures("task_identity")
def test_a_node_is_the_institution_at_its_position_among_the_sorted_names(tmp_path: Path) -> None:
    for name in ("south", "east", "north"):
        (tmp_path / "institutions" / name).mkdir(parents=True)
    app = client_app(tmp_path, 1)
    replies = [app(message_to(7, b"", "query"), context_of(partition)) for partition in range(3)]
    assert [from_record(reply.content) for reply in replies] == [b"east", b"north", b"south"]


@pytest.mark.usefixtures("task_identity")
def test_an_error_at_an_institution_reaches_the_hub_without_its_text(tmp_path: Path) -> None:
    (tmp_path / "institutions" / "north").mkdir(parents=True)
    reply = client_app(tmp_path, 1)(message_to(7, b"sealed", "train"), context_of(0))
    assert reply.has_error()
    assert reply.error == to_error(RelayError.FAILED)
    assert str(tmp_path) not in str(reply.error)


class Nodes:
    """A grid whose second node connects late, and whose third never answers."""

    def __init__(self) -> None:
        self.calls = 0

    def get_node_ids(self) -> list[int]:
        self.calls += 1
        return [3, 5, 8][: self.calls]

    def send_and_receive(self, messages: list[Message]) -> list[Message]:
        names = {3: b"north", 5: b"south"}
        return [
            Message(to_record(names[node]), reply_to=message)
            if (node := message.metadata.dst_node_id) in names
            else Message(to_error(RelayError.FAILED), reply_to=message)
            for message in messages
        ]


@pytest.mark.usefixtures("task_identity")
def test_nodes_are_asked_for_their_names_once_all_are_connected() -> None:
    grid = Nodes()
    assert nodes_by_name(grid, 3) == {"north": 3, "south": 5}
    assert grid.calls == 3


def test_without_ray_the_engine_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "ray" else find(name, *more))
    with pytest.raises(ConfigurationError, match=r"pip install 'fedfin\[simulation\]'"):
        run_on_flower(None, None, None, ())
