"""Each piece of advice on a history made to need it, and on the same history put right."""

import math

import pytest

from client.tracking.history import History
from client.tracking.recommendations import recommend
from tests.client.tracking.track_example import GB, falling, track


def actions(seen: History) -> list[str]:
    return [each.action for each in recommend(seen)]


def jumping(step: int, steps: int) -> float:
    return falling(step, steps) + (0.5 if step % 2 else 0.0)


NEEDS: dict[str, History] = {
    "lower_the_rate": track(lambda n, m: falling(n, m) if n < m / 2 else 0.2 + 3 * (n - m / 2) / m),
    "raise_the_rate": track(lambda n, m: 1.1 - 0.05 * n / m),
    "stop_earlier": track(scores=(0.80, 0.795, 0.795, 0.795), planned=10),
    "train_longer": track(scores=(0.60, 0.70, 0.78)),
    "more_rank": track(lambda n, m: 0.7 + 0.4 * math.exp(-12 * n / m)),
    "fewer_modules": track(scores=(0.80, 0.79, 0.75), train_losses=(0.5, 0.3, 0.1)),
    "raise_the_batch": track(jumping),
    "switch_to_qlora": track(memory=15 * GB, total_parameters=2_500_000_000, trainable_parameters=10_000_000),
    "recompute": track(memory=15 * GB),
}


def test_a_training_that_went_well_gets_no_advice() -> None:
    assert actions(track()) == []


@pytest.mark.parametrize("action", NEEDS)
def test_advice_is_given_where_it_is_needed_with_the_figures_that_led_to_it(action: str) -> None:
    [given] = [each for each in recommend(NEEDS[action]) if each.action == action]
    assert given.figures, "no advice without a figure"
    assert all(math.isfinite(value) for value in given.figures.values())
    assert given.because
    assert "--" in given.advice, "an option to try"


@pytest.mark.parametrize("action", NEEDS)
def test_no_advice_is_given_for_a_history_that_needs_another(action: str) -> None:
    together = {  # one cause, two remedies
        "fewer_modules": {"stop_earlier"},
        "stop_earlier": {"fewer_modules"},
    }
    for other, history in NEEDS.items():
        if other != action and other not in together.get(action, set()):
            assert action not in actions(history), f"{action} on the history of {other}"


def test_the_figures_are_those_of_the_history() -> None:
    [given] = [each for each in recommend(NEEDS["stop_earlier"]) if each.action == "stop_earlier"]
    assert given.figures == {"best_epoch": 1, "epochs": 4, "lost": pytest.approx(0.005)}
    assert given.advice == "--epochs 1"
    assert "90 s" in given.because, "the three epochs after the first took 30 s each"


def test_an_idle_gpu_with_room_asks_for_a_larger_batch_and_a_busy_one_does_not() -> None:
    assert actions(track(gpu=0.3)) == ["raise_the_batch"]
    assert actions(track(gpu=0.95)) == []
    assert actions(track(gpu=0.3, memory=10 * GB)) == [], "no room for it"


def test_a_private_training_is_told_of_the_batch_and_never_to_look_at_its_rows() -> None:
    flat = track(lambda n, m: 1.1 - 0.05 * n / m, scores=(), private=True)
    [given] = recommend(flat)
    assert given.action == "raise_the_batch"
    assert actions(track(scores=(), private=True)) == []


def test_a_run_with_few_steps_and_no_epoch_has_no_advice() -> None:
    seen = track(scores=())
    assert actions(History(seen.steps[:1], (), (), 1, {})) == []
    assert actions(History((), (), (), 1, {})) == []


def unlike(step: int, steps: int) -> float:
    """Fall from epoch to epoch, while single batches of unlike rows differ by a factor of four."""
    return falling(step, steps) * (0.5 if step % 4 else 2.0)


def test_unlike_batches_of_a_loss_that_falls_in_every_epoch_ask_for_no_other_rate() -> None:
    for last in (1, 2, 3, 4):  # the loss of the last step is low or high
        seen = track(lambda n, m, last=last: unlike(n + last, m))  # type: ignore[misc]
        assert not {"lower_the_rate", "raise_the_rate"} & set(actions(seen))


