"""A model and examples to counts. Needs no gradient, and nothing that differs between hub and institution."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from common.adapters.adapted_model import AdaptedModel
from common.adapters.frozen_blocks import FrozenFeatures
from common.data.datasets import Dataset, Example, ResponseExample, TokenExample
from common.errors import DataError
from common.evaluation.answers import Answer, ResponseCounts
from common.evaluation.entities import EntityCounts
from common.evaluation.metrics import AnyCounts, ConfusionMatrix, TokenCounts
from common.evaluation.writing import prompts_of, write
from common.tasks import Head
from common.tokenization.batches import IGNORED, SUMMARY_TOKENS, Batch, TokenizedSet, token_batches

__all__ = [
    "Prepared",
    "evaluate",
    "evaluate_language_model",
    "predict",
    "predict_words",
    "prepare",
    "probabilities",
    "scores",
]

_BATCH_TOKENS = 2048
"""On a processor four times as many take up to twice as long: tensors above 32 MB are mapped anew each time."""
_SCORED_TOKENS = 1024
"""Tasks in which every token gets a score for each word of the vocabulary."""
_OUTSIDE = "O"
_MORE_TOKENS = 8
"""Tokens that a written text may have beyond the longest expected one."""

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Prepared:
    """A test set, tokenised once and run once through the frozen blocks, for many adapters of one `AdaptedModel`."""

    dataset: Dataset
    tokens: TokenizedSet
    features: FrozenFeatures | None


def prepare(model: AdaptedModel, dataset: Dataset) -> Prepared:
    """Compute once everything that does not depend on the adapter's weights."""
    tokens = model.encode_words(_sentences(dataset)) if _is_token_set(dataset) else model.encode_dataset(dataset)
    return Prepared(dataset, tokens, model.features(tokens, _BATCH_TOKENS))


def evaluate(
    model: AdaptedModel, data: Dataset | Prepared, max_batch_tokens: int = _BATCH_TOKENS, *, writes: bool = True
) -> AnyCounts:
    """Counts of `data` under the weights now loaded: a confusion matrix, entity counts for a token head, token counts
    for a language model, response counts for a model that writes text.

    Words beyond the model's maximum of tokens count as predicted outside every entity.

    Args:
        model: The model.
        data: The examples.
        max_batch_tokens: Padded tokens that are computed at once.
        writes: Whether a model that writes text writes it. Otherwise the loss of the expected texts alone is measured,
            which takes much less time.
    """
    prepared = data if isinstance(data, Prepared) else prepare(model, data)
    dataset = prepared.dataset
    if model.base.head.writes_text:
        return _evaluate_responses(model, prepared, max_batch_tokens, writes)
    if model.base.head.is_language_modelling:
        return evaluate_language_model(model, prepared.tokens, prepared.features, max_batch_tokens)
    outputs = _outputs(model, prepared.tokens, prepared.features, max_batch_tokens)
    if _is_token_set(dataset):
        outside = dataset.labels.index(_OUTSIDE) if _OUTSIDE in dataset.labels else 0
        given = _on_words(prepared.tokens, outputs, [len(words) for words in _sentences(dataset)], outside)
        truth = [e.labels for e in dataset.examples if isinstance(e, TokenExample)]
        return EntityCounts.of(_named(truth, dataset.labels), _named(given, dataset.labels))
    labels = [e.label for e in dataset.examples if isinstance(e, Example)]
    return ConfusionMatrix.of(labels, [int(row) for row in outputs], len(dataset.labels))


def _evaluate_responses(model: AdaptedModel, prepared: Prepared, max_batch_tokens: int, writes: bool) -> ResponseCounts:
    tokens = prepared.tokens
    seen = evaluate_language_model(model, tokens, prepared.features, max_batch_tokens)
    counts = ResponseCounts(seen.tokens, seen.right, seen.loss)
    if not writes:
        return counts
    # Longer texts than the longest expected one are wrong in any case.
    longest = max((int((labels != IGNORED).sum()) for labels in tokens.labels or ()), default=1)
    written = write(model, prompts_of(model, tokens), min(longest + _MORE_TOKENS, SUMMARY_TOKENS))
    is_summary = model.base.head is Head.SUMMARY
    pairs = (example for example in prepared.dataset.examples if isinstance(example, ResponseExample))
    declared = prepared.dataset.answers
    answers = tuple(
        Answer(example.response, text, None if is_summary else example.kind, declared.get(example.kind, ()))
        for example, text in zip(pairs, written, strict=True)
    )
    return replace(counts, answers=answers)


