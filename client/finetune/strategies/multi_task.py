"""Train several tasks at once: one encoder and one adapter for all tasks, and a head for each.

Every minibatch mixes the tasks. The probability of a task grows with the square root of its number of rows. In
proportion to the rows a small task would be neglected, and with equal shares it would be overfitted.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from client.finetune.job import FineTuningJob
from client.finetune.result import FineTuningResult
from client.finetune.strategies.finish import finish
from client.finetune.strategies.scaffold import train
from client.finetune.strategies.session import Session, open_session
from client.finetune.training.plan import Minibatch, TrainingSet
from common.adapters.adapted_model import AdaptedModel
from common.base_models.heads import SharedEncoder
from common.errors import ConfigurationError
from common.evaluation.evaluator import make_evaluator
from common.tokenization.batches import Batch

__all__ = ["mixed_minibatches", "run", "task_shares"]

_TEMPER = 0.5
_WINDOW = 32
"""Number of minibatches among which the rows of a task are sorted by length."""


def run(job: FineTuningJob) -> FineTuningResult:
    """Train on the rows of all tasks together, choose the epoch by the mean of the tasks' metrics, measure each.

    Raises:
        ConfigurationError: The job is private, which this strategy does not support.
        FedfinError: One line that names the wrong input.
    """
    if job.privacy is not None:
        # A step would draw the rows of each task with another probability, and only one can be accounted.
        raise ConfigurationError("multi_task: it does not train with privacy: train each task with single_task")
    session = open_session(job)
    if session.done is not None:
        return session.done
    trained = _train(session)
    metrics = {p.data.task.name: make_evaluator(session.model, p.data.task, p.data.test)() for p in session.parts}
    return finish(session, metrics, trained)


def task_shares(sizes: Sequence[int]) -> NDArray[np.float64]:
    """Return the probability of each task to give the next row: in proportion to the square root of its rows."""
    weights = np.asarray(sizes, dtype=np.float64) ** _TEMPER
    result: NDArray[np.float64] = weights / weights.sum()
    return result


def mixed_minibatches(
    lengths: Sequence[NDArray[np.int64]], size: int, generator: np.random.Generator
) -> list[Minibatch]:
    """Return as many minibatches of `size` rows as all tasks together fill. Rows of a small task repeat.

    Args:
        lengths: (N,) tokens of each row, for each task.
        size: Rows of a minibatch.
        generator: Of the order.
    """
    sizes = [len(each) for each in lengths]
    steps = math.ceil(sum(sizes) / size)
    counts = generator.multinomial(size, task_shares(sizes), size=steps)
    columns = [_dealt(lengths[task], counts[:, task], generator) for task in range(len(sizes))]
    return [
        tuple((task, columns[task][step]) for task in range(len(sizes)) if len(columns[task][step]))
        for step in range(steps)
    ]


def _dealt(
    lengths: NDArray[np.int64], counts: NDArray[np.int64], generator: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Return the rows of one task for each step. Rows of similar length share a step, and repeat equally often."""
    need = int(counts.sum())
    passes = [generator.permutation(len(lengths)) for _ in range(math.ceil(need / len(lengths)))]
    order = np.concatenate([*passes, np.zeros(0, dtype=np.int64)])[:need]
    dealt: list[NDArray[np.int64]] = [np.zeros(0, dtype=np.int64)] * len(counts)
    start = 0
    for first in range(0, len(counts), _WINDOW):
        steps = generator.permutation(np.arange(first, min(first + _WINDOW, len(counts))))
        window = order[start : start + int(counts[steps].sum())]
        start += len(window)
        window = window[np.argsort(lengths[window], kind="stable")]
        for step, rows in zip(steps, np.split(window, np.cumsum(counts[steps])[:-1]), strict=True):
            dealt[int(step)] = rows.astype(np.int64)
    return dealt


def _train(session: Session) -> dict[str, float]:
    model = session.model
    sets = [
        TrainingSet(model.encode_dataset(p.train), partial(_logits, model, p.data.task.name), name=p.data.task.name)
        for p in session.parts
    ]
    deal = partial(mixed_minibatches, [each.tokens.lengths for each in sets], session.settings.batch_size)
    return train(session, sets, _validation(session), minibatches=deal)


def _validation(session: Session) -> "partial[dict[str, float]] | None":
    judges = {}
    for part in session.parts:
        task = part.data.task
        if part.validation is not None:
            judges[f"{task.name}.{part.metric}"] = (part.metric, make_evaluator(session.model, task, part.validation))
    return partial(_mean, judges) if len(judges) == len(session.parts) else None


def _mean(judges: Mapping[str, tuple[str, Callable[[], dict[str, float]]]]) -> dict[str, float]:
    found = {name: ask()[metric] for name, (metric, ask) in judges.items()}
    return {"mean": sum(found.values()) / len(found), **found}


def _logits(model: AdaptedModel, name: str, batch: Batch) -> Tensor:
    if isinstance(model.base.model, SharedEncoder):
        model.base.model.select(name)
    return model.logits(batch)
