"""Settings that a training starts from if its caller names none: the table of `docs/finetuning.md`."""

from typing import Any

import pytest

from client.finetune.job import AdapterOptions, TrainingOptions
from client.finetune.options.defaults import BaseFacts, ResolvedSettings, fill_in
from common.config.adapter import AdapterConfig, Method, PromptConfig
from common.presets import preset
from common.tasks import TASKS, Head, task


def chosen(
    method: Method = "lora",
    name: str = "sentiment_analysis",
    hidden_size: int = 384,
    rows: int = 2000,
    training: TrainingOptions | None = None,
    **changed: Any,
) -> ResolvedSettings:
    options = training or TrainingOptions()
    return fill_in(AdapterOptions(method=method), options, (task(name),), BaseFacts(hidden_size, 600), rows, **changed)


def lora(settings: ResolvedSettings) -> AdapterConfig:
    assert isinstance(settings.adapter, AdapterConfig)
    return settings.adapter


@pytest.mark.parametrize("name", [name for name, each in TASKS.items() if each.head is not Head.CAUSAL])
@pytest.mark.parametrize("private", [False, True])
def test_a_training_alone_starts_from_the_preset_of_its_task_as_a_federation_does(name: str, private: bool) -> None:
    start, settings = preset(task(name), private=private), chosen(name=name, private=private)
    adapter = lora(settings)
    for key in ("rank", "alpha", "dropout", "target_modules", "layers", "trained_factors"):
        assert getattr(adapter, key) == getattr(start, key)
    assert (settings.optimizer, settings.max_tokens) == (start.optimizer, start.max_tokens)
    assert settings.max_batch_tokens == start.max_batch_tokens


def test_qlora_has_the_rank_of_its_paper_and_alpha_follows_the_rank() -> None:
    assert (lora(chosen("qlora")).rank, lora(chosen("qlora")).alpha) == (64, 128)
    options = AdapterOptions(rank=20)
    settings = fill_in(options, TrainingOptions(), (task("risk_classification"),), BaseFacts(384, 512), 100)
    assert (lora(settings).rank, lora(settings).alpha) == (20, 40)


def test_several_tasks_take_the_preset_of_the_largest_rank() -> None:
    tasks = (task("sentiment_analysis"), task("financial_ner"))
    settings = fill_in(AdapterOptions(), TrainingOptions(), tasks, BaseFacts(384, 512), 100)
    assert (lora(settings).rank, settings.max_tokens) == (32, 512)


def test_no_text_is_cut_later_than_the_model_reads_and_virtual_tokens_need_room() -> None:
    assert fill_in(AdapterOptions(), TrainingOptions(), (task("financial_ner"),), BaseFacts(64, 72), 9).max_tokens == 72
    prompt = AdapterOptions(method="p_tuning", virtual_tokens=10)
    assert fill_in(prompt, TrainingOptions(), (task("financial_ner"),), BaseFacts(64, 72), 9).max_tokens == 62


@pytest.mark.parametrize(
    ("method", "name", "hidden_size", "fresh", "rates"),
    [
        ("lora", "sentiment_analysis", 384, True, (1e-3, 1e-2)),
        ("lora", "sentiment_analysis", 768, True, (2e-4, 1e-2)),
        ("lora", "sentiment_analysis", 768, False, (2e-4, 1e-3)),
        ("lora", "financial_ner", 384, True, (5e-4, 5e-3)),
        ("lora", "financial_ner", 768, False, (2e-4, 5e-3)),
        ("p_tuning", "sentiment_analysis", 384, True, (1e-2, 1e-2)),
        ("lora", "masked_language_modelling", 384, True, (1e-3, 1e-3)),
    ],
)
def test_a_head_that_starts_at_zero_takes_larger_steps_than_the_adapter(
    method: Method, name: str, hidden_size: int, fresh: bool, rates: tuple[float, float]
) -> None:
    settings = chosen(method, name, hidden_size, fresh_head=fresh)
    assert (settings.learning_rate, settings.head_learning_rate) == rates


@pytest.mark.parametrize(("rows", "epochs"), [(50, 10), (2400, 10), (4800, 5), (10_000, 3), (10**6, 3)])
def test_few_rows_are_passed_more_often(rows: int, epochs: int) -> None:
    assert chosen(rows=rows).epochs == epochs


def test_qlora_has_its_papers_optimizer_and_schedule_and_prompts_their_length() -> None:
    assert (chosen("qlora").optimizer, chosen("qlora").schedule) == ("paged_adamw_32bit", "cosine")
    lengths = [chosen(method).adapter.virtual_tokens for method in ("prefix_tuning", "p_tuning")]
    assert lengths == [20, 8]


def test_a_private_training_takes_batches_from_the_power_of_two_and_holds_no_row_out() -> None:
    settings = chosen(rows=1500, private=True)
    assert (settings.batch_size, settings.sampling_rate) == (256, 0.25)
    assert (settings.learning_rate, settings.head_learning_rate, settings.validation) == (4.0, 6.0, 0.0)


def test_a_private_step_stays_as_large_if_the_rank_grows() -> None:
    assert chosen(name="financial_ner", private=True).learning_rate == pytest.approx(2.0)
    given = TrainingOptions(learning_rate=0.5)
    assert chosen(name="financial_ner", private=True, training=given).learning_rate == 0.5


def test_an_adapter_that_is_continued_keeps_its_settings() -> None:
    earlier = PromptConfig(method="p_tuning", virtual_tokens=5)
    settings = fill_in(earlier, TrainingOptions(), (task("sentiment_analysis"),), BaseFacts(384, 512), 100)
    assert settings.adapter == earlier
    assert settings.learning_rate == 1e-2


def test_the_record_holds_the_values_of_the_method_and_no_others() -> None:
    prompt, factors = chosen("p_tuning").to_record(), chosen().to_record()
    assert "rank" not in prompt
    assert prompt["virtual_tokens"] == 8
    assert {"rank", "alpha", "precision", "validation", "gradient_checkpointing", "patience"} <= set(factors)
    assert "virtual_tokens" not in factors
