"""A run's directory, and the keeper that has its process started again."""

import errno
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from common.base_models.digest import base_digest
from common.base_models.resolve import resolve_base
from common.errors import CheckpointError, ConfigurationError, DataError, LedgerError, ModelError
from common.flower.internals import FINISHED as FLOWER_FINISHED
from common.flower.internals import NodeState
from common.journal.journal import Journal
from server.hub.audit_log import RUN_PURPOSE, anchor_run, file_sha256, note, run_ended, verify_all
from server.hub.directory import HubDirectory
from server.hub.enrolment import approve, revoke
from server.hub.public_data import read_public_texts, read_test_set
from server.runs.reconciler import Reconciler, cancel_run, submit_run
from server.runs.records import Executor, Submission
from server.runs.run import FAILED, FINISHED, STOPPED, Run
from tests.server.hub.test_directory import make_request

TOML = """
[run]
name = "two words"
seed = 1
rounds = 2
[task]
name = "sentiment_analysis"
labels = ["negative", "positive"]
[training]
local_steps = 2
sampling_rate = 0.25
learning_rate = 1.0
[privacy]
mode = "high"
delta = 1e-5
"""


@pytest.fixture
def home(tmp_path: Path) -> HubDirectory:
    made = HubDirectory.create(tmp_path / "hub", "hub", "127.0.0.1:8443", [])
    for name in ("north", "south"):
        approve(made, make_request(name))
    return made


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "test.csv").write_text("text,label\nprofit rises,positive\nloss widens,negative\n")
    (tmp_path / "run.toml").write_text(TOML + '[data]\ntest = "test.csv"\n')
    return tmp_path / "run.toml"


@dataclass
class FakeControl:
    """A SuperLink in a dictionary."""

    runs: dict[int, str] = field(default_factory=dict)
    known: dict[str, NodeState] = field(default_factory=dict)

    def start_run(self, _bundle: bytes, _digest: str, _settings: dict[str, str]) -> int:
        self.runs[len(self.runs) + 1] = "running"
        return len(self.runs)

    def stop_run(self, run_id: int) -> None:
        self.runs[run_id] = FLOWER_FINISHED

    def run_status(self, run_id: int) -> str:
        return self.runs.get(run_id, "")

    def nodes(self) -> list[NodeState]:
        return list(self.known.values())

    def register(self, key: str, name: str) -> None:
        self.known[key] = NodeState(len(self.known) + 1, key, True, True)

    def unregister(self, node_id: int) -> None:
        key = next(node.key for node in self.known.values() if node.node_id == node_id)
        self.known[key] = NodeState(node_id, key, False, False)

    def __enter__(self) -> "FakeControl":
        return self

    def __exit__(self, *_: object) -> None:
        return None


@pytest.fixture
def control(monkeypatch: pytest.MonkeyPatch) -> FakeControl:
    fake = FakeControl()
    monkeypatch.setattr(HubDirectory, "control", lambda _: fake)
    monkeypatch.setattr("server.runs.reconciler._PERIOD_S", 0.0)
    return fake


def test_a_run_is_laid_out_whole_and_read_back(home: HubDirectory, source: Path) -> None:
    run = Run.create(home, source, changes=["run.rounds=3"])
    assert run.name.startswith("two-words-")
    config, data = Run.open(home, run.name).config()
    assert (config.rounds, config.labels) == (3, ("negative", "positive"))
    assert config.model.base_digest == base_digest(resolve_base("minilm"))
    assert data is not None
    assert data.test == source.parent / "test.csv"
    assert Run.create(home, source).name != run.name
    assert Run.all(home)[0].name == run.name


@pytest.mark.parametrize(
    ("old", "new", "error", "words"),
    [
        ('labels = ["negative", "positive"]\n', "", None, ""),
        ("rounds = 2", "rounds = 0", ConfigurationError, "run.rounds"),
        ("[privacy]", "[aggregation]\nquorum = 3\n[privacy]", ConfigurationError, "2 institutions that are enrolled"),
        ("[training]\nlocal_steps = 2", "[aggregation]\nsecure = true\nhonest = 2\nthreshold = 3\n[training]\n"
         "local_steps = 1", ConfigurationError, "aggregation.threshold is 3, but 2 institutions take part: lower it"),
        ('"test.csv"', '"absent.csv"', DataError, "absent.csv"),
        ("[data]", "[dato]", ConfigurationError, "dato"),
        ("[data]", f'[model]\nbase_digest = "{"0" * 64}"\n[data]', ConfigurationError, "is not that of minilm"),
        ("[data]", '[model]\nbase_digest = "abc"\n[data]', ConfigurationError, "model.base_digest is no SHA-256"),
        ("[data]", '[model]\nbase = "./absent"\n[data]', ModelError, "no such directory"),
        ('name = "sentiment_analysis"\nlabels = ["negative", "positive"]', 'name = "document_classification"',
         ConfigurationError, "task.labels"),
        ('name = "sentiment_analysis"\nlabels = ["negative", "positive"]', 'name = "document_summarization"',
         DataError, 'column "summary" is missing'),
    ],
)  # fmt: skip
def test_a_run_that_cannot_be_played_is_refused_before_anything_is_written(
    home: HubDirectory, source: Path, old: str, new: str, error: type[Exception] | None, words: str
) -> None:
    assert old in source.read_text()
    source.write_text(source.read_text().replace(old, new))
    if error is None:
        Run.create(home, source)
        return
    with pytest.raises(error, match=words):
        Run.create(home, source)
    assert not home.runs_path.exists()


