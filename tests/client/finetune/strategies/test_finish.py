"""The end of a job writes an adapter that gives the same answers, a result that names its origin, and no leftovers."""

import json
import stat
from pathlib import Path

import pytest

from client.finetune import FineTuningJob, FineTuningResult, TrainingOptions
from client.finetune.result import PrivacyGuarantee
from client.finetune.strategies.finish import finish
from client.finetune.strategies.session import Session, open_session
from common.adapters.restore import load_adapter
from tests.client.finetune.example_data import TinyModels, task_data
from tests.tiny_models import shaken

METRICS = {"accuracy": 0.75, "macro_f1": 0.7}
RECORD = {"loss": 0.5, "steps": 6, "epochs": 1}
GUARANTEE = PrivacyGuarantee(
    epsilon=1.5, delta=1e-4, noise_multiplier=1.1, clipping_norm=1.0, sampling_probability=0.1, steps=20,
    unit="record", adjacency="add-or-remove-one", accountant="PLD", ledger_epsilon=1.5, unprotected_before=False,
    does_not_cover=("the choice of hyperparameters",),
)  # fmt: skip


@pytest.fixture
def session(tmp_path: Path) -> Session:
    """An opened job whose model has been moved from its start."""
    job = FineTuningJob(
        data=(task_data("sentiment_analysis", 64, 16),), out=tmp_path / "out", base_model=TinyModels(tmp_path)("bert"),
        training=TrainingOptions(epochs=1), seed=3,
    )  # fmt: skip
    opened = open_session(job)
    shaken(opened.model)
    return opened


def test_the_written_adapter_holds_the_weights_of_the_model(session: Session) -> None:
    result = finish(session, METRICS, RECORD)
    loaded, manifest, _ = load_adapter(result.adapter)
    assert manifest.tasks == session.manifest.tasks
    expected = session.model.export()
    assert loaded.export().keys() == expected.keys()
    assert all((value == expected[name]).all() for name, value in loaded.export().items())


def test_the_written_result_is_the_returned_one_and_its_owners_alone(session: Session) -> None:
    result = finish(session, METRICS, RECORD)
    path = session.job.out / "result.json"
    assert FineTuningResult.from_json(json.loads(path.read_text())) == result
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert result.metrics.accuracy == 0.75
    assert result.train_metrics == RECORD
    assert result.parameter_efficiency == session.model.parameters_trained / session.model.parameters_total


def test_the_settings_name_everything_that_the_result_depends_on(session: Session) -> None:
    settings = finish(session, METRICS, RECORD).settings
    assert settings["seed"] == 3
    assert settings["base_digest"] == session.model.base.digest
    assert settings["data"] == session.fingerprints()
    assert settings["rows"] == {"sentiment_analysis": session.parts[0].sizes()}
    assert settings["epochs"] == 1
    assert "torch" in settings["versions"]


def test_the_state_of_the_training_is_deleted(session: Session) -> None:
    session.state.write_bytes(b"weights of the middle of the training")
    finish(session, METRICS, RECORD)
    assert not session.state.exists()


def test_the_card_says_that_a_training_without_privacy_protects_nobody(session: Session) -> None:
    card = (finish(session, METRICS, RECORD).adapter / "README.md").read_text()
    assert "- **Privacy**: none: trained without differential privacy\n" in card
    assert "accuracy 0.750, macro_f1 0.700" in card


def test_the_card_and_the_description_of_a_private_training_state_epsilon_delta_and_limits(session: Session) -> None:
    result = finish(session, METRICS, RECORD, GUARANTEE)
    card = (result.adapter / "README.md").read_text()
    assert "epsilon 1.500 at delta 0.0001 for one record added or removed (PLD)" in card
    assert "; not covered: the choice of hyperparameters\n" in card
    description = json.loads((result.adapter / "fedfin.json").read_text())
    assert description["facts"]["privacy"] == json.loads(json.dumps(GUARANTEE.to_json()))
    assert result.privacy == GUARANTEE