def test_a_lower_and_a_higher_rate_are_never_advised_together() -> None:
    shapes = [lambda n, m, k=k: 1.0 + k * math.sin(6 * n / m) * n / m for k in (-0.9, -0.3, 0.02, 0.3, 0.9)]
    for shape in shapes:
        for scores in ((), (0.5, 0.5), (0.5,) * 6):
            given = actions(track(shape, scores=scores))
            assert not {"lower_the_rate", "raise_the_rate"} <= set(given)


def test_a_loss_that_fell_within_the_first_epoch_has_moved() -> None:
    assert "raise_the_rate" not in actions(track(lambda n, _: 1.1 if n < 3 else 0.2))


def test_of_several_tasks_the_one_whose_loss_rose_is_named() -> None:
    fine = ({"a": 1.0, "b": 1.0}, {"a": 0.5, "b": 0.6}, {"a": 0.3, "b": 0.5})
    assert "lower_the_rate" not in actions(track(losses=fine))
    [given] = [e for e in recommend(track(losses=(*fine[:2], {"a": 0.3, "b": 0.9}))) if e.action == "lower_the_rate"]
    assert "mean loss of b" in given.because


def test_without_held_out_rows_nothing_is_said_about_them() -> None:
    stuck = track(lambda n, m: 0.7 + 0.4 * math.exp(-12 * n / m), scores=())
    assert "more_rank" not in actions(stuck)


USUAL = {"rank": 16, "batch_size": 16, "usual_learning_rate": 1e-3, "usual_rank": 16}


def given(history: History, action: str) -> str:
    """The advice of one action."""
    [found] = [each for each in recommend(history) if each.action == action]
    assert found.figures
    return found.advice


def test_a_rate_far_above_the_usual_one_that_learned_little_is_lowered() -> None:
    flat = track(lambda n, m: 1.0 - 0.2 * n / m, settings=USUAL | {"usual_learning_rate": 1e-4})
    assert given(flat, "lower_the_rate") == "--learning-rate 0.0001"
    learned = track(settings=USUAL | {"usual_learning_rate": 1e-4})
    assert "lower_the_rate" not in actions(learned)


def test_a_rate_far_below_the_usual_one_is_raised_though_the_head_learned() -> None:
    assert given(track(settings=USUAL | {"usual_learning_rate": 1e-2}), "raise_the_rate") == "--learning-rate 0.01"
    assert actions(track(settings=USUAL)) == []
    private = track(settings=USUAL | {"usual_learning_rate": 1e-2}, private=True)
    assert "raise_the_rate" not in actions(private)


def test_a_rank_far_below_the_preset_that_left_much_of_the_loss_is_raised() -> None:
    slow = track(lambda n, m: 1.0 - 0.7 * n / m, settings=USUAL | {"rank": 1})
    assert given(slow, "more_rank") == "--rank 16 --alpha 32"
    assert "more_rank" not in actions(track(lambda n, m: 1.0 - 0.7 * n / m, settings=USUAL))


def test_fewer_than_twenty_rows_a_label_are_too_few() -> None:
    few = {"rows": {"sentiment_analysis": {"train": 50, "validation": 0}}, "labels": {"sentiment_analysis": 3}}
    assert given(track(settings=USUAL | few), "more_rows") == "add rows of sentiment_analysis: 60 or more"
    enough = few | {"rows": {"sentiment_analysis": {"train": 60, "validation": 0}}}
    assert "more_rows" not in actions(track(settings=USUAL | enough))


def test_in_a_federation_advice_names_the_keys_of_the_run() -> None:
    history = track(lambda n, m: falling(n, m) if n < m / 2 else 0.2 + 3 * (n - m / 2) / m, strategy="federated")
    assert given(history, "lower_the_rate").startswith("training.learning_rate = ")


def test_a_loss_within_the_standard_error_of_the_metric_is_chance() -> None:
    history = {"scores": (0.80, 0.78, 0.78, 0.78), "planned": 10}
    rows = round(0.8 * 0.2 / 0.02**2)  # so many that the standard error of .80 is .02
    held = {"rows": {"sentiment_analysis": {"train": 5000, "validation": rows - 10}}}
    assert "stop_earlier" not in actions(track(**history, settings=USUAL | held))
    held = {"rows": {"sentiment_analysis": {"train": 5000, "validation": rows + 10}}}
    assert "stop_earlier" in actions(track(**history, settings=USUAL | held))
