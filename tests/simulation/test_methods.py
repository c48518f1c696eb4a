"""A federation of every adapter method: the same digests at hub and institutions, private and not, and one charge."""

from pathlib import Path
from typing import Any

import pytest

from client.agent.models import LocalModels
from client.dp import training as loop
from client.institution.config import DataConfig, InstitutionConfig, LimitsConfig, LocalModelConfig
from common.adapters.restore import load_adapter
from common.config.adapter import METHODS
from common.config.run import RunConfig
from common.errors import AssignmentRefused, ConfigurationError, ModelError, QuorumError
from common.identity.keys import PrivateKeys
from common.privacy.charges import read_charges
from common.protocol.messages import RefusalCode
from simulation.runner import run_simulation
from simulation.workspace import Workspace
from tests.simulation.helpers import write_simulation
from tests.tiny_models import save_tiny_model

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:bitsandbytes", "ignore:.*is_gradient_checkpointing.*")

LORA = 'rank = 4\nalpha = 8\ntarget_modules = "all-linear"\nlayers = "last:1"\ntrained_factors = "B"\n'
PRIVATE = 'mode = "target"\ntarget_epsilon = 8.0\ndelta = 1e-4\nclipping_norm = 0.5\n'


def write_run(directory: Path, method: str, private: bool, adapter: str = "") -> Path:
    path = write_simulation(directory)
    text = (
        path.read_text()
        .replace(LORA, f'method = "{method}"\n{adapter}')
        .replace("learning_rate = 1.0", "learning_rate = 0.05")
    )
    path.write_text(text if private else text.replace(PRIVATE, 'mode = "none"\n'))
    return path


@pytest.mark.parametrize("private", [True, False], ids=["private", "plain"])
@pytest.mark.parametrize("method", METHODS)
def test_a_federation_trains_the_method_and_leaves_an_adapter_that_predicts(
    tmp_path: Path, method: str, private: bool
) -> None:
    out = tmp_path / "out"
    workspace = Workspace.create(write_run(tmp_path, method, private), out)
    before = workspace.start()
    record = run_simulation(workspace)
    model, manifest, _ = load_adapter(out / "adapter")
    assert manifest.adapter.method == method
    assert model.spec.digest() == workspace.models.adapted.spec.digest()
    after = model.export()
    assert any((before[name] != after[name]).any() for name in before)
    assert record.rounds == 2
    for name in workspace.federation.train:
        home = out / "institutions" / name
        charges = read_charges(home / "ledger.jsonl", PrivateKeys.load(home / "keys").public)
        assert len(charges) == 2
        assert (record.epsilon[name] is not None) == private


@pytest.mark.parametrize("method", METHODS)
def test_a_deployed_institution_has_the_hubs_tensors_and_takes_another_method_next(tmp_path: Path, method: str) -> None:
    workspace = Workspace.create(write_run(tmp_path, method, private=True), tmp_path / "out")
    models = LocalModels(settings(tmp_path, workspace.config), bytes(32))
    mine = models(workspace.config)
    assert mine.adapted.spec.digest() == workspace.models.adapted.spec.digest()
    for name, value in workspace.models.adapted.initial().items():
        assert (mine.adapted.initial()[name] == value).all(), name
    for other in METHODS:
        config = RunConfig.from_tables(workspace.config.to_tables() | {"adapter": {"method": other}})
        assert models(config).adapted.export().keys()


def test_a_base_model_that_cannot_take_the_method_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    path = write_run(tmp_path, "prefix_tuning", private=True)
    save_tiny_model(tmp_path / "mpnet", "mpnet")
    path.write_text(path.read_text().replace(str(tmp_path / "base"), str(tmp_path / "mpnet")))
    with pytest.raises(ConfigurationError, match="does not take prefix_tuning: use p_tuning or lora") as caught:
        Workspace.create(path, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_virtual_tokens_need_room_in_the_model(tmp_path: Path) -> None:
    path = write_run(tmp_path, "p_tuning", private=True, adapter="virtual_tokens = 500\n")
    with pytest.raises((ModelError, ConfigurationError), match="reads at most"):
        Workspace.create(path, tmp_path / "out")


def test_gradients_that_are_not_exact_are_refused_and_not_charged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace.create(write_run(tmp_path, "p_tuning", private=True), tmp_path / "out")

    def inexact(*_: Any, **__: Any) -> None:
        raise ModelError("its gradients depend on the batch: choose lora")

    workspace.models.adapted.verified = None  # it was verified at the start, for all institutions
    monkeypatch.setattr(loop, "verify_exactness", inexact)
    with pytest.raises(QuorumError):
        run_simulation(workspace)
    for name in workspace.federation.train:
        home = tmp_path / "out" / "institutions" / name
        assert read_charges(home / "ledger.jsonl", PrivateKeys.load(home / "keys").public) == ()


def test_a_base_model_of_other_bytes_is_refused_by_its_digest(tmp_path: Path) -> None:
    workspace = Workspace.create(write_run(tmp_path, "qlora", private=True), tmp_path / "out")
    (tmp_path / "base" / "note.json").write_text("{}")
    weights = tmp_path / "base" / "tokenizer_config.json"
    weights.write_text(weights.read_text() + "\n")
    with pytest.raises(AssignmentRefused, match="is not the run's base model") as caught:
        LocalModels(settings(tmp_path, workspace.config), bytes(32))(workspace.config)
    assert caught.value.code == RefusalCode.BASE_MODEL


def settings(directory: Path, config: RunConfig) -> InstitutionConfig:
    return InstitutionConfig(
        name="north",
        data=DataConfig(train=directory / "rows.csv"),
        model=LocalModelConfig(allowed=(config.model.base,)),
        limits=LimitsConfig(max_epsilon=None, delta=1e-4),
    )
