import json
from dataclasses import replace
from pathlib import Path

import pytest

from client.finetune.result import FineTuningResult
from client.tracking.history import leading_metric, loss_curves, read_history, smoothed, summarise
from client.tracking.report import render
from client.tracking.tracker import Tracker
from common.errors import CheckpointError
from common.events import EpochEvent, StepEvent
from tests.client.tracking.track_example import track


def outcome(out: Path) -> FineTuningResult:
    return FineTuningResult(
        adapter=out / "adapter",
        base_model="minilm",
        strategy="single_task",
        tasks=("sentiment_analysis",),
        method="lora",
        settings={"rank": 16, "batch_size": 16},
        train_metrics={},
        measured={"accuracy": 0.81, "weighted_f1": 0.8},
        trainable_parameters=100,
        total_parameters=1100,
        parameter_efficiency=100 / 1100,
        seconds=9.0,
        peak_memory_bytes=10**9,
    )


def step(number: int, loss: float = 1.0) -> StepEvent:
    return StepEvent(
        step=number,
        steps=4,
        epoch=1 + (number - 1) // 2,
        loss=loss,
        learning_rate=1e-3,
        gradient_norm=float("inf"),
        update_norm=0.1,
        examples=2,
        tokens=20,
        seconds=float(number),
    )


def epoch(number: int) -> EpochEvent:
    return EpochEvent(epoch=number, epochs=2, step=2 * number, train_loss=1.0, metrics={}, best=True, seconds=1.0)


def test_the_summary_is_what_the_history_says() -> None:
    found = summarise(track(scores=(0.8, 0.7, 0.75), train_losses=(0.5, 0.4, 0.3)))
    assert found.accuracy == 0.8, "of the test rows"
    assert (found.metric, found.best_validation) == ("weighted_f1", 0.8), "of the held-out rows"
    assert (found.best_epoch, found.epochs, found.steps) == (1, 3, 120)
    assert found.lost_since_best == pytest.approx(0.05)
    assert found.overfits
    assert found.examples_per_second == 16
    assert found.tokens_per_second == 400
    assert found.memory_saved == 12 * (23_000_000 - 600_000)
    assert found.cpu == 0.5
    assert found.gpu is None


def test_losing_validation_without_gaining_on_the_training_rows_is_no_overfitting() -> None:
    assert not summarise(track(scores=(0.8, 0.7), train_losses=(0.5, 0.6))).overfits


def test_convergence_is_the_first_step_near_the_lowest_loss() -> None:
    assert summarise(track(lambda n, _: 1.0 if n < 60 else 0.0)).converged_step == 66, "and the window of 6"
    assert summarise(track(lambda n, _: 1.0)).converged_step == 1


def test_one_metric_leads_everywhere_the_one_that_chose_the_epoch() -> None:
    seen = track(scores=(0.8, 0.7))
    epochs = tuple(
        replace(event, metric="high_risk_macro_f1", metrics={**event.metrics, "high_risk_macro_f1": value})
        for event, value in zip(seen.epochs, (0.5, 0.6), strict=True)
    )
    chosen = replace(seen, epochs=(replace(epochs[0], best=True), replace(epochs[1], best=True)))
    assert leading_metric(chosen) == "high_risk_macro_f1"
    assert (summarise(chosen).best_epoch, summarise(chosen).best_validation) == (2, 0.6)
    assert summarise(chosen).lost_since_best == 0.0
    assert "high risk macro f1" in render(chosen).lower()


def test_a_record_of_an_earlier_release_names_no_metric_and_is_judged_by_f1() -> None:
    seen = track()
    assert leading_metric(replace(seen, epochs=tuple(replace(e, metric="") for e in seen.epochs))) == "weighted_f1"


def test_a_loss_that_chooses_the_epoch_is_better_if_it_is_lower() -> None:
    seen = track(scores=(0.8, 0.7))
    best, last = (replace(e, metric="loss", metrics={"loss": v}) for e, v in zip(seen.epochs, (1.0, 1.5), strict=True))
    assert summarise(replace(seen, epochs=(best, last))).lost_since_best == pytest.approx(0.5)


def test_losses_are_compared_by_whole_epochs() -> None:
    seen = track(lambda n, _: 1.0 if n < 40 else 0.5 if n < 80 else 0.25)
    assert loss_curves(seen) == {"": pytest.approx([1.0, 0.5, 0.25])}
    assert loss_curves(replace(seen, steps=seen.steps[:90])) == {"": pytest.approx([1.0, 0.5])}, "without a short epoch"


