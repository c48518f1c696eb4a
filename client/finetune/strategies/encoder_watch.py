"""Watch what an encoder knew: the vectors of general sentences, and a linear head on a second task, before and after.

A new head can only learn, so its loss says nothing about what the encoder lost. The vectors of sentences do: if a
sentence of general text has another vector than before, a head that was trained on the old vectors reads it wrongly.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from client.finetune.job import TaskData
from client.finetune.strategies.linear_probe import base_with_head, fitted_metrics, probe_rows
from common.adapters.adapted_model import AdaptedModel
from common.adapters.soft_prompts import PromptedModel
from common.base_models.heads import MeanPoolClassifier
from common.data.datasets import Example
from common.tokenization.batches import TokenizedSet, token_batches

__all__ = ["SENTENCES", "base_vectors", "pooled_features", "similarity", "watch_encoder"]

SENTENCES = 100
"""Sentences of general text that are compared."""

Vectors = NDArray[np.float32]


def similarity(before: Vectors, after: Vectors) -> float:
    """Return the mean cosine of the (N, H) vectors of the same sentences. 1 means that nothing moved.

    >>> similarity(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32))
    1.0
    """
    norms = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
    return float(((before * after).sum(1) / np.maximum(norms, 1e-12)).mean())


def base_vectors(base: str, texts: Sequence[str], max_tokens: int) -> Vectors:
    """Return the (N, H) vectors of the first sentences: the mean of the base model's last hidden states.

    Raises:
        ModelError: The base model is absent, or gives no features of a text.
    """
    model = base_with_head(base, max_tokens)
    return pooled_features(model, model.encode(list(texts[:SENTENCES])))


def watch_encoder(model: AdaptedModel, texts: Sequence[str], probes: Sequence[TaskData]) -> dict[str, Any]:
    """Return what the encoder of a trained classifier still knows, compared with its base model.

    Args:
        model: The trained model. Its weights are put back.
        texts: General text.
        probes: Labelled tasks on whose rows a linear head is fitted, on the vectors before and after.

    Returns:
        `similarity`, and `probes` with the metrics `before` and `after` of each task. Empty if the head does not read
        the mean of the encoder's hidden states, or if the encoder is not trained.
    """
    if not isinstance(model.base.model, MeanPoolClassifier) or isinstance(model, PromptedModel):
        return {}
    trained = model.export()
    after, probed = _known(model, texts, probes)
    try:
        model.load(model.initial())
        before, earlier = _known(model, texts, probes)
    finally:
        model.load(trained)
    found: dict[str, Any] = {"similarity": similarity(before, after)}
    if probes:
        found["probes"] = {name: {"before": earlier[name], "after": probed[name]} for name in probed}
    return found


def _known(
    model: AdaptedModel, texts: Sequence[str], probes: Sequence[TaskData]
) -> tuple[Vectors, dict[str, Mapping[str, float]]]:
    """Return the vectors of general sentences, and the metrics of a linear head for each probe."""

    def vectors(examples: Sequence[Example]) -> Vectors:
        return pooled_features(model, model.encode([example.text for example in examples]))

    found: dict[str, Mapping[str, float]] = {}
    for data in probes:
        train, test = probe_rows(data)
        found[data.task.name] = fitted_metrics(vectors(train), train, vectors(test), test, len(data.train.labels))
    return pooled_features(model, model.encode(list(texts[:SENTENCES]))), found


@torch.no_grad()
def pooled_features(model: AdaptedModel, tokens: TokenizedSet) -> Vectors:
    """Return the (N, H) input of the head of a classifier on pooled features, for each text in order."""
    kept: list[Tensor] = []
    head: Any = getattr(model.base.model, "classifier")  # noqa: B009 - the module's type is not known here
    handle = head.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0].float().cpu()))
    order: list[int] = []
    try:
        model.eval_mode()
        for indices in token_batches(tokens.lengths, np.arange(len(tokens)), 8192):
            model.logits(tokens.batch(indices, model.base.device))
            order += [int(index) for index in indices]
    finally:
        handle.remove()
    values: Vectors = torch.cat(kept).numpy()
    return values[np.argsort(order)]
