"""The frozen part's output of each example, kept while a model trains, by the loops with and without privacy."""

from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from common.adapters.adapted_model import AdaptedModel
from common.adapters.frozen_blocks import FrozenFeatures
from common.errors import ConfigurationError
from common.tokenization.batches import Batch, TokenizedSet, joined
from common.tokenization.blocks import Block, block_batch, fixed_blocks, pooled_blocks

__all__ = ["FeatureCache"]

Rows = NDArray[np.int64]


class FeatureCache:
    """The output of the frozen layers for each example, computed once and kept for all steps and rounds.

    Bound to the first model and data set that it is filled from, whose frozen layers never change."""

    def __init__(self) -> None:
        self._owner: tuple[AdaptedModel, TokenizedSet] | None = None
        self._features: FrozenFeatures | None = None

    def fill(self, model: AdaptedModel, data: TokenizedSet, max_batch_tokens: int) -> None:
        """Compute the missing features. Nothing is computed if no part of the model is frozen below the trained one.

        Args:
            model: The model. Later calls must give the same one.
            data: The N examples. Later calls must give the same ones.
            max_batch_tokens: Bound on the tokens that are computed at once.

        Raises:
            ConfigurationError: The cache holds the states of other examples or of another model.
        """
        if self._owner is None:
            self._features = model.features(data, max_batch_tokens)
            self._owner = (model, data)
        elif self._owner[0] is not model or self._owner[1] is not data:
            raise ConfigurationError("prefix cache: it belongs to another model or data set: use a new one")

    @classmethod
    def fill_all(
        cls, caches: Sequence[tuple["FeatureCache", TokenizedSet]], model: AdaptedModel, max_batch_tokens: int
    ) -> None:
        """Fill several caches, in blocks that their examples share. Each gets the bits that `fill` gives it.

        Args:
            caches: The caches, each with its examples.
            model: See `fill`.
            max_batch_tokens: See `fill`.

        Raises:
            ConfigurationError: See `fill`.
        """
        empty = [(cache, data) for cache, data in caches if cache._owner is None]
        together = joined([(data, np.arange(len(data))) for _, data in empty]) if empty else None
        features = None if together is None else model.features(together, max_batch_tokens)
        start = 0
        for cache, data in empty:
            cache._owner = (model, data)
            cache._features = None if features is None else features.part(start, start + len(data))
            start += len(data)
        for cache, data in caches:
            cache.fill(model, data, max_batch_tokens)

    @classmethod
    def of(cls, model: AdaptedModel, data: TokenizedSet, parts: Sequence[tuple["FeatureCache", Rows]]) -> Self:
        """Return the cache of examples of several filled caches.

        Args:
            model: The model of all of them.
            data: The examples, in the order of the parts.
            parts: The filled caches, and indices of examples of each.
        """
        cache = cls()
        cache._owner = (model, data)
        features = [(part._features, rows) for part, rows in parts if part._features is not None]
        cache._features = FrozenFeatures.of(features) if features else None
        return cache

    @property
    def is_pooled(self) -> bool:
        """Whether one vector stands for an example, so that blocks have no length."""
        return self._features is not None and self._features.pooled

    def batch(self, data: TokenizedSet, rows: Rows, device: str) -> Batch:
        """Return `data.batch(rows)`, with the output of the frozen layers if the model has any."""
        return data.batch(rows, device) if self._features is None else self._features.batch(data, rows, device)

    def blocks(self, data: TokenizedSet, rows: Rows, max_batch_tokens: int) -> list[Block]:
        """Put `rows` into blocks of fixed shape. `fill` must have been called.

        Args:
            data: The examples.
            rows: (n,) indices of examples.
            max_batch_tokens: Bound on the tokens of a block, unless one example exceeds it.
        """
        if self._owner is None:
            raise RuntimeError("the cache is empty: fill it first")
        model = self._owner[0]
        if self.is_pooled:
            return pooled_blocks(rows)
        masked, one_size = model.head.scores_some_tokens, model.base.needs_one_size
        return fixed_blocks(data, rows, model.base.max_tokens, max_batch_tokens, masked, one_size)

    def block_batch(self, data: TokenizedSet, block: Block, device: str) -> Batch:
        """Return the examples and dummies of `block`, with the output of the frozen layers if the model has any."""
        if self._features is None:
            return block_batch(data, block, device)
        return self._features.block_batch(data, block, device)
