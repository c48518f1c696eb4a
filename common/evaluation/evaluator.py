"""Build a reusable evaluation function for one task and data set."""

from collections.abc import Callable
from functools import partial

from common.adapters.adapted_model import AdaptedModel
from common.base_models.heads import SharedEncoder
from common.data.datasets import Dataset
from common.evaluation.evaluate import Prepared, evaluate, prepare
from common.evaluation.task_metrics import task_metrics
from common.tasks import Task

__all__ = ["make_evaluator"]


def make_evaluator(
    model: AdaptedModel, task: Task, rows: Dataset, *, writes: bool = True
) -> Callable[[], dict[str, float]]:
    """Return a function that measures the weights that `model` holds at the time of the call.

    Args:
        model: The model, which may train between two calls.
        task: A task that the model serves.
        rows: Labelled rows, tokenized once.
        writes: See `common.evaluation.evaluate.evaluate`.

    Returns:
        A function that returns the metrics of the task by name.
    """
    return partial(_figures, model, task, prepare(model, rows), writes)


def _figures(model: AdaptedModel, task: Task, rows: Prepared, writes: bool) -> dict[str, float]:
    if isinstance(model.base.model, SharedEncoder):
        model.base.model.select(task.name)
    return task_metrics(task, rows.dataset.labels, evaluate(model, rows, writes=writes))
