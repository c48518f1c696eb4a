"""The frozen part's output of each example, kept while a model trains; by the loops with privacy and without alike."""

import numpy as np
from numpy.typing import NDArray

from common.adapters.adapted_model import AdaptedModel
from common.adapters.frozen_blocks import FrozenFeatures
from common.errors import ConfigurationError
from common.tokenization.batches import Batch, TokenizedSet

__all__ = ["FeatureCache"]

Rows = NDArray[np.int64]


class FeatureCache:
    """What the frozen part of the model makes of each example, computed once and kept for all steps and rounds.

    Bound to the first model and data set it is filled from; their frozen part never changes. It also remembers that
    the model's per-example gradients were verified.
    """

    def __init__(self) -> None:
        self.verified = False
        self._owner: tuple[AdaptedModel, TokenizedSet] | None = None
        self._features: FrozenFeatures | None = None

    def fill(self, model: AdaptedModel, data: TokenizedSet, max_batch_tokens: int) -> None:
        """Compute what is not there yet; nothing, where the model has no frozen part below all that is trained.

        Raises:
            ConfigurationError: the cache holds the states of other examples or of another model.
        """
        if self._owner is None:
            self._features = model.features(data, max_batch_tokens)
            self._owner = (model, data)
        elif self._owner[0] is not model or self._owner[1] is not data:
            raise ConfigurationError("prefix cache: it belongs to another model or data set: use a new one")

    def batch(self, data: TokenizedSet, rows: Rows, device: str) -> Batch:
        """`data.batch(rows)`, with the frozen part's output where the model has one."""
        return data.batch(rows, device) if self._features is None else self._features.batch(data, rows, device)
