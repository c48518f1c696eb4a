"""Advice on the way to train: every way has a verdict with a figure, and the aims decide."""

from dataclasses import replace

import pytest

from client.finetune.options.strategy import Aims, advise_strategy
from common.tasks import TASKS

SENTIMENT, SUMMARY = TASKS["sentiment_analysis"], TASKS["document_summarization"]
WAYS = {"single_task", "incremental", "federated", "multi_task", "stages"}


def test_rows_alone_are_trained_alone_and_each_other_way_says_what_it_lacks() -> None:
    ways = advise_strategy(SENTIMENT, 800, Aims())
    assert {way.strategy for way in ways} == WAYS
    assert [way.strategy for way in ways if way.advised] == ["single_task"]
    assert all(any(c.isdigit() for c in way.because) for way in ways)
    assert ways[0].strategy == "single_task"


@pytest.mark.parametrize(
    ("aims", "first"),
    [
        (Aims(previous=True, institutions=3), "incremental"),
        (Aims(institutions=3, private=True), "federated"),
        (Aims(other_tasks=("risk_classification",)), "multi_task"),
        (Aims(corpus_texts=9000, tokens_per_word=1.8), "stages"),
        (Aims(corpus_texts=9000, tokens_per_word=1.31), "single_task"),  # measured: no gain
        (Aims(corpus_texts=900, tokens_per_word=1.8), "single_task"),
        (Aims(other_tasks=("risk_classification",), private=True), "single_task"),
        (Aims(corpus_texts=9000, tokens_per_word=1.8, private=True), "single_task"),
    ],
)
def test_the_aims_decide(aims: Aims, first: str) -> None:
    assert advise_strategy(SENTIMENT, 800, aims)[0].strategy == first


def test_many_rows_need_no_others_and_summaries_are_trained_alone() -> None:
    aims = Aims(institutions=4, other_tasks=("sentiment_analysis",))
    assert advise_strategy(SENTIMENT, 50_000, replace(aims, other_tasks=()))[0].strategy == "single_task"
    assert advise_strategy(SUMMARY, 800, aims)[0].strategy == "single_task"
