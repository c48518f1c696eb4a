"""PEFT gets the run's rank and modules, the whole task head, and the new rows of the vocabulary, on a clean base."""

from pathlib import Path

import pytest

from common.adapters.peft_config import lora_config, refuse_adapted
from common.base_models.load import LoadedBase, load_base
from common.config.adapter import AdapterConfig
from common.config.training import ModelConfig
from common.errors import ModelError
from common.tasks import TASKS
from tests.tiny_models import VOCABULARY, save_tiny_model, tiny_adapted

MODULES = ("encoder.layer.0.attention.self.query",)


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("models") / "bert")


def base_for(path: Path, task: str, labels: int, pooling: str = "native") -> LoadedBase:
    return load_base(ModelConfig(max_tokens=64, base=str(path), pooling=pooling), TASKS[task], labels)


def settings(**changes: object) -> AdapterConfig:
    values = {
        "rank": 3,
        "alpha": 5.0,
        "dropout": 0.1,
        "target_modules": "task",
        "layers": "all",
        "trained_factors": "B",
    }
    return AdapterConfig(**values | {"trained_factors": "B"} | changes)


def test_rank_scale_dropout_and_modules_are_those_of_the_run(model_path: Path) -> None:
    config = lora_config(base_for(model_path, "sentiment_analysis", 3), settings(), MODULES)
    assert (config.r, config.lora_alpha, config.lora_dropout) == (3, 5.0, 0.1)
    assert config.target_modules == set(MODULES)


@pytest.mark.parametrize(("task", "kind"), [("sentiment_analysis", "SEQ_CLS"), ("financial_ner", "TOKEN_CLS")])
def test_the_task_head_is_trained_and_saved_whole(model_path: Path, task: str, kind: str) -> None:
    base = base_for(model_path, task, 3)
    config = lora_config(base, settings(), MODULES)
    assert config.task_type == kind
    assert config.modules_to_save == list(base.head_names) != []


def test_without_modules_the_head_alone_is_adapted(tmp_path: Path) -> None:
    model = tiny_adapted(tmp_path, layers="none", trained_factors="AB")
    assert model.trainable().keys() == model.head_names()


def test_new_tokens_are_the_last_rows_of_the_embeddings(model_path: Path) -> None:
    base = base_for(model_path, "sentiment_analysis", 3)
    config = lora_config(base, settings(new_tokens=2), MODULES)
    [(name, rows)] = config.trainable_token_indices.items()
    assert base.model.get_submodule(name) is base.model.get_input_embeddings()
    assert rows == [len(VOCABULARY) - 2, len(VOCABULARY) - 1]
    assert lora_config(base, settings(), MODULES).trainable_token_indices is None


def test_more_new_tokens_than_the_vocabulary_has_are_refused(model_path: Path) -> None:
    base = base_for(model_path, "sentiment_analysis", 3)
    with pytest.raises(ModelError, match=rf"the base model has {len(VOCABULARY)} tokens"):
        lora_config(base, settings(new_tokens=len(VOCABULARY) + 1), MODULES)


def test_a_base_model_carries_one_adapter_at_a_time(tmp_path: Path) -> None:
    model = tiny_adapted(tmp_path)
    with pytest.raises(ModelError, match="carries an adapter already"):
        refuse_adapted(model.base)
    refuse_adapted(model.release())
