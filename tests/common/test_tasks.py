import pytest

from common.errors import ConfigurationError
from common.tasks import TASKS, Head, task, tasks_of

# The tasks as the project promises them, written down a second time.
PROMISED = {
    "sentiment_analysis": (8, 16, {"query", "value"}, 0.05, Head.SEQUENCE),
    "risk_classification": (16, 32, {"query", "value", "key", "dense"}, 0.1, Head.SEQUENCE),
    "financial_ner": (32, 64, {"query", "value", "key", "dense"}, 0.1, Head.TOKEN),
    "document_classification": (12, 24, {"query", "key", "value"}, 0.08, Head.SEQUENCE),
    "document_summarization": (16, 32, {"query", "key", "value", "out"}, 0.1, Head.SUMMARY),
    "instruction_tuning": (16, 32, {"query", "key", "value", "out"}, 0.05, Head.INSTRUCTION),
    "masked_language_modelling": (16, 32, {"query", "key", "value", "dense"}, 0.0, Head.MASKED),
    "causal_language_modelling": (16, 32, {"query", "key", "value", "out"}, 0.0, Head.CAUSAL),
    "multi_task": (16, 32, {"query", "value", "key", "dense"}, 0.1, Head.SEQUENCE),
}


def test_the_tasks_have_the_promised_presets() -> None:
    found = {t.name: (t.rank, t.alpha, set(t.target_modules), t.dropout, t.head) for t in TASKS.values()}
    assert found == PROMISED


def test_high_risk_means_the_upper_three_of_five_levels() -> None:
    risk = task("risk_classification")
    assert [risk.labels[index] for index in risk.high_risk] == ["medium", "high", "very_high"]
    assert len(risk.labels) == 5


def test_tasks_are_found_by_their_own_name_and_cannot_be_changed() -> None:
    assert all(task(name).name == name for name in TASKS)
    with pytest.raises(TypeError):
        TASKS["other"] = task("financial_ner")


def test_an_unknown_task_is_answered_with_the_nearest_and_all_names() -> None:
    with pytest.raises(ConfigurationError, match='did you mean "financial_ner"') as caught:
        task("finacial_ner")
    assert all(name in str(caught.value) for name in TASKS)


def test_labels_of_several_tasks_name_them() -> None:
    labels = ("risk_classification/low", "risk_classification/high", "sentiment_analysis/a/b", "sentiment_analysis/c")
    assert tasks_of(labels) == ("risk_classification",) * 2 + ("sentiment_analysis",) * 2
    assert tasks_of(()) == ()


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (("low", "high"), "write task/label"),
        (("absent/low", "absent/high"), "write task/label"),
        (("financial_ner/O", "financial_ner/B"), "labels texts"),
        (("multi_task/a", "multi_task/b"), "write task/label"),
        (("sentiment_analysis/a", "risk_classification/a", "risk_classification/b"), "two or more"),
    ],
)
def test_labels_that_name_no_tasks_are_refused(labels: tuple[str, ...], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        tasks_of(labels)


def test_every_kind_of_head_is_one_of_text_labels_word_labels_summary_or_language_modelling() -> None:
    for head in Head:
        facts = (head.labels_texts, head.labels_words, head.writes_text, head.is_language_modelling)
        assert facts.count(True) == 1, head
        assert head.is_linear == (head.labels_texts or head.labels_words)


def test_the_heads_that_score_the_whole_vocabulary_at_every_token_are_those_that_generate() -> None:
    assert [head for head in Head if head.generates] == [Head.SUMMARY, Head.INSTRUCTION, Head.CAUSAL]
