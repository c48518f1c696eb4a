"""Settings of an adapter: the values of its method and no others, and a record of an earlier release is read."""

from typing import Any

import pytest

from common.config.adapter import (
    PROMPT_TEXT,
    AdapterConfig,
    AdapterSettings,
    PromptConfig,
    adapter_from_record,
    adapter_record,
)
from common.config.run import RunConfig, parse_run
from common.errors import ConfigurationError
from common.tasks import TASKS

VALUES: dict[str, Any] = {"rank": 4, "alpha": 8.0, "dropout": 0.1, "target_modules": ("query",), "layers": "last:2"}
LORA = AdapterConfig(**VALUES, trained_factors="B")
EARLIER = VALUES | {"target_modules": ["query"]}
RUN: dict[str, Any] = {
    "run": {"name": "desks", "seed": 1, "rounds": 1},
    "task": {"name": "sentiment_analysis"},
    "training": {"local_steps": 1, "sampling_rate": 0.5, "learning_rate": 0.1},
    "privacy": {"mode": "none"},
}


def run(**adapter: Any) -> RunConfig:
    return parse_run(RUN | {"adapter": adapter}, "run.toml")


@pytest.mark.parametrize(
    "settings",
    [
        LORA,
        AdapterConfig(method="qlora", **VALUES, trained_factors="B"),
        PromptConfig(method="p_tuning", virtual_tokens=8, prompt_text="Is this risky?"),
        PromptConfig(method="prefix_tuning", virtual_tokens=20),
    ],
    ids=lambda settings: settings.method,
)
def test_a_record_gives_the_same_settings_again(settings: AdapterSettings) -> None:
    assert adapter_from_record(adapter_record(settings)) == settings


def test_a_record_holds_no_value_that_the_method_does_not_have() -> None:
    assert adapter_record(PromptConfig(method="prefix_tuning", virtual_tokens=8)) == {
        "method": "prefix_tuning",
        "virtual_tokens": 8,
    }
    assert "virtual_tokens" not in adapter_record(LORA)


@pytest.mark.parametrize("key", ["train", "trained_factors"])
def test_a_record_of_an_earlier_release_is_read(key: str) -> None:
    """It had values of every method, another name for the factors, and no words of p_tuning."""
    record = EARLIER | {key: "B", "virtual_tokens": 8}
    assert adapter_from_record({"method": "lora", **record}) == LORA
    prompt = adapter_from_record({"method": "p_tuning", **record})
    assert prompt == PromptConfig(method="p_tuning", virtual_tokens=8, prompt_text=PROMPT_TEXT)


@pytest.mark.parametrize(
    ("adapter", "words"),
    [
        ({"virtual_tokens": 4}, "adapter.virtual_tokens is given, but lora has none: leave it out"),
        ({"method": "p_tuning", "rank": 4}, "adapter.rank is given, but p_tuning has none: leave it out"),
        ({"method": "prefix_tuning", "prompt_text": "Risk:"}, "prefix_tuning.*starts from no words: leave it out"),
        ({"method": "ia3"}, 'adapter.method is "ia3": use one of lora, qlora, prefix_tuning, p_tuning'),
        ({"method": "p_tuning", "preset": "financial_ner"}, "adapter.preset is given, but a soft prompt has none"),
        ({"preset": "financial_nre"}, 'adapter.preset is "financial_nre": did you mean "financial_ner"'),
        ({"ranks": 4}, "adapter.ranks is not a known key: did you mean rank"),
    ],
)
def test_values_of_another_method_are_refused_in_one_line(adapter: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        run(**adapter)
    assert "\n" not in str(caught.value)


def test_a_federation_takes_the_preset_of_another_task() -> None:
    ner, own = TASKS["financial_ner"], run()
    named = run(preset="financial_ner", alpha=7)
    assert isinstance(named.adapter, AdapterConfig)
    assert (named.adapter.rank, named.adapter.dropout, named.adapter.alpha) == (ner.rank, ner.dropout, 7)
    assert named.model.max_tokens == own.model.max_tokens  # the length of texts follows from the task itself


@pytest.mark.parametrize("method", ["lora", "qlora", "prefix_tuning", "p_tuning"])
def test_a_run_of_every_method_reads_its_own_json_and_toml_again(method: str) -> None:
    config = run(method=method)
    assert RunConfig.from_json(config.to_json()) == config
    assert RunConfig.from_tables(config.to_tables()) == config
    assert config.adapter.method == method


def test_a_language_model_is_trained_together_by_lora_alone() -> None:
    tables = RUN | {"task": {"name": "masked_language_modelling"}, "adapter": {"method": "p_tuning"}}
    with pytest.raises(ConfigurationError, match=r'adapter.method is "p_tuning".*trains with "lora" alone'):
        parse_run(tables, "run.toml")
