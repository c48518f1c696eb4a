"""A model and examples to counts. Needs no gradient, and nothing that differs between hub and institution."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from common.adapters import AdaptedModel
from common.data import Dataset, Example, TokenExample
from common.metrics import Counts, EntityCounts
from common.prefix import FrozenFeatures
from common.tokens import IGNORED, TokenizedSet, token_batches

__all__ = ["Prepared", "evaluate", "predict", "predict_words", "prepare"]

_BATCH_TOKENS = 8192
_OUTSIDE = "O"


@dataclass(frozen=True)
class Prepared:
    """A test set, tokenised once and run once through the frozen blocks, for many adapters of one `AdaptedModel`."""

    dataset: Dataset
    tokens: TokenizedSet
    features: FrozenFeatures | None


def prepare(model: AdaptedModel, dataset: Dataset) -> Prepared:
    """Do once what does not depend on the adapter's weights."""
    tokens = model.encode_words(_sentences(dataset)) if _is_token_set(dataset) else model.encode_dataset(dataset)
    return Prepared(dataset, tokens, model.features(tokens, _BATCH_TOKENS))


def evaluate(
    model: AdaptedModel, data: Dataset | Prepared, max_batch_tokens: int = _BATCH_TOKENS
) -> Counts | EntityCounts:
    """Counts of `data` under the weights now loaded: a confusion matrix, or entities for a token head.

    Words beyond the model's maximum of tokens count as predicted outside every entity.
    """
    prepared = data if isinstance(data, Prepared) else prepare(model, data)
    dataset = prepared.dataset
    outputs = _outputs(model, prepared.tokens, prepared.features, max_batch_tokens)
    if _is_token_set(dataset):
        outside = dataset.labels.index(_OUTSIDE) if _OUTSIDE in dataset.labels else 0
        given = _on_words(prepared.tokens, outputs, [len(words) for words in _sentences(dataset)], outside)
        truth = [e.labels for e in dataset.examples if isinstance(e, TokenExample)]
        return EntityCounts.of(_named(truth, dataset.labels), _named(given, dataset.labels))
    labels = [e.label for e in dataset.examples if isinstance(e, Example)]
    return Counts.of(labels, [int(row) for row in outputs], len(dataset.labels))


def predict(model: AdaptedModel, texts: Sequence[str], max_batch_tokens: int = _BATCH_TOKENS) -> list[int]:
    """The likeliest label of each text."""
    return [int(row) for row in _outputs(model, model.encode(texts), None, max_batch_tokens)]


def predict_words(
    model: AdaptedModel, sentences: Sequence[Sequence[str]], outside: int = 0, max_batch_tokens: int = _BATCH_TOKENS
) -> list[list[int]]:
    """The likeliest label of each word; `outside` for words beyond the model's maximum of tokens."""
    tokens = model.encode_words(sentences)
    outputs = _outputs(model, tokens, None, max_batch_tokens)
    return _on_words(tokens, outputs, [len(words) for words in sentences], outside)


@torch.no_grad()
def _outputs(
    model: AdaptedModel, tokens: TokenizedSet, features: FrozenFeatures | None, max_batch_tokens: int
) -> list[NDArray[np.int64]]:
    """The likeliest label of each example, shape (), or of each of its tokens, (T,)."""
    model.eval_mode()
    lengths = tokens.lengths
    outputs: dict[int, NDArray[np.int64]] = {}
    for indices in token_batches(lengths, np.arange(len(tokens)), max_batch_tokens):
        source = tokens if features is None else features
        batch = (
            source.batch(indices, model.base.device)
            if isinstance(source, TokenizedSet)
            else source.batch(tokens, indices, model.base.device)
        )
        best = model.logits(batch).argmax(-1).cpu().numpy()
        for row, index in enumerate(indices):
            outputs[int(index)] = best[row] if best.ndim == 1 else best[row, : lengths[index]]
    return [outputs[index] for index in range(len(tokens))]


def _on_words(
    tokens: TokenizedSet, outputs: Sequence[NDArray[np.int64]], sizes: Sequence[int], outside: int
) -> list[list[int]]:
    result: list[list[int]] = []
    for positions, output, size in zip(tokens.labels or (), outputs, sizes, strict=True):
        words = [outside] * size
        for word, label in zip(positions, output, strict=True):
            if word != IGNORED:
                words[int(word)] = int(label)
        result.append(words)
    return result


def _named(sequences: Sequence[Sequence[int]], labels: Sequence[str]) -> list[list[str]]:
    return [[labels[label] for label in sequence] for sequence in sequences]


def _is_token_set(dataset: Dataset) -> bool:
    return bool(dataset.examples) and isinstance(dataset.examples[0], TokenExample)


def _sentences(dataset: Dataset) -> list[tuple[str, ...]]:
    return [example.words for example in dataset.examples if isinstance(example, TokenExample)]