def predict(model: AdaptedModel, texts: Sequence[str], max_batch_tokens: int = _BATCH_TOKENS) -> list[int]:
    """The likeliest label of each text."""
    return [int(row) for row in _outputs(model, model.encode(texts), None, max_batch_tokens)]


def predict_words(
    model: AdaptedModel, sentences: Sequence[Sequence[str]], outside: int = 0, max_batch_tokens: int = _BATCH_TOKENS
) -> list[list[int]]:
    """Return the likeliest label of each word, and `outside` for words beyond the model's maximum of tokens."""
    tokens = model.encode_words(sentences)
    outputs = _outputs(model, tokens, None, max_batch_tokens)
    return _on_words(tokens, outputs, [len(words) for words in sentences], outside)


@torch.no_grad()
def evaluate_language_model(
    model: AdaptedModel, tokens: TokenizedSet, features: FrozenFeatures | None = None, max_batch_tokens: int = 4096
) -> TokenCounts:
    """Count a language model's predictions for the tokens of `tokens` that have a label."""
    model.eval_mode()
    if model.base.head.generates:
        max_batch_tokens = min(max_batch_tokens, _SCORED_TOKENS)
    counts = TokenCounts(0, 0, 0.0)
    for indices in token_batches(tokens.lengths, np.arange(len(tokens)), max_batch_tokens):
        batch = _batch(model, tokens, features, indices)
        if batch.labels is None:
            raise DataError("test data: it has nothing to guess: mask it first")
        truth = batch.labels[batch.labels != IGNORED]
        scores = model.logits(batch)
        if scores.ndim == 3:
            scores = scores[batch.labels != IGNORED]
        loss = float(torch.nn.functional.cross_entropy(scores, truth, reduction="sum"))
        counts += TokenCounts(int(truth.numel()), int((scores.argmax(-1) == truth).sum()), loss)
    return counts


def _batch(
    model: AdaptedModel, tokens: TokenizedSet, features: FrozenFeatures | None, indices: NDArray[np.int64]
) -> Batch:
    device = model.base.device
    return tokens.batch(indices, device) if features is None else features.batch(tokens, indices, device)


def probabilities(
    model: AdaptedModel, texts: Sequence[str], among: Sequence[int] | None = None, max_batch_tokens: int = _BATCH_TOKENS
) -> list[FloatArray]:
    """Return the probability of each label, (C,), for each text. With `among`, only of the labels at these places,
    given that the label is one of them.
    """
    logits = scores(model, model.encode(texts), None, max_batch_tokens)
    asked = [row if among is None else row[list(among)] for row in logits]
    return [np.exp(row - np.logaddexp.reduce(row)) for row in asked]


def _outputs(
    model: AdaptedModel, tokens: TokenizedSet, features: FrozenFeatures | None, max_batch_tokens: int
) -> list[NDArray[np.int64]]:
    """The likeliest label of each example, shape (), or of each of its tokens, (T,)."""
    return [np.asarray(row.argmax(-1)) for row in scores(model, tokens, features, max_batch_tokens)]


@torch.no_grad()
def scores(
    model: AdaptedModel,
    tokens: TokenizedSet,
    features: FrozenFeatures | None = None,
    max_batch_tokens: int = _BATCH_TOKENS,
) -> list[FloatArray]:
    """The logits of each example, (C,), or of each of its tokens, (T, C)."""
    model.eval_mode()
    lengths = tokens.lengths
    found: dict[int, FloatArray] = {}
    for indices in token_batches(lengths, np.arange(len(tokens)), max_batch_tokens):
        logits = model.logits(_batch(model, tokens, features, indices)).to(torch.float32).cpu().numpy()
        for row, index in enumerate(indices):
            found[int(index)] = logits[row] if logits.ndim == 2 else logits[row, : lengths[index]]
    return [found[index] for index in range(len(tokens))]


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