@pytest.mark.parametrize("name", ["instruction_tuning", "document_summarization"])
def test_a_base_model_that_cannot_write_is_refused_before_anything_is_written(
    home: HubDirectory, source: Path, name: str
) -> None:
    labelled = 'name = "sentiment_analysis"\nlabels = ["negative", "positive"]'
    source.write_text(source.read_text().replace(labelled, f'name = "{name}"'))
    header = "prompt,completion" if name == "instruction_tuning" else "text,summary"
    (source.parent / "test.csv").write_text(f"{header}\nprofit rises,positive\nloss widens,negative\n")
    with pytest.raises(ModelError, match=r"base model minilm \(bert\): it cannot write text: use a decoder"):
        Run.create(home, source)
    assert not home.runs_path.exists()
    Run.create(home, source, changes=['model.base="smollm2"'])


def test_a_run_without_labels_reads_its_texts_before_anything_is_written(home: HubDirectory, source: Path) -> None:
    labelled = 'name = "sentiment_analysis"\nlabels = ["negative", "positive"]'
    text = source.read_text().replace(labelled, 'name = "masked_language_modelling"')
    source.write_text(text + 'public = "filings"\n')
    with pytest.raises(DataError, match="filings"):
        Run.create(home, source)
    assert not home.runs_path.exists()
    (source.parent / "filings").mkdir()
    (source.parent / "filings" / "one.txt").write_text("net sales rose\n\ncosts fell")
    config, data = Run.create(home, source).config()
    assert data is not None
    assert sorted(read_public_texts(data, config)) == ["costs fell", "net sales rose"]
    assert [example.text for example in read_test_set(data, config).examples] == ["profit rises", "loss widens"]
    assert len(read_public_texts(None, config)) > 300


def test_names_that_lead_out_of_the_directory_are_no_runs(home: HubDirectory, source: Path) -> None:
    Run.create(home, source)
    for name in ("..", "../hub", "", "absent", "a/b"):
        with pytest.raises(CheckpointError, match="no run of this hub has that name"):
            Run.open(home, name)
    with pytest.raises(ConfigurationError, match="run name"):
        Run.create(home, source, "../x")


