"""Sentiment scores are told from labels that happen to be numbers."""

from pathlib import Path

import pytest

from common.config.run import parse_run
from common.data.datasets import Example
from common.data.reading import read_labelled
from common.data.scores import are_scores, score_of
from server.hub import config as hub_config
from server.hub.public_data import read_test_set


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (["0.3", "-0.374", "0"], True),
        (["0,3", "-1"], True),
        (["0", "1", "-1"], False),
        (["1.0", "0.0"], False),
        (["0.3", "positive"], False),
        (["0.3", "1.2"], False),
        (["nan", "0.5"], False),
        ([], False),
    ],
)
def test_fractions_from_minus_one_to_one_are_scores(values: list[str], found: bool) -> None:
    assert are_scores(values) is found


def test_a_score_may_have_a_decimal_comma() -> None:
    assert score_of(" -0,25 ") == -0.25
    assert score_of("1.000,5") is None


def test_a_table_of_scores_has_the_classes_of_sentiment(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.csv").write_text("text,label\nprofit fell,-0.37\nprofit rose,1.0\nmeeting held,0.05\n")
    rows = read_labelled(tmp_path / "a.csv", "sentiment_analysis")
    assert rows.labels == ("negative", "neutral", "positive")
    assert [example.label for example in rows.examples if isinstance(example, Example)] == [0, 2, 1]
    assert "scores became classes: below -0.1 is negative" in caplog.text
    again = read_labelled(tmp_path / "a.csv", "sentiment_analysis", labels=rows.labels)
    assert again.examples == rows.examples


FIQA = {
    "with a row for each target": (
        "sentence,snippets,target,sentiment_score,aspects\n"
        "\"Shares fall, sales rise\",\"['Shares fall']\",Acme,-0.374,\"['Stock/Price Action', 'Corporate/Sales']\"\n"
        "Profit rose,['Profit rose'],Acme,4.5e-1,['Corporate/Sales']\n"
        "A meeting was held,[],Other,0,[]\n",
        "sentence",
        "sentiment_score",
    ),
    "with titles and an index": (
        ",title,aspects,score\n0,Shares fall,['Stock'],-1\n1,Profit rose,['Corporate'],.52\n2,A meeting,[],0.1\n",
        "title",
        "score",
    ),
    "from a spreadsheet with decimal commas": (
        "sentence;aspect;score;type\n"
        "Shares fall;Stock;-0,26;headline\nProfit rose;Sales;1;post\nA meeting;;0,05;post\n",
        "sentence",
        "score",
    ),
}
"""The tables in which FiQA is passed on: their content, the column of texts and that of scores."""


@pytest.mark.parametrize(("content", "text", "score"), FIQA.values(), ids=FIQA)
def test_fiqa_as_a_table_has_the_classes_of_sentiment(tmp_path: Path, content: str, text: str, score: str) -> None:
    (tmp_path / "fiqa.csv").write_text(content)
    rows = read_labelled(tmp_path / "fiqa.csv", "sentiment_analysis", text, score)
    assert rows.labels == ("negative", "neutral", "positive")
    assert [example.label for example in rows.examples if isinstance(example, Example)] == [0, 2, 1]


def test_scores_of_another_task_and_of_a_private_training_stay(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\nprofit fell,-0.37\nprofit rose,0.9\nmeeting held,neutral\n")
    assert len(read_labelled(tmp_path / "a.csv", "sentiment_analysis").labels) == 3
    assert read_labelled(tmp_path / "a.csv", "document_classification").labels == ("-0.37", "0.9", "neutral")
    kept = read_labelled(
        tmp_path / "a.csv", "sentiment_analysis", labels=("negative", "neutral", "positive"), leave_out_others=True
    )
    assert len(kept) == 1  # whether a row stays depends on this row alone


def test_the_hubs_test_set_may_have_scores(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\nprofit fell,-0.37\nprofit rose,1.0\nmeeting held,0.05\n")
    run = {
        "run": {"name": "scores", "seed": 1, "rounds": 1},
        "task": {"name": "sentiment_analysis", "labels": ["positive", "negative", "neutral"]},
        "privacy": {"mode": "none"},
        "training": {"learning_rate": 1e-3, "local_steps": 1, "expected_batch_size": 1},
    }
    config = parse_run(run, "test")
    rows = read_test_set(hub_config.TestData(test=tmp_path / "a.csv"), config)
    assert [example.label for example in rows.examples if isinstance(example, Example)] == [1, 0, 2]
