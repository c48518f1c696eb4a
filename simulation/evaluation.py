"""The hub's evaluation: the global adapter on the public test set, whole and by institution."""

from common.adapters import AdaptedModel
from common.codec import Tensors
from common.evaluation import Prepared, evaluate, prepare
from common.metrics import headline, total
from server.coordinator import Evaluation
from simulation.institutions import Federation

__all__ = ["HubEvaluator"]


class HubEvaluator:
    """Evaluates an adapter on the federation's test set; tokenised once, frozen blocks computed once."""

    def __init__(self, adapted: AdaptedModel, federation: Federation) -> None:
        self._adapted = adapted
        self._parts: dict[str, Prepared] = {
            name: prepare(adapted, dataset) for name, dataset in sorted(federation.test_by_institution.items())
        }

    def __call__(self, tensors: Tensors) -> Evaluation:
        """Metrics of the whole are computed from the summed counts of its parts."""
        self._adapted.load(tensors)
        counts = {name: evaluate(self._adapted, part) for name, part in self._parts.items()}
        return Evaluation(
            headline(total(list(counts.values()))), {name: headline(part) for name, part in counts.items()}
        )
