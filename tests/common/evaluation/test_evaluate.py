"""Evaluation counts the predictions of the loaded weights, however the examples are batched or cached."""

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.finetune import counts
from common.data.datasets import Dataset, Example, TokenExample
from common.evaluation.entities import EntityCounts
from common.evaluation.evaluate import evaluate, predict, predict_words, prepare
from common.evaluation.metrics import ConfusionMatrix
from common.tasks import task
from common.tokenization.batches import Batch
from tests.tiny_models import shaken, tiny_adapted

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")

TEXTS = ["profit rises", "net loss of the bank widens", "sales flat", "the contract", "share falls in the quarter"]
LABELS = [0, 1, 2, 1, 0]
DATASET = Dataset(tuple(map(Example, TEXTS, LABELS)), ("a", "b", "c"), "test")
SENTENCES = (("xyz", "bank", "rises"), ("profit",), ("the", "bank", "of", "abc", "falls"))
TAGS = ("O", "B-ORG", "I-ORG")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.mark.parametrize("layers", ["all", "last:1", "none"])
def test_counts_are_those_of_one_example_at_a_time(path: Path, layers: str) -> None:
    model = shaken(tiny_adapted(path, layers=layers, trained_factors="AB"))
    prepared = prepare(model, DATASET)
    assert (prepared.features is None) == (layers == "all")
    for seed in (1, 2):
        shaken(model, seed)
        with torch.no_grad():
            slow = [int(model.logits(model.encode([text]).batch([0])).argmax()) for text in TEXTS]
        matrix = np.zeros((3, 3), dtype=np.int64)
        for truth, given in zip(LABELS, slow, strict=True):
            matrix[truth, given] += 1
        assert predict(model, TEXTS) == slow
        for data in (prepared, DATASET):
            for budget in (1, 20, 8192):
                counts = evaluate(model, data, budget)
                assert isinstance(counts, ConfusionMatrix)
                assert np.array_equal(counts.matrix, matrix)
    assert predict(model, []) == []


@pytest.mark.parametrize("layers", ["all", "last:1"])
def test_token_predictions_are_put_back_on_words(path: Path, layers: str) -> None:
    model = shaken(tiny_adapted(path, which=task("financial_ner"), layers=layers))
    slow = []
    for words in SENTENCES:
        tokens = model.encode_words([words])
        with torch.no_grad():
            best = model.logits(tokens.batch([0]))[0].argmax(-1).tolist()
        firsts, position = [], 1
        for word in words:
            firsts.append(best[position])
            position += 1 if word in {"the", "bank", "of", "rises", "profit", "falls"} else 3
        slow.append(firsts)
    assert predict_words(model, SENTENCES) == slow
    truth = [(1, 2, 0), (0,), (1, 2, 2, 2, 0)]
    counts = evaluate(model, Dataset(tuple(map(TokenExample, SENTENCES, truth)), TAGS, "words"))
    named = [[TAGS[label] for label in row] for row in truth], [[TAGS[label] for label in row] for row in slow]
    assert counts == EntityCounts.of(*named)


def test_words_beyond_the_maximum_are_outside(path: Path) -> None:
    model = shaken(tiny_adapted(path, which=task("financial_ner")))
    long = ("bank",) * 100
    (given,) = predict_words(model, [long], outside=7)
    assert given[62:] == [7] * 38
    assert 7 not in given[:62]


def test_the_benchmark_judges_the_trainers_tokens_as_evaluation_judges_words(path: Path) -> None:
    model = shaken(tiny_adapted(path, which=task("financial_ner")))
    names = tuple(f"I-{label}" for label in "ABCDEFGHI"[: model.base.labels - 1])
    long = TokenExample(("bank",) * 100, (0,) * 90 + (1,) * 10)
    short = TokenExample(("the", "bank"), (0, 2))
    rows = Dataset((long, short), ("O", *names), "test")
    batch = model.encode_dataset(rows).batch([0, 1])
    with torch.no_grad():
        given = model.logits(batch).argmax(-1).numpy()
    assert batch.labels is not None
    found = counts(rows, batch.labels.numpy(), given)
    assert found == evaluate(model, rows)
    assert isinstance(found, EntityCounts)
    assert found.false_negative["A"] == 1  # which no token that was read can say


def test_a_batch_is_small_enough_that_a_processor_does_not_map_its_tensors_anew(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_adapted(path)
    seen: list[int] = []
    whole = model.logits

    def noted(batch: Batch) -> torch.Tensor:
        seen.append(batch.input_ids.numel())
        return whole(batch)

    monkeypatch.setattr(model, "logits", noted)
    predict(model, ["the bank of the quarter " * 20] * 100)
    assert sum(seen) > 4096
    assert max(seen) * 4 * 1536 * 2 < 32 * 2**20  # MiniLM's widest tensors, with room for twice their width
