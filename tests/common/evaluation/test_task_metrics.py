"""The figure that judges a task, and the levels of a risk that count."""

import pytest

from common.evaluation.metrics import ConfusionMatrix
from common.evaluation.task_metrics import high_risk_levels, selection_metric, task_metrics
from common.tasks import task

SENTIMENT, RISK = task("sentiment_analysis"), task("risk_classification")


def test_epochs_are_judged_by_macro_f1_where_no_label_names_a_high_risk_level() -> None:
    assert selection_metric(RISK, RISK.labels) == "high_risk_macro_f1"
    assert selection_metric(RISK, ("critical", "harmless")) == "macro_f1"
    assert selection_metric(SENTIMENT, ("a", "b")) == "weighted_f1"


def test_high_risk_levels_are_found_by_name_whatever_their_case_and_by_position_where_they_are_numbers() -> None:
    assert high_risk_levels(RISK, ("Low", "High", "Very High")) == (1, 2)
    assert high_risk_levels(RISK, ("1", "2", "3", "4", "5")) == (2, 3, 4)
    assert high_risk_levels(RISK, ("safe", "unsafe")) == ()
    assert high_risk_levels(SENTIMENT, SENTIMENT.labels) == ()


def test_high_risk_macro_f1_is_the_mean_over_the_levels_and_negative_recall_that_of_the_class() -> None:
    counts = ConfusionMatrix.of([0, 1, 2, 2, 3, 4], [0, 1, 2, 1, 4, 4], 5)
    found = task_metrics(RISK, RISK.labels, counts)
    assert found["high_risk_macro_f1"] == pytest.approx((2 / 3 + 0.0 + 2 / 3) / 3)
    sentiment = task_metrics(SENTIMENT, SENTIMENT.labels, ConfusionMatrix.of([0, 0, 1, 2], [0, 1, 1, 2], 3))
    assert sentiment["negative_recall"] == 0.5
