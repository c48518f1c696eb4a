"""The loop without privacy: minibatches, the epoch kept, and that a cut training ends as an uncut one."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from client.finetune.strategies.incremental import L2SPPenalty
from client.finetune.strategies.multi_task import mixed_minibatches, task_shares
from client.finetune.training.loop import fit
from client.finetune.training.plan import History, LoopPlan, Minibatch, Training, TrainingSet, grouped_minibatches
from client.finetune.training.time_budget import TimeBudgetExceeded
from common.adapters.adapted_model import AdaptedModel
from common.adapters.manifest import Manifest
from common.adapters.restore import build
from common.config.adapter import AdapterConfig
from common.errors import CheckpointError, ConfigurationError
from common.events import EpochEvent, Observer, StepEvent
from tests.client.finetune.example_data import TinyModels, dataset, labels_of

TASK = "sentiment_analysis"
PLAN = LoopPlan(
    epochs=3,
    learning_rate=1e-2,
    head_learning_rate=1e-2,
    optimizer="adamw",
    schedule="linear",
    warmup=0.1,
    patience=3,
    max_batch_tokens=64,
    precision="float32",
    metric="score",
    seed=4,
    identity="a job",
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return TinyModels(tmp_path_factory.mktemp("models"))("bert", layers=1)


# With dropout, so that a step that drops other numbers shows.
LORA = AdapterConfig(rank=2, alpha=4.0, dropout=0.2, target_modules="all-linear", layers="all", trained_factors="AB")


def model_of(base: str) -> AdaptedModel:
    return build(
        Manifest(
            base_model=base,
            pooling="mean",
            max_tokens=32,
            tasks={TASK: labels_of(TASK)},
            adapter=LORA,
            seed=1,
        )
    )


class Cut(Exception):
    pass


class Watcher(Observer):
    """Records, and cuts the training after `cut` steps."""

    def __init__(self, cut: int | None = None) -> None:
        self.steps: list[StepEvent] = []
        self.epochs: list[EpochEvent] = []
        self._cut = cut

    def on_step(self, event: StepEvent) -> None:
        self.steps.append(event)
        if event.step == self._cut:
            raise Cut

    def on_epoch(self, event: EpochEvent) -> None:
        self.epochs.append(event)


def train(
    model: AdaptedModel,
    state: Path,
    plan: LoopPlan = PLAN,
    watcher: Watcher | None = None,
    scores: list[float] | None = None,
) -> History:
    part = TrainingSet(model.encode_dataset(dataset(TASK, 40, 3)), model.logits)

    def minibatches(generator: np.random.Generator) -> list[Minibatch]:
        return [((0, rows),) for rows in grouped_minibatches(part.tokens.lengths, 8, generator)]

    def validate() -> Mapping[str, float]:
        assert scores is not None
        return {"score": scores.pop(0)}

    training = Training(model, [part], minibatches, plan, validate if scores else None)
    return fit(training, state, [watcher] if watcher else [])


@pytest.mark.parametrize("cut", [1, 5, 7, 14])
def test_a_training_cut_at_any_step_and_continued_ends_in_the_weights_of_an_uncut_one(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    monkeypatch.setattr("client.finetune.training.loop._SAVE_EVERY_S", 0.0)  # as if every step took a minute
    whole = model_of(base)
    train(whole, tmp_path / "whole")
    first = model_of(base)
    with pytest.raises(Cut):
        train(first, tmp_path / "state", watcher=Watcher(cut))
    again, watcher = model_of(base), Watcher()
    history = train(again, tmp_path / "state", watcher=watcher)
    assert [event.step for event in watcher.steps] == list(range(cut, 16)) or [
        event.step for event in watcher.steps
    ] == list(range(cut + 1, 16))
    assert history.steps == 15
    assert len(history.epochs) == 3
    for name, value in whole.export().items():
        assert (again.export()[name] == value).all(), name


def test_the_best_epoch_is_kept_and_later_ones_are_not(base: str, tmp_path: Path) -> None:
    one = model_of(base)
    train(one, tmp_path / "one", replace(PLAN, epochs=3), scores=[0.3, 0.8, 0.5])
    history = train(two := model_of(base), tmp_path / "two", replace(PLAN, epochs=3), scores=[0.3, 0.8, 0.8])
    assert history.best_epoch == 2
    assert [event.best for event in history.epochs] == [True, True, False]
    assert all((two.export()[n] == v).all() for n, v in one.export().items())
    last = model_of(base)
    train(last, tmp_path / "last", replace(PLAN, epochs=3))
    assert any((last.export()[n] != v).any() for n, v in one.export().items())


def test_with_hours_to_spare_the_weights_are_those_without_a_budget(base: str, tmp_path: Path) -> None:
    train(plain := model_of(base), tmp_path / "plain")
    history = train(timed := model_of(base), tmp_path / "timed", replace(PLAN, max_hours=10.0))
    assert history.time is not None
    assert history.time.steps == history.time.steps_wanted == 5
    assert not history.out_of_hours
    for name, value in plain.export().items():
        assert (timed.export()[name] == value).all(), name


def test_every_epoch_is_cut_to_what_fits_in_the_hours_and_less_than_a_step_is_refused(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.finetune.training.loop._Fit._trial", lambda *_: 60.0)
    plan = replace(PLAN, max_hours=0.15)  # 540 s for three epochs of steps that take 60 s and the slack
    history = train(model_of(base), tmp_path / "state", plan)
    assert (history.steps, len(history.epochs)) == (6, 3)
    with pytest.raises(TimeBudgetExceeded, match="max_hours"):
        train(model_of(base), tmp_path / "none", replace(PLAN, max_hours=0.05))


def test_a_training_that_was_cut_is_continued_under_a_budget_of_hours(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Cut):
        train(model_of(base), tmp_path / "state", watcher=Watcher(6))  # in its second epoch of five steps
    monkeypatch.setattr("client.finetune.training.loop._Fit._trial", lambda *_: 60.0)
    history = train(model_of(base), tmp_path / "state", replace(PLAN, max_hours=0.1))  # two steps for each epoch left
    assert (len(history.epochs), history.steps) == (3, 9)


def test_when_the_hours_are_over_it_ends_with_what_it_has_and_stays_ended(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock(Watcher):
        now = 0.0

        def monotonic(self) -> float:
            return self.now

        def on_step(self, event: StepEvent) -> None:
            self.now = 7200.0 if event.step == 7 else self.now

    clock = Clock()
    monkeypatch.setattr("client.finetune.training.loop.time", clock)
    monkeypatch.setattr("client.finetune.training.loop._Fit._trial", lambda *_: 1.0)
    plan = replace(PLAN, max_hours=1.0)
    history = train(model_of(base), tmp_path / "state", plan, clock, scores=[0.8, 0.3])
    assert history.out_of_hours
    assert (history.steps, len(history.epochs), history.best_epoch) == (7, 2, 1)
    again = train(model_of(base), tmp_path / "state", plan)
    assert (again.steps, again.best_epoch, again.out_of_hours) == (7, 1, True)


def test_training_stops_after_epochs_without_improvement_but_not_while_the_figure_is_still_0(
    base: str, tmp_path: Path
) -> None:
    plan = replace(PLAN, epochs=6, patience=2)
    history = train(model_of(base), tmp_path / "a", plan, scores=[0.5, 0.4, 0.3, 0.9, 0.9, 0.9])
    assert (len(history.epochs), history.stopped_early, history.best_epoch) == (3, True, 1)
    history = train(model_of(base), tmp_path / "b", plan, scores=[0.0, 0.0, 0.0, 0.0, 0.4, 0.5])
    assert (len(history.epochs), history.stopped_early, history.best_epoch) == (6, False, 6)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=90), st.integers(1, 20), st.integers(0, 9))
def test_an_epoch_has_every_row_once(lengths: list[int], size: int, seed: int) -> None:
    batches = grouped_minibatches(np.array(lengths), size, np.random.default_rng(seed))
    assert sorted(int(row) for batch in batches for row in batch) == list(range(len(lengths)))
    assert len(batches) == -(-len(lengths) // size) or len(lengths) > 32 * size
    assert max(len(batch) for batch in batches) <= size


def test_like_lengths_stand_together_so_that_little_is_padded() -> None:
    lengths = np.random.default_rng(0).integers(4, 200, 1000)

    def padded(batches: list[np.ndarray]) -> int:
        return sum(int(lengths[batch].max()) * len(batch) for batch in batches)

    grouped = grouped_minibatches(lengths, 16, np.random.default_rng(1))
    shuffled = np.array_split(np.random.default_rng(1).permutation(1000), 63)
    assert padded(grouped) < 1.15 * lengths.sum() < 1.7 * lengths.sum() < padded(shuffled)


@given(st.lists(st.integers(1, 80), min_size=2, max_size=4), st.integers(2, 16), st.integers(0, 9))
def test_mixed_minibatches_use_each_row_of_a_task_as_often_as_any_other(sizes: list[int], size: int, seed: int) -> None:
    lengths = [np.arange(1, count + 1) for count in sizes]
    batches = mixed_minibatches(lengths, size, np.random.default_rng(seed))
    assert len(batches) == -(-sum(sizes) // size)
    assert all(sum(len(rows) for _, rows in batch) == size for batch in batches)
    for task, count in enumerate(sizes):
        used = np.bincount(
            [row for batch in batches for at, rows in batch if at == task for row in rows], minlength=count
        )
        assert used.max() - used.min() <= 1


def test_a_task_of_a_hundredth_of_the_rows_gets_a_tenth_of_the_other_ones_share() -> None:
    small, large = task_shares([10, 1000])
    assert large / small == pytest.approx(10)


def test_observers_hear_of_every_step_and_what_they_hear_is_what_happened(base: str, tmp_path: Path) -> None:
    model, watcher = model_of(base), Watcher()
    before = model.export()
    train(model, tmp_path / "state", replace(PLAN, epochs=1), watcher)
    steps = watcher.steps
    assert [event.step for event in steps] == [1, 2, 3, 4, 5]
    assert [event.steps for event in steps] == [5] * 5
    assert sum(event.examples for event in steps) == 40
    rates = [event.learning_rate for event in steps]
    assert rates[0] == PLAN.learning_rate
    assert rates == sorted(rates, reverse=True)
    assert all(event.gradient_norm is not None and event.gradient_norm > 0 for event in steps)
    moved = np.sqrt(sum(((model.export()[n] - v) ** 2).sum() for n, v in before.items()))
    assert moved <= sum(event.update_norm for event in steps) * (1 + 1e-5)
    assert watcher.epochs[0].train_loss == pytest.approx(np.mean([event.loss for event in steps]))


def test_a_state_of_another_job_and_a_damaged_one_are_refused(base: str, tmp_path: Path) -> None:
    with pytest.raises(Cut):
        train(model_of(base), tmp_path / "state", watcher=Watcher(7))
    with pytest.raises(CheckpointError, match="another training"):
        train(model_of(base), tmp_path / "state", replace(PLAN, identity="another"))
    (tmp_path / "state").write_bytes((tmp_path / "state").read_bytes()[:100])
    with pytest.raises(CheckpointError, match="damaged"):
        train(model_of(base), tmp_path / "state")


def test_a_rate_that_blows_the_loss_up_is_one_line_that_names_it(base: str, tmp_path: Path) -> None:
    plan = replace(PLAN, learning_rate=1e30, head_learning_rate=1e30, warmup=0.0)
    with pytest.raises(ConfigurationError, match=r"learning_rate 1e\+30.*lower it"):
        train(model_of(base), tmp_path / "state", plan)


def test_bfloat16_autocast_learns_what_float32_learns(base: str, tmp_path: Path) -> None:
    plain = train(model_of(base), tmp_path / "a", replace(PLAN, epochs=6))
    half = train(model_of(base), tmp_path / "b", replace(PLAN, epochs=6, precision="bfloat16"))
    assert half.epochs[-1].train_loss == pytest.approx(plain.epochs[-1].train_loss, abs=0.1)


def test_the_spring_pulls_every_weight_back_in_proportion_to_its_distance(base: str) -> None:
    model = model_of(base)
    spring = L2SPPenalty(model, strength=3.0)
    assert spring().item() == 0.0
    with torch.no_grad():
        for parameter in model.trainable().values():
            parameter.add_(0.5)
    spring().backward()
    for parameter in model.trainable().values():
        torch.testing.assert_close(parameter.grad, torch.full_like(parameter, 1.5))
