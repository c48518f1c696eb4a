"""A recommendation for a federation names the keys of the run's file in place of options."""

import pytest

from client.tracking.advice import Recommendation, of_a_run
from client.tracking.kinds import LOG_KINDS, RECORDS


@pytest.mark.parametrize(
    ("advice", "words"),
    [
        ("--learning-rate 0.001", "training.learning_rate = 0.001"),
        ("--rank 16 --alpha 32", "adapter.rank = 16 and adapter.alpha = 32"),
        ("--adapter qlora", "adapter.method = qlora"),
    ],
)
def test_options_become_keys(advice: str, words: str) -> None:
    given = Recommendation("action", advice, "why", {"figure": 1.0})
    assert of_a_run(given) == Recommendation("action", words, "why", {"figure": 1.0})


def test_a_trainings_directory_may_hold_the_records_and_every_log() -> None:
    assert set(RECORDS) == {"tracker.json", "report.html", *LOG_KINDS}
