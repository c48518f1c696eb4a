"""The task of an adapter is known from its description alone, and a wrong choice is refused in one line."""

from dataclasses import replace
from pathlib import Path

import pytest

from client.inference.served import chosen_task, read_served, served
from common.adapters.manifest import Manifest
from common.config.adapter import PromptConfig
from common.errors import ConfigurationError, ModelError

SENTIMENT = ("negative", "positive")
ONE = Manifest(
    base_model="base",
    pooling="mean",
    max_tokens=32,
    tasks={"sentiment_analysis": SENTIMENT},
    adapter=PromptConfig(method="p_tuning", virtual_tokens=3),
    seed=1,
)
SEVERAL = replace(ONE, tasks={"sentiment_analysis": SENTIMENT, "risk_classification": ("high", "low")})
FEDERATED = replace(
    ONE,
    tasks={"multi_task": ("sentiment_analysis/negative", "risk_classification/high", "sentiment_analysis/positive")},
)
READING = replace(ONE, tasks={"masked_language_modelling": ()})


def test_the_only_task_needs_no_name_and_one_of_several_does() -> None:
    found = served(Path("out"), ONE, None)
    assert (found.task.name, found.labels, found.places) == ("sentiment_analysis", SENTIMENT, None)
    assert served(Path("out"), SEVERAL, "risk_classification").labels == ("high", "low")
    with pytest.raises(ConfigurationError, match="name one that this adapter serves: sentiment_analysis, risk_class"):
        chosen_task(SEVERAL, None)
    with pytest.raises(ConfigurationError, match="name one that this adapter serves: sentiment_analysis"):
        served(Path("out"), ONE, "risk_classification")


def test_a_task_of_one_head_for_several_has_its_own_outputs() -> None:
    found = served(Path("out"), FEDERATED, "sentiment_analysis")
    assert (found.labels, found.places) == (SENTIMENT, (0, 2))
    with pytest.raises(ConfigurationError, match="name one that it serves: sentiment_analysis, risk_classification"):
        served(Path("out"), FEDERATED, None)


def test_an_adapter_that_was_taught_to_read_labels_nothing() -> None:
    with pytest.raises(ConfigurationError, match="labels nothing"):
        served(Path("out"), READING, None)


def test_an_absent_adapter_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nowhere"):
        read_served(tmp_path / "nowhere")
