"""Plan a training within its hours."""

import pytest

from client.finetune.training.time_budget import TimeBudgetExceeded, describe_time_budget, plan_time


def test_every_epoch_is_shortened_alike_so_that_all_of_them_fit() -> None:
    plan = plan_time([1.0, 2.0, 9.0], epochs=4, steps_wanted=1000, max_hours=1.0)
    assert plan.seconds_per_step == 2.0, "the median"
    assert plan.epochs * plan.steps * plan.seconds_per_step <= 3600
    assert plan.steps == 391
    assert plan_time([0.001], epochs=1, steps_wanted=10, max_hours=1.0).steps == 10


def test_too_few_hours_are_one_line_with_the_hours_of_one_step_an_epoch() -> None:
    with pytest.raises(TimeBudgetExceeded, match=r"4 epochs of one step take .* h: allow more") as caught:
        plan_time([3600.0], epochs=4, steps_wanted=10, max_hours=1.0)
    assert "\n" not in str(caught.value)


def test_the_record_is_described_for_a_person() -> None:
    record = plan_time([2.0], epochs=4, steps_wanted=1000, max_hours=1.0).figures()
    words = describe_time_budget({**record, "out_of_hours": 1.0, "steps": 12})
    assert words.startswith("1564 steps planned, of 4000 that were wanted")
    assert words.endswith("stopped after 12, the hours were over")
    assert describe_time_budget({"steps": 12}) == ""
