"""The hub's evaluation: the global adapter on the public test set, whole and by its parts."""

from collections.abc import Mapping

from common.adapters import AdaptedModel
from common.codec import Tensors
from common.data import Dataset
from common.evaluation import Prepared, evaluate, prepare
from common.metrics import headline, total
from server.coordinator import Evaluation

__all__ = ["HubEvaluator"]


class HubEvaluator:
    """Evaluates an adapter on a test set; tokenised once, frozen blocks computed once.

    Args:
        parts: the test set in parts with names, such as institutions; one part has no figures of its own.
    """

    def __init__(self, adapted: AdaptedModel, parts: Mapping[str, Dataset]) -> None:
        self._adapted = adapted
        self._parts: dict[str, Prepared] = {name: prepare(adapted, part) for name, part in sorted(parts.items())}

    def __call__(self, tensors: Tensors) -> Evaluation:
        """Metrics of the whole are computed from the summed counts of its parts."""
        self._adapted.load(tensors)
        counts = {name: evaluate(self._adapted, part) for name, part in self._parts.items()}
        by_part = {name: headline(part) for name, part in counts.items()} if len(counts) > 1 else {}
        return Evaluation(headline(total(list(counts.values()))), by_part)
