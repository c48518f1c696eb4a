"""A missing language-model head learns from public text, repeatably, and a head of the files' own is left as it is."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForMaskedLM

from common.adapters.adapted_model import AdaptedModel
from common.adapters.warm_up import needs_warm_up, warm_up
from common.errors import DataError
from common.evaluation.evaluate import evaluate_language_model
from common.events import Observer, StepEvent
from common.tasks import TASKS
from tests.tiny_models import tiny_adapted, tiny_config, tiny_tokenizer

MASKED = TASKS["masked_language_modelling"]
TEXTS = ["profit rises loss falls bank grew"] * 40


def language_model(path: Path, **adapter: object) -> AdaptedModel:
    return tiny_adapted(path, which=MASKED, labels=0, blocks=2, target_modules="all-linear", **adapter)


def test_only_a_language_model_without_a_head_of_its_own_needs_it(tmp_path: Path) -> None:
    assert needs_warm_up(language_model(tmp_path))
    assert not needs_warm_up(tiny_adapted(tmp_path))
    with torch.random.fork_rng():
        torch.manual_seed(3)
        AutoModelForMaskedLM.from_config(tiny_config("bert", 4, 32)).save_pretrained(tmp_path / "bert4")
    tiny_tokenizer().save_pretrained(tmp_path / "bert4")
    assert not needs_warm_up(tiny_adapted(tmp_path, which=MASKED, labels=0, blocks=4))


def test_the_head_predicts_public_text_better_afterwards_and_is_back_in_evaluation_mode(tmp_path: Path) -> None:
    model = language_model(tmp_path, trained_factors="AB")
    rows = model.with_lm_labels(model.encode(TEXTS[:8]), seed=5)
    before = evaluate_language_model(model, rows).perplexity
    steps: list[tuple[int, int]] = []

    class Steps(Observer):
        def on_step(self, event: StepEvent) -> None:
            steps.append((event.step, event.steps))

    warm_up(model, TEXTS, epochs=8, observers=(Steps(),))
    assert evaluate_language_model(model, rows).perplexity < 0.9 * before
    assert steps == [(step, 20) for step in range(1, 21)]
    assert not any(module.training for module in model.module.modules())


@pytest.mark.parametrize("layers", ["all", "last:1"])
def test_the_same_seed_gives_the_same_bytes_whatever_was_drawn_before(tmp_path: Path, layers: str) -> None:
    results = []
    for draws in (0, 3):
        model = language_model(tmp_path, layers=layers, dropout=0.1)
        torch.rand(draws)
        state = torch.random.get_rng_state()
        warm_up(model, TEXTS[:20], seed=4)
        assert torch.equal(torch.random.get_rng_state(), state), "the caller's random numbers are not used up"
        results.append(model.export())
    first, second = results
    assert all((first[name] == second[name]).all() for name in first)


def test_without_text_nothing_is_trained(tmp_path: Path) -> None:
    model = language_model(tmp_path)
    with pytest.raises(DataError, match="there is none to warm up"):
        warm_up(model, [])
