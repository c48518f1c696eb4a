"""Secrets come out of a model that writes if nothing protects them, and not through the run's noise."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.audit import checks, findings, memorisation
from client.audit.inversion import invert
from client.audit.memorisation import CANARIES, memorise
from client.audit.subject import Subject, load_subject
from client.commands import audit
from common.config.run import RunConfig, parse_run
from common.report.records import AuditResult
from tests.client.commands.institution_commands import command_line
from tests.client.finetune.example_data import save_tiny_writer

main = command_line(audit.add)


def run(base: Path, **training: Any) -> RunConfig:
    settings = {"local_steps": 20, "sampling_rate": 0.5, "learning_rate": 0.02, "optimizer": "adamw"} | training
    tables = {
        "run": {"name": "tiny", "seed": 3, "rounds": 2},
        "task": {"name": "instruction_tuning"},
        "model": {"base": str(base), "pooling": "native", "max_tokens": 32},
        "adapter": {"rank": 8, "alpha": 16, "target_modules": "all-linear", "layers": "all"},
        "training": settings,
        "privacy": {"mode": "target", "target_epsilon": 2.0, "clipping_norm": 0.5, "delta": 1e-5},
    }
    return parse_run(tables, "test")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("writer")
    save_tiny_writer(path)
    return path


@pytest.fixture(scope="module")
def subject(base: Path) -> Subject:
    return load_subject(run(base), 5000)


def test_secrets_come_out_without_privacy_and_not_through_the_runs_noise(subject: Subject) -> None:
    found = memorise(subject, 0.95)
    assert found.canaries == CANARIES
    assert 5 < found.included < 35
    assert found.plain_bits > 0.9 * found.most_bits  # nearly each one is the likeliest of all candidates
    assert found.plain > 0
    assert found.private == 0
    assert found.private_bits < found.most_bits / 2
    assert found.lower_bound <= subject.claimed


def test_a_planted_training_without_noise_gives_the_coins_away(subject: Subject) -> None:
    found = memorise(subject, 0.95, noise_multiplier=0.0)
    assert found.private_bits > found.most_bits / 2 > found.absent_bits
    assert found.right_guesses == found.guesses
    assert found.lower_bound > 0


def test_a_model_that_has_learned_nothing_shows_what_chance_shows(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memorisation, "train", lambda *_, **__: None)
    found = memorise(subject, 0.95)
    assert (found.plain, found.private) == (0, 0)
    for bits in (found.plain_bits, found.private_bits, found.absent_bits):
        assert 0.3 < bits < 3.2  # 1.4 on average
    assert found.lower_bound < subject.claimed


def test_a_model_that_broke_shows_nothing(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    def ruin(model: Any, *_: object, **__: object) -> None:
        model.load({name: np.full_like(value, np.nan) for name, value in model.export().items()})

    monkeypatch.setattr(memorisation, "train", ruin)
    found = memorise(subject, 0.95)
    assert (found.plain, found.private, found.lower_bound) == (0, 0, 0.0)
    assert found.plain_bits == found.private_bits < 1.1


def test_words_are_read_from_a_decoders_plain_update_and_not_through_the_noise(base: Path) -> None:
    found = invert(load_subject(run(base), 50))
    assert found.plain > 2 * found.chance
    assert found.private < found.plain
    assert not findings._more_than_chance(found)


def test_the_audit_of_a_run_that_writes_tells_all_of_it(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "_NOISE_VALUES", 6000)
    monkeypatch.setattr(checks, "_SAMPLED_STEPS", 100)
    (tmp_path / "config.json").write_text(run(base, local_steps=4).to_json())
    assert main(["audit", "--run", str(tmp_path), "--canaries", "60"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "secrets written" in said
    assert "canary sentences" in said
    written = json.loads((tmp_path / "audit.json").read_text())
    read = AuditResult.from_json("audit.json", written)
    assert read.memorisation is not None
    assert read.memorisation.canaries == CANARIES
    assert read.failed == ()


def test_a_bound_above_the_claim_refutes_it(base: Path, monkeypatch: pytest.MonkeyPatch, subject: Subject) -> None:
    monkeypatch.setattr(checks, "_NOISE_VALUES", 6000)
    monkeypatch.setattr(checks, "_SAMPLED_STEPS", 100)
    found = memorise(subject, 0.95)
    monkeypatch.setattr(findings, "memorise", lambda *_: replace(found, lower_bound=9.0))
    assert "sentences" in findings.audit(run(base, local_steps=4), canaries=60).failed
