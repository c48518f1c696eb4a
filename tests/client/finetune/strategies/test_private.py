"""Fine-tuning alone under differential privacy, charged to an institution: its ledger, its limits, its unit."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from client.dp.noise import SystemNoise
from client.dp.plan import DpTrainingPlan
from client.finetune import AdapterOptions, FineTuningJob, FineTuningResult, PrivacyOptions, TrainingOptions, finetune
from client.finetune.strategies import private
from client.institution.directory import InstitutionDirectory
from common.errors import BudgetExceeded, ConfigurationError, FedfinError, LedgerError
from common.privacy.charges import Charge, read_charges
from tests.client.finetune.example_data import TinyModels, task_data

LIMITS = "max_epsilon = 4.0\ndelta = 1e-3\nmin_noise_multiplier = 0.3\n"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    return TinyModels(tmp_path_factory.mktemp("models"))


def institution(directory: Path, models: TinyModels, limits: str = LIMITS) -> InstitutionDirectory:
    home = InstitutionDirectory.create(directory, "bank")
    allowed = f'[model]\nallowed = ["{models("bert")}"]\n'
    home.settings_path.write_text(f'[institution]\nname = "bank"\n{allowed}[limits]\n{limits}')
    return home


def charges(home: InstitutionDirectory) -> tuple[Charge, ...]:
    return read_charges(home.ledger_path, home.public_keys())


def train(
    models: TinyModels, out: Path, home: InstitutionDirectory, epsilon: float = 3.0, **changes: Any
) -> FineTuningResult:
    values: dict[str, Any] = {"training": TrainingOptions(epochs=1), "seed": 3, **changes}
    privacy = PrivacyOptions(epsilon=epsilon)
    data = (task_data("sentiment_analysis"),)
    return finetune(
        FineTuningJob(
            data=data, out=out, base_model=models("bert"), privacy=privacy, institution=home.directory, **values
        )
    )


def test_it_is_charged_to_the_institutions_ledger_and_refused_beyond_its_limit(
    models: TinyModels, tmp_path: Path
) -> None:
    home = institution(tmp_path / "bank", models)
    outcome = train(models, tmp_path / "one", home)
    [charge] = charges(home)
    assert outcome.privacy is not None
    assert (charge.steps_done, charge.reservation.use.requester) == (outcome.privacy.steps, "bank")
    assert charge.reservation.use.delta == 1e-3
    assert (tmp_path / "one" / "result.json").stat().st_mode & 0o077 == 0  # it counts rows and holds losses
    with pytest.raises(BudgetExceeded, match="above the limit 4"):
        train(models, tmp_path / "two", home, seed=4)
    assert len(charges(home)) == 1


@pytest.mark.parametrize(
    ("limits", "epsilon", "expected"),
    [
        (LIMITS + 'unit = "customer"\n', 3.0, "protects one record, and this institution's limits.unit is customer"),
        (LIMITS.replace("0.3", "9.0"), 3.0, "below this institution's limits.min_noise_multiplier"),
        ("max_epsilon = 4.0\ndelta = 0.5\n", 3.0, "must be below one over the 64 training rows"),
    ],
    ids=["unit", "noise", "delta"],
)
def test_less_than_the_institutions_limits_ask_for_is_refused_and_not_charged(
    models: TinyModels, tmp_path: Path, limits: str, epsilon: float, expected: str
) -> None:
    home = institution(tmp_path / "bank", models, limits)
    with pytest.raises(FedfinError, match=expected):
        train(models, tmp_path / "out", home, epsilon)
    assert charges(home) == ()


def test_a_ledger_that_is_gone_is_a_loss_and_no_fresh_budget(models: TinyModels, tmp_path: Path) -> None:
    home = institution(tmp_path / "bank", models)
    home.ledger_path.unlink()
    home.ledger_path.with_name("ledger.jsonl.head").unlink()
    with pytest.raises(LedgerError, match="restore it and ledger"):
        train(models, tmp_path / "out", home)
    assert not home.ledger_path.exists()


def test_nothing_is_dropped_under_privacy(models: TinyModels, tmp_path: Path) -> None:
    home = institution(tmp_path / "bank", models)
    with pytest.raises(ConfigurationError, match="dropout does not go with privacy"):
        train(models, tmp_path / "out", home, adapter=AdapterOptions(dropout=0.1))
    assert not (tmp_path / "out").exists()


def test_without_privacy_opacus_is_not_loaded() -> None:
    strategies = "continual_pretraining, distillation, domain_adversarial, incremental, multi_task, single_task"
    code = f"import sys; from client.finetune.strategies import {strategies}; sys.exit('opacus' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class Stop(RuntimeError):
    """Ends a training where it would begin."""


def test_alone_the_charge_is_on_disk_when_training_begins(
    models: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = institution(tmp_path / "bank", models)
    seen: list[int | None] = []

    def watch(*_: object, **__: object) -> None:
        seen.extend(charge.steps_done for charge in charges(home))
        raise Stop

    monkeypatch.setattr(private, "train", watch)
    with pytest.raises(Stop):
        train(models, tmp_path / "one", home)
    assert seen == [None]


def test_alone_noise_is_the_operating_systems_and_sums_are_divided_by_the_declared_size(
    models: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def watch(_: object, __: object, plan: DpTrainingPlan, noise: object, **___: object) -> None:
        assert type(noise) is SystemNoise
        assert plan.dp is not None
        assert plan.dp.expected_batch_size == pytest.approx(plan.sampling_probability * 32)
        raise Stop

    monkeypatch.setattr(private, "train", watch)
    home = institution(tmp_path / "bank", models, LIMITS + "[release]\ndeclared_units = 32\n")
    with pytest.raises(Stop):
        train(models, tmp_path / "one", home)
