"""Measure a base model on a task without training it: a logistic regression on its frozen features.

The measure is quick and the same for every base model, so it shows the gain and the loss of an adaptation.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from client.finetune.job import TaskData
from common.adapters.adapted_model import AdaptedModel, adapt
from common.base_models.load import load_base
from common.config.adapter import AdapterConfig
from common.config.training import ModelConfig
from common.data.datasets import Dataset, Example
from common.errors import ConfigurationError, ModelError
from common.evaluation.metrics import ConfusionMatrix, headline
from common.tasks import task

__all__ = ["base_with_head", "fitted_metrics", "linear_probe", "probe_rows"]

_MOST_TRAINED, _MOST_TESTED = 3000, 2000


def linear_probe(base: str, data: TaskData, max_tokens: int, device: str = "cpu", seed: int = 0) -> dict[str, float]:
    """Return the metrics of a linear head on the mean-pooled features of a base model.

    Args:
        base: Name or directory of the base model.
        data: A task that labels texts. At most 3,000 rows train and 2,000 measure.
        max_tokens: Tokens at which texts are cut.
        device: Of the base model.
        seed: Of the draw of the rows.

    Raises:
        ConfigurationError: The task does not label texts.
    """
    model = base_with_head(base, max_tokens, data, device)
    train, test = probe_rows(data, seed)
    found = (_features(model, train), train, _features(model, test), test)
    return fitted_metrics(*found, len(data.train.labels))


def base_with_head(base: str, max_tokens: int, data: TaskData | None = None, device: str = "cpu") -> AdaptedModel:
    """Return a base model with an untrained linear head on its mean-pooled features.

    Raises:
        ConfigurationError: The task does not label texts.
        ModelError: The base model is absent or cannot do this.
    """
    if data is not None and not data.task.head.labels_texts:
        raise ConfigurationError(f"{data.task.name}: a base model is probed with a task that labels whole texts")
    kind, labels = (task("document_classification"), 2) if data is None else (data.task, len(data.train.labels))
    loaded = load_base(ModelConfig(base=base, max_tokens=max_tokens), kind, labels, device)
    config = AdapterConfig(
        rank=1, alpha=1, dropout=0.0, target_modules="all-linear", layers="none", trained_factors="AB"
    )
    return adapt(loaded, config, kind, seed=0)


def probe_rows(data: TaskData, seed: int = 0) -> tuple[list[Example], list[Example]]:
    """Return the rows that fit a linear head, at most 3,000, and those that measure it, at most 2,000."""
    rng = np.random.default_rng(seed)
    return _some(data.train, _MOST_TRAINED, rng), _some(data.test, _MOST_TESTED, rng)


def fitted_metrics(
    train_features: NDArray[np.float32],
    train: Sequence[Example],
    test_features: NDArray[np.float32],
    test: Sequence[Example],
    labels: int,
) -> dict[str, float]:
    """Fit a linear head, and return its metrics.

    Args:
        train_features, test_features: (N, H) vectors of the rows.
        train, test: The rows, for their labels.
        labels: How many labels there are.
    """
    learned = LogisticRegression(max_iter=2000).fit(train_features, _labels(train))
    predicted = [int(label) for label in learned.predict(test_features)]
    return headline(ConfusionMatrix.of(_labels(test), predicted, labels))


def _some(rows: Dataset, most: int, rng: np.random.Generator) -> list[Example]:
    examples = [example for example in rows.examples if isinstance(example, Example)]
    chosen = rng.permutation(len(examples))[:most]
    return [examples[int(index)] for index in chosen]


def _labels(examples: Sequence[Example]) -> list[int]:
    return [example.label for example in examples]


def _features(model: AdaptedModel, examples: list[Example]) -> NDArray[np.float32]:
    kept = model.features(model.encode([example.text for example in examples]))
    if kept is None or not kept.pooled:
        raise ModelError(f"base model {model.base.name}: it gives no features of a text: use an encoder")
    values: torch.Tensor = kept.values
    return values.numpy()