def test_losses_of_several_tasks_are_compared_for_each_task() -> None:
    losses = ({"a": 1.0, "b": 3.0}, {"a": 0.5, "b": 2.0}, {"a": 0.4, "b": 1.0})
    assert loss_curves(track(losses=losses)) == {"a": [1.0, 0.5, 0.4], "b": [3.0, 2.0, 1.0]}


def test_smoothing_is_the_mean_of_the_window_that_ends_there() -> None:
    assert smoothed([1.0, 2.0, 3.0]) == [1.0, 2.0, 3.0]
    values = [float(n) for n in range(40)]
    assert smoothed(values)[:3] == [0.0, 0.5, 1.5]


def test_several_tasks_keep_their_figures_apart() -> None:
    run = {"metrics": {"sentiment_analysis": {"accuracy": 0.8}, "financial_ner": {"entity_f1": 0.5}}}
    found = summarise(track(**run))
    assert found.figures == {"sentiment_analysis.accuracy": 0.8, "financial_ner.entity_f1": 0.5}
    assert found.accuracy is None


def test_the_tracker_leaves_json_that_reads_back_and_a_report_for_its_owner_alone(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path)
    for number in range(1, 5):
        tracker.on_step(step(number, 1 / number))
        if number % 2 == 0:
            tracker.on_epoch(epoch(number // 2))
    content = tracker.finish(outcome(tmp_path).to_json())
    written = json.loads((tmp_path / "tracker.json").read_text())
    assert written == json.loads(json.dumps(content))
    assert written["steps"]["loss"] == [1.0, 0.5, 0.333333, 0.25]
    assert written["steps"]["gradient_norm"] == [None] * 4, "infinity is no JSON"
    assert written["summary"]["accuracy"] == 0.81
    assert written["summary"]["memory_saved"] == 12_000
    assert [e.epoch for e in read_history(tmp_path / "tracker.json").epochs] == [1, 2]
    for name in ("tracker.json", "report.html"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


def test_a_continued_training_continues_its_track(tmp_path: Path) -> None:
    first = Tracker(tmp_path)
    for number in (1, 2):
        first.on_step(step(number))
    first.on_epoch(epoch(1))
    second = Tracker(tmp_path)
    for number in (2, 3, 4):  # the state had been saved before step 2
        second.on_step(step(number, 0.5))
    second.on_epoch(epoch(2))
    content = second.finish(outcome(tmp_path).to_json())
    assert content["steps"]["step"] == [1, 2, 3, 4]
    assert content["steps"]["loss"] == [1.0, 0.5, 0.5, 0.5]


def test_a_finished_training_keeps_its_track(tmp_path: Path) -> None:
    first = Tracker(tmp_path)
    first.on_step(step(1))
    first.finish(outcome(tmp_path).to_json())
    assert Tracker(tmp_path).finish(outcome(tmp_path).to_json())["steps"]["step"] == [1]


@pytest.mark.parametrize("content", ["", "{}", '{"version": 9}', '{"version": 1, "steps": {"step": [1]}}', "[]"])
def test_a_damaged_track_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "tracker.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"tracker\.json"):
        read_history(tmp_path / "tracker.json")


def test_the_report_says_that_it_stays_inside_and_loads_nothing() -> None:
    page = render(track())
    assert "Stays inside the institution" in page
    assert "does not cover this page" not in page
    assert "does not cover this page" in render(track(private=True, scores=()))
    assert "none: trained without differential privacy" in page
    for word in ("<script", "http://", "https://", "@import"):
        assert word not in page
    for caption in ("Loss of each step", "Learning rate", "Gradient norm", "Update size", "Validation rows", "Memory"):
        assert caption in page
    assert render(track()) == page


def test_the_report_shows_the_advice_and_escapes_what_it_is_given() -> None:
    page = render(track(scores=(0.8, 0.79, 0.79, 0.79), planned=10, base_model="<b>&</b>"))
    assert "--epochs 1" in page
    assert "<b>&</b>" not in page
    assert "Nothing: none of the figures asks for a change." in render(track())


def test_a_private_run_has_no_gradient_norm_and_no_plot_of_it() -> None:
    assert "Gradient norm" not in render(track(private=True, scores=()))
