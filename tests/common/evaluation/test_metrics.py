"""Figures against scikit-learn and against slow definitions written again."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import f1_score
from seqeval.metrics.sequence_labeling import get_entities, precision_recall_fscore_support
from sklearn import metrics as sk

from common.errors import DataError
from common.evaluation.answers import rouge_l
from common.evaluation.entities import EntityCounts, entities
from common.evaluation.metrics import ConfusionMatrix, headline
from common.evaluation.ratios import f1, ratio

LABELS = 5
pairs = st.lists(st.tuples(st.integers(0, LABELS - 1), st.integers(0, LABELS - 1)), min_size=1, max_size=60)


def split(pairs: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    return [t for t, _ in pairs], [p for _, p in pairs]


@settings(max_examples=25, deadline=None)
@given(pairs)
def test_every_figure_equals_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    truth, predicted = split(pairs)
    counts = ConfusionMatrix.of(truth, predicted, LABELS)
    weighted = {"average": "weighted", "zero_division": 0}
    expected = {
        "accuracy": sk.accuracy_score(truth, predicted),
        "weighted_precision": sk.precision_score(truth, predicted, **weighted),
        "weighted_recall": sk.recall_score(truth, predicted, **weighted),
        "weighted_f1": sk.f1_score(truth, predicted, **weighted),
        "macro_f1": sk.f1_score(truth, predicted, average="macro", zero_division=0),
    }
    assert {name: getattr(counts, name) for name in expected} == pytest.approx(expected, abs=1e-12)
    for label in range(LABELS):
        only = {"labels": [label], "average": "macro", "zero_division": 0}
        assert counts.recall(label) == pytest.approx(sk.recall_score(truth, predicted, **only))
        assert counts.precision(label) == pytest.approx(sk.precision_score(truth, predicted, **only))
        assert counts.f1(label) == pytest.approx(sk.f1_score(truth, predicted, **only))


@settings(max_examples=40, deadline=None)
@given(pairs, st.sets(st.integers(0, LABELS - 1)))
def test_high_risk_f1_is_the_f1_of_the_question_whether_the_level_is_high(
    pairs: list[tuple[int, int]], levels: set[int]
) -> None:
    truth, predicted = split(pairs)
    high = [[label in levels for label in labels] for labels in (truth, predicted)]
    expected = sk.f1_score(*high, zero_division=0)
    assert ConfusionMatrix.of(truth, predicted, LABELS).high_risk_f1(sorted(levels)) == pytest.approx(expected)


def test_a_ratio_of_nothing_is_0_and_f1_is_the_harmonic_mean() -> None:
    assert (ratio(3, 0), f1(0, 0, 0)) == (0.0, 0.0)
    precision, recall = ratio(4, 4 + 1), ratio(4, 4 + 3)
    assert f1(4, 1, 3) == pytest.approx(2 * precision * recall / (precision + recall))


@given(pairs, st.integers(0, 60))
def test_counts_of_parts_add_up_to_the_counts_of_the_whole(pairs: list[tuple[int, int]], cut: int) -> None:
    left, right = split(pairs[:cut]), split(pairs[cut:])
    assert ConfusionMatrix.of(*left, LABELS) + ConfusionMatrix.of(*right, LABELS) == ConfusionMatrix.of(
        *split(pairs), LABELS
    )


@given(pairs)
def test_counts_survive_json(pairs: list[tuple[int, int]]) -> None:
    counts = ConfusionMatrix.of(*split(pairs), LABELS)
    assert ConfusionMatrix.from_json(counts.to_json()) == counts


def test_nothing_counted_gives_zero_and_no_warning() -> None:
    empty = ConfusionMatrix.of([], [], 3)
    assert set(headline(empty).values()) == {0.0}
    assert empty.recall(0) == empty.precision(0) == empty.high_risk_f1([0]) == 0.0


@pytest.mark.parametrize(
    ("truth", "predicted"), [([0], [3]), ([-1], [0]), ([3], [0]), ([0], [-1]), ([0, 1], [0])], ids=str
)
def test_a_label_out_of_range_is_refused_not_wrapped(truth: list[int], predicted: list[int]) -> None:
    with pytest.raises(DataError):
        ConfusionMatrix.of(truth, predicted, 3)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"matrix": 1}', '{"matrix": [[1, 2]]}', '{"matrix": [[-1]]}', '{"matrix": [[0.5]]}',
             '{"matrix": [[1], [2, 3]]}', '{"matrix": []}', '{"matrix": [[1e999]]}', '{"matrix": [[true]]}'],
)  # fmt: skip
def test_other_json_is_not_read_as_counts(text: str) -> None:
    with pytest.raises(DataError):
        ConfusionMatrix.from_json(text)


def test_counts_of_different_labels_do_not_add() -> None:
    with pytest.raises(DataError):
        ConfusionMatrix.of([0], [0], 2) + ConfusionMatrix.of([0], [0], 3)


def test_counts_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValueError, match="read-only"):
        ConfusionMatrix.of([0], [0], 2).matrix[0, 0] = 9


# --- entities

TAGS = ("O", "B-ORG", "I-ORG", "B-PER", "I-PER")
sequences = st.lists(st.lists(st.sampled_from(TAGS), max_size=12), max_size=6)


def slow_entities(tags: list[str]) -> set[tuple[str, int, int]]:
    """Every interval is tried against the definition: it starts as an entity does, goes on, and ends."""

    def starts(i: int) -> bool:
        before = tags[i - 1] if i else "O"
        return tags[i][0] == "B" or (tags[i][0] == "I" and (before == "O" or before[2:] != tags[i][2:]))

    found = set()
    for first in range(len(tags)):
        for last in range(first, len(tags)):
            inside = all(tags[i] == "I-" + tags[first][2:] for i in range(first + 1, last + 1))
            ended = last + 1 == len(tags) or tags[last + 1] != "I-" + tags[first][2:]
            if tags[first] != "O" and starts(first) and inside and ended:
                found.add((tags[first][2:], first, last))
    return found


@given(st.lists(st.sampled_from(TAGS), max_size=12))
def test_entities_equal_the_definition_tried_on_every_interval(tags: list[str]) -> None:
    assert entities(tags) == slow_entities(tags)


@given(sequences, st.randoms())
def test_entity_figures_equal_sets_compared_over_the_whole_corpus(truth: list[list[str]], random) -> None:
    predicted = [[random.choice((tag, random.choice(TAGS))) for tag in tags] for tags in truth]
    real = {(i, *e) for i, tags in enumerate(truth) for e in slow_entities(tags)}
    claimed = {(i, *e) for i, tags in enumerate(predicted) for e in slow_entities(tags)}
    hits = len(real & claimed)
    counts = EntityCounts.of(truth, predicted)
    assert counts.precision == pytest.approx(hits / len(claimed) if claimed else 0.0)
    assert counts.recall == pytest.approx(hits / len(real) if real else 0.0)
    assert counts.entity_f1 == pytest.approx(2 * hits / (len(claimed) + len(real)) if real or claimed else 0.0)
    by_type = {}
    for kind in {e[1] for e in real | claimed}:
        r, c = ({e for e in found if e[1] == kind} for found in (real, claimed))
        by_type[kind] = (len(r), 2 * len(r & c) / (len(r) + len(c)))
    assert counts.macro_f1 == pytest.approx(np.mean([f for _, f in by_type.values()]) if by_type else 0.0)
    expected = sum(n * f for n, f in by_type.values()) / len(real) if real else 0.0
    assert counts.weighted_f1 == pytest.approx(expected)
    words = [a == b for x, y in zip(truth, predicted, strict=True) for a, b in zip(x, y, strict=True)]
    assert counts.accuracy == pytest.approx(np.mean(words) if words else 0.0)


@given(sequences, st.randoms())
def test_entity_figures_equal_seqevals(truth: list[list[str]], random) -> None:
    predicted = [[random.choice((tag, random.choice(TAGS))) for tag in tags] for tags in truth]
    counts = EntityCounts.of(truth, predicted)
    found = {"micro": (counts.precision, counts.recall, counts.entity_f1)}
    assert {kind for kind, _, _ in get_entities(truth)} == {k for tags in truth for k, _, _ in entities(tags)}
    if any(tag != "O" for tags in (*truth, *predicted) for tag in tags):  # seqeval knows no F1 of nothing
        for average, expected in found.items():
            *figures, _ = precision_recall_fscore_support(truth, predicted, average=average, zero_division=0)
            assert expected == pytest.approx(figures)
        assert counts.weighted_f1 == pytest.approx(f1_score(truth, predicted, average="weighted", zero_division=0))
        assert counts.macro_f1 == pytest.approx(f1_score(truth, predicted, average="macro", zero_division=0))


@given(sequences, sequences)
def test_entity_counts_of_parts_add_up_and_survive_json(one: list[list[str]], two: list[list[str]]) -> None:
    flipped = [[{"B": "I", "I": "B"}.get(t[0], "O") + t[1:] for t in tags] for tags in one + two]
    parts = EntityCounts.of(one, flipped[: len(one)]) + EntityCounts.of(two, flipped[len(one) :])
    assert parts == EntityCounts.of(one + two, flipped)
    assert EntityCounts.from_json(parts.to_json()) == parts


def test_the_sequence_of_the_conll_evaluation_script() -> None:
    truth = [["O", "O", "O", "B-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
    predicted = [["O", "O", "B-MISC", "I-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
    assert headline(EntityCounts.of(truth, predicted)) == {
        "accuracy": 0.8, "weighted_f1": 0.5, "macro_f1": 0.5, "entity_f1": 0.5,
    }  # fmt: skip


@pytest.mark.parametrize("tag", ["X-ORG", "ORG", "B", "I-", "", "O-ORG"])
def test_a_tag_that_is_not_iob_is_refused(tag: str) -> None:
    with pytest.raises(DataError, match="word 2"):
        entities(["O", tag])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"true_positive": {}}',
    '{"true_positive": {"A": -1}, "false_positive": {}, "false_negative": {}}',
    '{"true_positive": {}, "false_positive": {}, "false_negative": {}, "words": "3"}'])  # fmt: skip
def test_other_json_is_not_read_as_entity_counts(text: str) -> None:
    with pytest.raises(DataError):
        EntityCounts.from_json(text)


@pytest.mark.parametrize(("truth", "predicted"), [([["O"]], []), ([["O"]], [["O", "O"]])])
def test_tags_without_counterpart_are_refused(truth: list[list[str]], predicted: list[list[str]]) -> None:
    with pytest.raises(DataError):
        EntityCounts.of(truth, predicted)


# --- ROUGE-L


def slow_common(left: list[str], right: list[str]) -> int:
    table = [[0] * (len(right) + 1) for _ in range(len(left) + 1)]
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            table[i + 1][j + 1] = table[i][j] + 1 if a == b else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


@given(st.lists(st.sampled_from("abcd"), max_size=15), st.lists(st.sampled_from("abcd"), max_size=15))
def test_rouge_l_equals_the_textbook_table(reference: list[str], candidate: list[str]) -> None:
    common = slow_common(reference, candidate)
    total = len(reference) + len(candidate)
    expected = 2 * common / total if total else 0.0
    assert rouge_l([(" ".join(reference), " ".join(candidate))]) == pytest.approx(expected)


def test_rouge_l_by_hand() -> None:
    police = ("police killed the gunman", "Police kill the gunman.")
    assert rouge_l([police]) == pytest.approx(3 / 4)
    assert rouge_l([police, ("same", "same")]) == pytest.approx((3 / 4 + 1) / 2)
    assert rouge_l([]) == 0.0
