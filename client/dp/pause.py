"""The pause of a private training between its draw and its first gradient.

A training of one step is a generator. It pauses once, after its batch is drawn and before a gradient of a row exists,
and hands its `Draw` out. A caller that holds several paused trainings of the same adapter can compute their gradients
in blocks that they share (`client.dp.shared_sums`), and send each its own `BatchSum`. Each then goes on with its own
noise. A training that is sent None computes its batch by itself, to the same bits.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from client.dp.clipped_sum import ClippedSum
from client.dp.plan import DpTrainingPlan
from common.adapters.adapted_model import AdaptedModel
from common.adapters.feature_cache import FeatureCache
from common.tokenization.batches import TokenizedSet

__all__ = ["BatchSum", "Draw", "Pausing", "to_end"]

Result = TypeVar("Result")


@dataclass(frozen=True)
class Draw:
    """The batch of a private training of one step.

    Attributes:
        model: The model. A training that is sent its sum goes on with the adapter that the model holds then.
        verified: The training and the adapter that `client.dp.training.verify_training` verified last.
        data: The N examples of the training.
        rows: (n,) indices of the drawn examples.
        owners: (N,) the customer of each example, counted from 0, if the unit is the customer. None otherwise.
        plan: The training, with settings of privacy.
        cache: Keeps the output of the frozen layers for `data`.
    """

    model: AdaptedModel
    verified: tuple[str, str]
    data: TokenizedSet
    rows: NDArray[np.int64]
    owners: NDArray[np.int64] | None
    plan: DpTrainingPlan
    cache: FeatureCache

    def may_share(self, other: "Draw") -> bool:
        """Return whether the gradients of both follow from the same adapter and the same settings."""
        return self.model is other.model and self._decides() == other._decides()

    def _decides(self) -> tuple[object, ...]:
        dp = self.plan.dp
        settings = None if dp is None else (dp.clipping_norm, dp.unit)
        return self.verified, settings, self.plan.max_batch_tokens, self.data.pad_id


@dataclass(frozen=True)
class BatchSum:
    """The clipped gradients of one draw.

    Attributes:
        clipped: Their sum.
        loss: Sum of the losses of the examples, which is private.
        seconds: Time that it took to compute, as a share of that of all draws together.
    """

    clipped: ClippedSum
    loss: float
    seconds: float


Pausing = Generator[Draw, BatchSum | None, Result]
"""Work that pauses at each `Draw`, and ends with a result."""


def to_end(work: Pausing[Result]) -> Result:
    """Return the result of `work`, which computes every batch by itself."""
    try:
        next(work)
        while True:
            work.send(None)
    except StopIteration as end:
        result: Result = end.value
        return result
