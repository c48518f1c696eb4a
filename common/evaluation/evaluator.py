"""How well a model does a task on given rows, as a question that can be asked again after every epoch."""

from collections.abc import Callable
from functools import partial

from common.adapters.adapted_model import AdaptedModel
from common.base_models.heads import SharedEncoder
from common.data.datasets import Dataset
from common.evaluation.evaluate import Prepared, evaluate, prepare
from common.evaluation.summaries import summary_metrics
from common.evaluation.task_metrics import task_metrics
from common.tasks import Task

__all__ = ["make_evaluator"]


def make_evaluator(model: AdaptedModel, task: Task, rows: Dataset) -> Callable[[], dict[str, float]]:
    """The figures of `task` on `rows`, under the weights that `model` holds when it is asked."""
    if task.head.writes_text:
        return partial(summary_metrics, model, rows)
    return partial(_figures, model, task, prepare(model, rows))


def _figures(model: AdaptedModel, task: Task, rows: Prepared) -> dict[str, float]:
    if isinstance(model.base.model, SharedEncoder):
        model.base.model.select(task.name)
    return task_metrics(task, rows.dataset.labels, evaluate(model, rows))
