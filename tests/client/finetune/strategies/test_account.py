"""A job is held to the limits of its institution and charged to one ledger, before anything is trained or written."""

import math
from pathlib import Path
from typing import Any

import pytest

from client.finetune import FineTuningJob, PrivacyOptions, TrainingOptions
from client.finetune.strategies.account import Account, charge_without_privacy, check_job, institution_of, open_account
from client.finetune.strategies.session import Session, open_session
from client.institution.directory import InstitutionDirectory
from common.errors import AssignmentRefused, ConfigurationError
from common.privacy.accounting import DpSgdEvent
from common.privacy.charges import Charge, read_charges
from tests.client.finetune.example_data import TinyModels, task_data

EVENT = DpSgdEvent(1.5, 0.1, 20)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    return TinyModels(tmp_path_factory.mktemp("models"))


@pytest.fixture
def home(tmp_path: Path, models: TinyModels) -> InstitutionDirectory:
    """An institution that allows one model, one task and an epsilon of 4."""
    home = InstitutionDirectory.create(tmp_path / "bank", "bank")
    home.settings_path.write_text(
        f'[institution]\nname = "bank"\n[model]\nallowed = ["{models("bert")}"]\n'
        '[limits]\nmax_epsilon = 4.0\ndelta = 1e-4\ntasks = ["sentiment_analysis"]\n'
    )
    return home


def job(models: TinyModels, out: Path, home: InstitutionDirectory | None, **changes: Any) -> FineTuningJob:
    values: dict[str, Any] = {
        "data": (task_data("sentiment_analysis", 64, 16),),
        "out": out,
        "base_model": models("bert"),
        "training": TrainingOptions(epochs=2, batch_size=10, validation=0.0),
        "privacy": PrivacyOptions(epsilon=2.0),
        "institution": None if home is None else home.directory,
    }
    return FineTuningJob(**values | changes)


def charges(home: InstitutionDirectory) -> tuple[Charge, ...]:
    return read_charges(home.ledger_path, home.public_keys())


def charge(session: Session, event: DpSgdEvent = EVENT) -> None:
    with open_account(session) as account:
        account.charge(session, event, 64, 1e-4, 1.0)


def test_a_job_without_an_institution_has_no_limits(models: TinyModels, tmp_path: Path) -> None:
    assert institution_of(job(models, tmp_path / "out", None)) is None
    check_job(job(models, tmp_path / "out", None, privacy=None))


def test_a_directory_without_an_institution_is_refused(models: TinyModels, tmp_path: Path) -> None:
    (tmp_path / "nobody").mkdir()
    with pytest.raises(ConfigurationError, match="nobody"):
        institution_of(job(models, tmp_path / "out", InstitutionDirectory(tmp_path / "nobody")))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"data": (task_data("risk_classification", 64, 16),)}, "task"),
        ({"base_model": "minilm"}, "base_model"),
        ({"privacy": None}, "privacy_limit"),
        ({"privacy": PrivacyOptions(epsilon=2.0, delta=1e-3)}, "privacy_limit"),
    ],
    ids=["task", "model", "no privacy", "delta"],
)
def test_a_job_beyond_the_limits_is_refused_by_its_description_alone(
    models: TinyModels, tmp_path: Path, home: InstitutionDirectory, changes: dict[str, Any], code: str
) -> None:
    with pytest.raises(AssignmentRefused) as refused:
        check_job(job(models, tmp_path / "out", home, **changes))
    assert refused.value.code == code
    check_job(job(models, tmp_path / "out", home))


def test_a_charge_is_in_the_institutions_ledger_when_the_output_directory_begins(
    models: TinyModels, tmp_path: Path, home: InstitutionDirectory
) -> None:
    session = open_session(job(models, tmp_path / "out", home))
    assert not (tmp_path / "out").exists()
    charge(session)
    [entry] = charges(home)
    use = entry.reservation.use
    assert (entry.event, use.num_units, use.delta, use.requester) == (EVENT, 64, 1e-4, "bank")
    assert (use.task, use.base_digest) == ("sentiment_analysis", session.model.base.digest)
    assert use.run_id == f"alone-{session.identity[:32]}"
    assert (tmp_path / "out" / "job.json").exists()
    assert not (tmp_path / "out" / "ledger.jsonl").exists()


def test_a_charge_beyond_the_budget_begins_nothing(
    models: TinyModels, tmp_path: Path, home: InstitutionDirectory
) -> None:
    session = open_session(job(models, tmp_path / "out", home))
    with pytest.raises(AssignmentRefused, match="above the limit 4"):
        charge(session, DpSgdEvent(0.4, 0.5, 200))
    assert charges(home) == ()
    assert not (tmp_path / "out").exists()


def test_without_an_institution_the_ledger_lies_in_the_output_directory(models: TinyModels, tmp_path: Path) -> None:
    session = open_session(job(models, tmp_path / "out", None))
    with open_account(session) as account:
        assert isinstance(account, Account)
        assert account.institution is None
        account.charge(session, DpSgdEvent(0.4, 0.5, 200), 64, 1e-4, 1.0)
    [entry] = read_charges(tmp_path / "out" / "ledger.jsonl", session.keys.public)
    assert entry.event.steps == 200


def test_a_training_without_privacy_is_charged_all_its_steps_and_an_infinite_epsilon(
    models: TinyModels, tmp_path: Path, home: InstitutionDirectory
) -> None:
    text = home.settings_path.read_text().replace("max_epsilon = 4.0\n", "allow_without_privacy = true\n")
    home.settings_path.write_text(text)
    session = open_session(job(models, tmp_path / "out", home, privacy=None))  # it charges once
    charge_without_privacy(session)
    for entry in charges(home):
        assert (entry.event.noise_multiplier, entry.event.steps) == (0.0, 2 * math.ceil(64 / 10))
        assert entry.reservation.use.delta is None
    assert len(charges(home)) == 2
