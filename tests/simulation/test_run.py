"""A whole federation, with a tiny random encoder: the files of a run, which can be cut anywhere."""

import csv
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from client.cli import main as institution
from common.adapters.manifest import read_manifest, unprotected
from common.errors import CheckpointError, ConfigurationError, QuorumError
from common.identity.keys import PrivateKeys
from common.privacy.ledger import PrivacyLedger
from common.protocol.adapter_codec import Tensors
from server.rounds import checkpoint
from server.rounds.coordinator import Evaluation
from simulation.baselines import alone
from simulation.cli import main
from simulation.runner import run_simulation
from simulation.workspace import Workspace
from tests.simulation.helpers import SIZES, write_simulation


def test_a_run_leaves_everything_that_is_promised(tmp_path: Path) -> None:
    config = write_simulation(tmp_path)
    result = run_simulation(Workspace.create(config, tmp_path / "out"), baselines=True)
    out = tmp_path / "out"
    for name in (
        "config.toml",
        "versions.json",
        "history.json",
        "result.json",
        "report.html",
        "audit.jsonl",
        "adapter/adapter_model.safetensors",
    ):
        assert (out / name).is_file(), name
    assert set(json.loads((out / "result.json").read_text())) >= {
        "accuracy",
        "weighted_f1",
        "rounds",
        "epsilon",
        "delta",
        "bytes_up",
        "bytes_down",
        "seconds",
        "adapter",
    }
    assert result.rounds == 2
    assert set(result.epsilon) == {"north", "south", "west"}
    assert all(0 < value <= 8 for value in result.epsilon.values())
    assert {row.name for row in result.baselines} >= {
        "majority guess",
        "north alone",
        "south alone",
        "west alone",
    }


def test_the_rows_of_each_institution_are_looked_at_once_for_its_own_directory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = write_simulation(tmp_path)
    rows = tmp_path / "rows.csv"
    rows.write_text(rows.read_text() + "anna@example.com tells of profit,positive,north,train\n")
    out = tmp_path / "out"
    run_simulation(Workspace.create(config, out), baselines=True)
    assert [m for m in caplog.messages if "personal data" in m] == [
        "north: 1 (row 33) seem to hold personal data (e-mail)"
    ]
    for name in SIZES:
        kept = out / "institutions" / name / "inspection.json"
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        assert [split["name"] for split in json.loads(kept.read_text())["splits"]] == [name]
    shared = [path for path in out.rglob("*") if path.is_file() and "institutions" not in path.parts]
    assert not any(b"e-mail" in path.read_bytes() for path in shared)


