"""Evaluate the global adapter on the hub's public test set, as a whole and in parts."""

from collections.abc import Mapping

import numpy as np

from common.adapters.adapted_model import AdaptedModel
from common.data.datasets import Dataset
from common.evaluation.evaluate import Prepared, evaluate, prepare
from common.evaluation.metrics import AnyCounts, ConfusionMatrix, headline, total
from common.protocol.adapter_codec import Tensors
from server.rounds.coordinator import Evaluation

__all__ = ["HubEvaluator"]


class HubEvaluator:
    """Evaluates adapters on a test set that is tokenised once. The output of frozen blocks is computed once.

    Args:
        adapted: The model. Each call loads its adapter into it.
        parts: The test set in named parts, such as institutions. A single part has no metrics of its own.
    """

    def __init__(self, adapted: AdaptedModel, parts: Mapping[str, Dataset]) -> None:
        self._adapted = adapted
        self._parts: dict[str, Prepared] = {name: prepare(adapted, part) for name, part in sorted(parts.items())}

    def __call__(self, tensors: Tensors) -> Evaluation:
        """Return the metrics of an adapter. Those of the whole are computed from the summed counts of the parts."""
        self._adapted.load(tensors)
        counts = {name: evaluate(self._adapted, part) for name, part in self._parts.items()}
        by_part = {name: headline(part) for name, part in counts.items()} if len(counts) > 1 else {}
        whole = total(list(counts.values()))
        return Evaluation({**headline(whole), **_by_task(whole, self._adapted.base.tasks)}, by_part)


def _by_task(counts: AnyCounts, tasks: tuple[str, ...]) -> dict[str, float]:
    """Return the metrics of each of several tasks, from the confusion matrix of its own labels."""
    metrics: dict[str, float] = {}
    if not isinstance(counts, ConfusionMatrix):
        return metrics
    for name in dict.fromkeys(tasks):
        own = [place for place, of in enumerate(tasks) if of == name]
        part = ConfusionMatrix(counts.matrix[np.ix_(own, own)])
        metrics |= {f"{name} accuracy": part.accuracy, f"{name} weighted F1": part.weighted_f1}
    return metrics
