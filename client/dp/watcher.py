"""Tell observers the steps of a training."""

import math
import time
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from client.dp.plan import DpTrainingPlan
from common.adapters.adapted_model import AdaptedModel
from common.events import Observer, StepEvent, tell_step
from common.tokenization.batches import TokenizedSet

__all__ = ["Watcher"]


class Watcher:
    """Tells observers each step of a training.

    Args:
        model: Holds the adapter before the next step.
        data: The examples.
        plan: The training.
        observers: The observers.
        started: Time of the start, by `time.monotonic`.
    """

    def __init__(
        self,
        model: AdaptedModel,
        data: TokenizedSet,
        plan: DpTrainingPlan,
        observers: Sequence[Observer],
        started: float,
    ) -> None:
        self._plan, self._lengths, self._observers = plan, data.lengths, observers
        self._trained = list(model.trainable().values())
        self._before = [parameter.detach().clone() for parameter in self._trained]
        self._started = started

    def tell(self, step: int, drawn: NDArray[np.int64], loss: float) -> None:
        """Tell that a step was taken.

        Args:
            step: Number of the step, from 1.
            drawn: Indices of its examples.
            loss: Their mean loss.
        """
        moved = torch.stack([(p.detach() - b).norm() for p, b in zip(self._trained, self._before, strict=True)])
        self._before = [parameter.detach().clone() for parameter in self._trained]
        event = StepEvent(
            step=step,
            steps=self._plan.steps,
            epoch=1 + math.floor((step - 1) * self._plan.sampling_probability),
            loss=loss,
            learning_rate=self._plan.learning_rate,
            gradient_norm=None,
            update_norm=float(moved.norm()),
            examples=len(drawn),
            tokens=int(self._lengths[drawn].sum()),
            seconds=time.monotonic() - self._started,
        )
        tell_step(self._observers, event)