def test_one_process_executes_a_run_and_its_death_releases_it(home: HubDirectory, source: Path) -> None:
    run = Run.create(home, source)
    assert not run.is_executing()
    with run.executing("7"):
        assert run.is_executing()
        assert run.executor() == Executor(flower_run="7", pid=os.getpid())
        with pytest.raises(CheckpointError, match="executes it already"), run.executing("8"):
            pass
    assert not run.is_executing()
    code = f"""
import os, sys; sys.path.insert(0, {str(Path.cwd())!r})
from pathlib import Path; from server.hub.directory import HubDirectory; from server.runs.run import Run
with Run.open(HubDirectory(Path({str(home.directory)!r})), {run.name!r}).executing("9"): os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    assert (executor := run.executor()) is not None
    assert executor.flower_run == "9"
    assert not run.is_executing()


def submitted(run: Run) -> Submission:
    submission = run.submission()
    assert submission is not None
    return submission


def test_registrations_follow_enrolment(home: HubDirectory, control: FakeControl) -> None:
    reconciler = Reconciler(home)
    reconciler.tick()
    keys = {entry.request.node_key for entry in home.members().values()}
    assert set(control.known) == keys
    revoke(home, "south")
    reconciler.tick()
    assert {key for key, node in control.known.items() if node.registered} == {home.members()["north"].request.node_key}


def test_a_run_whose_process_died_is_resubmitted(home: HubDirectory, source: Path, control: FakeControl) -> None:
    run = Run.create(home, source)
    submit_run(run, control)
    reconciler = Reconciler(home)
    with run.executing("1"):
        reconciler.tick()
        assert submitted(run).flower_run == "1"
    reconciler.tick()
    assert submitted(run) == Submission(flower_run="2", attempt=2, round=1)
    assert control.runs == {1: FLOWER_FINISHED, 2: "running"}
    # The new process has not begun yet: it is given time.
    reconciler.tick()
    assert submitted(run).flower_run == "2"


def test_a_finished_round_starts_the_count_again_and_three_deaths_in_one_end_the_run(
    home: HubDirectory, source: Path, control: FakeControl
) -> None:
    run = Run.create(home, source)
    note(home, "run_created", {"run": run.name})
    submit_run(run, control)
    reconciler = Reconciler(home)
    for attempt in (2, 3):
        control.runs[len(control.runs)] = FLOWER_FINISHED
        reconciler.tick()
        assert submitted(run).attempt == attempt
    (run.directory / "history.json").write_text(json.dumps([{"round": 1, "weights": {"north": 1.0}}]))
    control.runs[len(control.runs)] = FLOWER_FINISHED
    reconciler.tick()
    assert submitted(run) == Submission(flower_run="4", attempt=1, round=2)
    for _ in range(3):
        control.runs[len(control.runs)] = FLOWER_FINISHED
        reconciler.tick()
    ending = run.ending()
    assert ending is not None
    assert ending.state == FAILED
    assert "ended 3 times" in ending.message
    assert verify_all(home.directory).hub == 4
    reconciler.tick()
    assert len(control.runs) == 6


def test_a_run_that_has_ended_is_left_alone(home: HubDirectory, source: Path, control: FakeControl) -> None:
    run = Run.create(home, source)
    submit_run(run, control)
    run.end(STOPPED)
    cancel_run(run, control)
    Reconciler(home).tick()
    assert control.runs == {1: FLOWER_FINISHED}
    run.reopen()
    assert run.ending() is None


def test_the_hubs_log_names_every_run_and_how_far_its_own_log_went(home: HubDirectory, source: Path) -> None:
    run = Run.create(home, source)
    note(home, "run_created", {"run": run.name})
    log = run.directory / "audit.jsonl"
    with Journal.open(log, home.keys(), RUN_PURPOSE) as journal:
        journal.append("one", {})
        early = {path: path.read_bytes() for path in (log, log.with_name("audit.jsonl.head"))}
        journal.append("two", {})
        entries = journal.entries
    run_ended(home, run.name, "finished", entries)
    assert dict(verify_all(home.directory).runs) == {run.name: 2}
    # Both files put back together to an earlier state: the journal alone could not show that.
    for path, data in early.items():
        path.write_bytes(data)
    with pytest.raises(LedgerError, match="ended with entry 2"):
        verify_all(home.directory)
    for path in early:
        path.unlink()
    with pytest.raises(LedgerError, match="absent"):
        verify_all(home.directory)


def test_the_log_of_a_run_that_never_ended_is_anchored_round_by_round(home: HubDirectory, source: Path) -> None:
    run = Run.create(home, source)
    note(home, "run_created", {"run": run.name})
    log = run.directory / "audit.jsonl"
    with Journal.open(log, home.keys(), RUN_PURPOSE) as journal:
        journal.append("run_started", {})
        early = {path: path.read_bytes() for path in (log, log.with_name("audit.jsonl.head"))}
        journal.append("round_closed", {})
        anchor_run(home, run.name, journal.entries)
        journal.append("round_missed", {})
    assert dict(verify_all(home.directory).runs) == {run.name: 3}
    for path, data in early.items():
        path.write_bytes(data)
    with pytest.raises(LedgerError, match="ended with entry 2"):
        verify_all(home.directory)
    for path in early:
        path.unlink()
    with pytest.raises(LedgerError, match="absent"):
        verify_all(home.directory)


def test_the_adapter_and_history_of_a_finished_run_are_held_by_the_hubs_log(home: HubDirectory, source: Path) -> None:
    run = Run.create(home, source)
    note(home, "run_created", {"run": run.name})
    adapter = run.directory / "adapter" / "adapter_model.safetensors"
    adapter.parent.mkdir()
    adapter.write_bytes(b"weights")
    history = run.directory / "history.json"
    history.write_text("[]")
    files = {str(path.relative_to(run.directory)): file_sha256(path) for path in (adapter, history)}
    run_ended(home, run.name, FINISHED, (), files)
    verify_all(home.directory)
    adapter.write_bytes(b"Weights")
    with pytest.raises(LedgerError, match=r"adapter_model\.safetensors: it was changed after the run had ended"):
        verify_all(home.directory)
    adapter.write_bytes(b"weights")
    history.unlink()
    with pytest.raises(LedgerError, match=r"history\.json: the hub's log names it"):
        verify_all(home.directory)


def test_a_full_disk_does_not_end_the_reconciler(
    home: HubDirectory, source: Path, control: FakeControl, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    run = Run.create(home, source)
    submit_run(run, control)
    control.runs[1] = FLOWER_FINISHED

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("server.runs.run.write_json", full)
        Reconciler(home).tick()
    assert "cannot be written (No space left on device): make room" in caplog.text
    Reconciler(home).tick()
    assert submitted(run).attempt == 2


def test_a_damaged_run_does_not_stop_the_others(
    home: HubDirectory, source: Path, control: FakeControl, caplog: pytest.LogCaptureFixture
) -> None:
    damaged, sound = Run.create(home, source), Run.create(home, source)
    for run in (damaged, sound):
        submit_run(run, control)
    (damaged.directory / "submission.json").write_text("{")
    control.runs = dict.fromkeys(control.runs, FLOWER_FINISHED)
    Reconciler(home).tick()
    assert "submission.json: not valid JSON" in caplog.text
    assert submitted(sound).attempt == 2