def test_what_a_run_leaves_predicts_and_merges(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An institution uses the federation's adapter with the commands it knows from fine-tuning alone."""
    result = run_simulation(Workspace.create(write_simulation(tmp_path), tmp_path / "out"))
    news, adapter = tmp_path / "news.txt", str(tmp_path / "out" / "adapter")
    news.write_text("profit rises\nloss widens\n")
    assert institution(["predict", "--adapter", adapter, str(news), "--format", "jsonl"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["p_negative"] + row["p_positive"] for row in rows] == pytest.approx([1.0, 1.0], abs=1e-5)
    test = [row for row in csv.DictReader((tmp_path / "rows.csv").read_text().splitlines()) if row["split"] == "test"]
    with (tmp_path / "test.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(test[0]))
        writer.writeheader()
        writer.writerows(test)
    assert institution(["evaluate", "--adapter", adapter, "--test", str(tmp_path / "test.csv"), "--json"]) == 0
    measured = json.loads(capsys.readouterr().out.splitlines()[-1])["metrics"]
    assert measured["accuracy"] == pytest.approx(result.metrics["accuracy"])
    assert institution(["merge", "--adapter", adapter, "--out", str(tmp_path / "merged")]) == 0


def test_a_bank_alone_is_a_federation_of_one(tmp_path: Path) -> None:
    """The comparison with each bank alone gives it the means of the federation: the rounds and the hub's optimiser."""
    config = write_simulation(tmp_path, extra='[aggregation]\nserver_optimizer = "momentum"', rounds=3)
    one = ["data.institution_column=", "data.institutions=1"]
    plain = ["privacy.mode=none", "privacy.target_epsilon=", "privacy.delta=", "privacy.clipping_norm="]
    workspace = Workspace.create(config, tmp_path / "one", [*one, *plain])
    run_simulation(workspace)
    found: list[Tensors] = []

    def evaluate(adapter: Tensors) -> Evaluation:
        found.append(adapter)
        return Evaluation({"accuracy": 0.0, "weighted_f1": 0.0}, {})

    alone(workspace, evaluate, "institution_1")
    federated = checkpoint.load(tmp_path / "one" / "checkpoint").adapter
    assert all(np.array_equal(found[0][name], federated[name]) for name in federated)


def test_only_adapter_tensors_travel_and_b_is_half(tmp_path: Path) -> None:
    both = run_simulation(Workspace.create(write_simulation(tmp_path, trained_factors="AB"), tmp_path / "ab"))
    only_b = run_simulation(Workspace.create(write_simulation(tmp_path, trained_factors="B"), tmp_path / "b"))
    assert only_b.bytes_up < both.bytes_up


def test_updates_in_bfloat16_take_half_the_bytes_and_end_near_those_in_float32(tmp_path: Path) -> None:
    bytes_up, adapters, epsilons = {}, {}, []
    for dtype in ("float32", "bfloat16"):
        config = write_simulation(tmp_path, noise="fixed", extra=f'[aggregation]\nupdate_dtype = "{dtype}"')
        workspace = Workspace.create(config, tmp_path / dtype)
        result = run_simulation(workspace)
        bytes_up[dtype], spec = result.bytes_up, workspace.models.adapted.spec
        adapters[dtype] = checkpoint.load(workspace.out / "checkpoint").adapter
        epsilons.append(result.epsilon)
    answers = 3 * 2
    saved = answers * spec.data_bytes // 2
    assert bytes_up["float32"] - bytes_up["bfloat16"] == pytest.approx(saved, abs=answers * 64)
    assert epsilons[0] == epsilons[1]
    start = workspace.models.adapted.initial()
    for name, value in adapters["float32"].items():
        moved = np.abs(value - start[name]).max()
        np.testing.assert_allclose(adapters["bfloat16"][name], value, atol=max(float(moved) / 50, 1e-7))


def test_the_ledger_holds_what_the_statement_says(tmp_path: Path) -> None:
    workspace = Workspace.create(write_simulation(tmp_path), tmp_path / "out")
    result = run_simulation(workspace)
    directory = tmp_path / "out" / "institutions" / "north"
    with PrivacyLedger.open(directory / "ledger.jsonl", PrivateKeys.load(directory / "keys")) as ledger:
        assert sum(event.steps for event in ledger.spent()) == 2 * 2
        assert ledger.epsilon(1e-4) == pytest.approx(result.epsilon["north"])


def test_fixed_noise_repeats_and_system_noise_does_not(tmp_path: Path) -> None:
    results = [
        run_simulation(Workspace.create(write_simulation(tmp_path, noise=noise), tmp_path / f"{noise}{i}"))
        for noise in ("fixed", "system")
        for i in range(2)
    ]
    digests = [result.adapter_digest for result in results]
    assert digests[0] == digests[1]
    assert digests[2] != digests[3]
    facts = {noise: read_manifest(tmp_path / f"{noise}0" / "adapter")[2] for noise in ("fixed", "system")}
    assert (unprotected(facts["fixed"]), unprotected(facts["system"])) == (True, False)


def test_institutions_at_their_limit_refuse_and_the_run_stops_with_its_reason(tmp_path: Path) -> None:
    config = write_simulation(tmp_path, max_epsilon=7.0)
    with pytest.raises(QuorumError):
        run_simulation(Workspace.create(config, tmp_path / "out"))
    missed = checkpoint.load(tmp_path / "out" / "checkpoint").missed
    assert set(missed[-1].outcomes.values()) == {"declined:budget"}
    directory = tmp_path / "out" / "institutions" / "north"
    with PrivacyLedger.open(directory / "ledger.jsonl", PrivateKeys.load(directory / "keys")) as ledger:
        assert 0 < ledger.epsilon(1e-4) <= 7.0


def test_a_full_output_directory_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match="not empty"):
        Workspace.create(write_simulation(tmp_path), tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["notes.txt"]


def test_changed_data_is_noticed_on_resume(tmp_path: Path) -> None:
    config = write_simulation(tmp_path)
    Workspace.create(config, tmp_path / "out")
    rows = (tmp_path / "rows.csv").read_text().splitlines()
    (tmp_path / "rows.csv").write_text("\n".join(rows[:-1]) + "\n")
    with pytest.raises(CheckpointError, match="data has changed"):
        Workspace.reopen(tmp_path / "out")


def test_a_corrupt_checkpoint_is_one_line_and_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_simulation(tmp_path)
    assert main(["run", str(config), "--out", str(tmp_path / "out"), "--json"]) == 0
    capsys.readouterr()
    files = [p for p in (tmp_path / "out" / "checkpoint").rglob("*") if p.is_file()]
    damaged = max(files, key=lambda p: p.stat().st_size)
    damaged.write_bytes(damaged.read_bytes()[:-7] + b"garbage")
    assert main(["resume", str(tmp_path / "out"), "--json"]) == 2
    captured = capsys.readouterr()
    assert "checkpoint" in captured.err
    assert "Traceback" not in captured.err


@pytest.mark.parametrize("wait_s", [0.0, 0.3, 0.8])
def test_kill_9_then_resume_ends_in_the_same_bytes(tmp_path: Path, wait_s: float) -> None:
    config = write_simulation(tmp_path, noise="fixed", rounds=6, local_steps=6)
    expected = run_simulation(Workspace.create(config, tmp_path / "whole"))
    command = [sys.executable, "-m", "simulation.cli", "run", str(config), "--out", str(tmp_path / "cut"), "--json"]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": "."}
    )
    ledger = tmp_path / "cut" / "institutions" / "north" / "ledger.jsonl"
    while not (ledger.exists() and ledger.stat().st_size) and process.poll() is None:  # until something is charged
        time.sleep(0.005)
    time.sleep(wait_s)
    process.send_signal(signal.SIGKILL)
    process.wait()
    resumed = run_simulation(Workspace.reopen(tmp_path / "cut"))
    assert resumed.adapter_digest == expected.adapter_digest
    assert all(resumed.epsilon[name] >= expected.epsilon[name] - 1e-9 for name in expected.epsilon)


def test_a_run_cut_after_the_answers_goes_on_with_all_of_them_and_under_other_code_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An institution answers no round twice, so a changed code would cost the run contributions in silence."""
    config, out = write_simulation(tmp_path, noise="fixed"), tmp_path / "cut"
    expected = run_simulation(Workspace.create(config, tmp_path / "whole"))

    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("simulation.in_process.save_round", cut)
        with pytest.raises(KeyboardInterrupt):
            run_simulation(Workspace.create(config, out))
    ledgers = [out / "institutions" / name / "ledger.jsonl" for name in SIZES]
    charged = [path.read_bytes() for path in ledgers]
    with monkeypatch.context() as patch:
        for module in ("server.rounds.assignments", "server.rounds.coordinator", "client.agent.agent"):
            patch.setattr(f"{module}.code_digest", lambda: "0" * 64)
        with pytest.raises(CheckpointError, match="north, south, west answered round 1 under other code"):
            run_simulation(Workspace.reopen(out))
    assert [path.read_bytes() for path in ledgers] == charged
    resumed = run_simulation(Workspace.reopen(out))
    assert resumed.adapter_digest == expected.adapter_digest
    for record in checkpoint.load(out / "checkpoint").history:
        assert set(record.contributed) == set(SIZES)
    assert resumed.epsilon == expected.epsilon


def test_the_last_line_of_json_is_one_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(write_simulation(tmp_path)), "--out", str(tmp_path / "out"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert Path(result["adapter"]).is_dir()


def test_each_institution_learns_its_epsilon_against_the_hub_and_against_users_of_the_global_model(
    tmp_path: Path,
) -> None:
    path = write_simulation(tmp_path, local_steps=1)
    assert main(["run", str(path), "--out", str(tmp_path / "out")]) == 0
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert set(result["epsilon_global_model"]) == set(SIZES)
    for name, found in result["epsilon_global_model"].items():
        statement = json.loads((tmp_path / "out" / "institutions" / name / "statement.json").read_text())
        assert 0 < found < result["epsilon"][name]
        assert statement["epsilon_global_model"] == found
    assert "Global model only" in (tmp_path / "out" / "report.html").read_text()
