"""Measure a base model on a task without training it: a logistic regression on its frozen features.

The measure is quick and the same for every base model, so it shows the gain and the loss of an adaptation.
"""

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from client.finetune.job import TaskData
from common.adapters.adapted_model import AdaptedModel, adapt
from common.base_models.load import load_base
from common.config.run import AdapterConfig, ModelConfig
from common.data.datasets import Dataset, Example
from common.errors import ConfigurationError, ModelError
from common.evaluation.metrics import ConfusionMatrix, headline

__all__ = ["linear_probe"]

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
    if not data.task.head.labels_texts:
        raise ConfigurationError(f"{data.task.name}: a base model is probed with a task that labels whole texts")
    loaded = load_base(ModelConfig(base=base, max_tokens=max_tokens), data.task, len(data.train.labels), device)
    config = AdapterConfig(
        rank=1, alpha=1, dropout=0.0, target_modules="all-linear", layers="none", trained_factors="AB"
    )
    model = adapt(loaded, config, data.task, seed=0)
    rng = np.random.default_rng(seed)
    train, test = _some(data.train, _MOST_TRAINED, rng), _some(data.test, _MOST_TESTED, rng)
    learned = LogisticRegression(max_iter=2000).fit(_features(model, train), _labels(train))
    predicted = [int(label) for label in learned.predict(_features(model, test))]
    return headline(ConfusionMatrix.of(_labels(test), predicted, len(data.train.labels)))


def _some(rows: Dataset, most: int, rng: np.random.Generator) -> list[Example]:
    examples = [example for example in rows.examples if isinstance(example, Example)]
    chosen = rng.permutation(len(examples))[:most]
    return [examples[int(index)] for index in chosen]


def _labels(examples: list[Example]) -> list[int]:
    return [example.label for example in examples]


def _features(model: AdaptedModel, examples: list[Example]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    kept = model.features(model.encode([example.text for example in examples]))
    if kept is None or not kept.pooled:
        raise ModelError(f"base model {model.base.name}: it gives no features of a text: use an encoder")
    values: torch.Tensor = kept.values
    return values.numpy()
