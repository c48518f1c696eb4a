"""Continue an adapter on new rows, and limit forgetting.

If the earlier rows are available, a small reservoir of them is replayed among the new rows (Chaudhry et al. 2019, arXiv
1902.10486). Otherwise a penalty holds every weight near its earlier value (L2-SP, Li et al. 2018, arXiv 1802.01483).
Forgetting is measured in both cases.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from client.finetune.job import FineTuningJob, Previous
from client.finetune.result import FineTuningResult
from client.finetune.strategies.finish import finish
from client.finetune.strategies.scaffold import train, validator
from client.finetune.strategies.session import Session, open_session
from client.finetune.training.plan import TrainingSet
from common.adapters.adapted_model import AdaptedModel
from common.data.datasets import Dataset, merge
from common.data.splits import hold_out, remove_test_rows
from common.errors import ConfigurationError
from common.evaluation.evaluator import make_evaluator

__all__ = ["L2SPPenalty", "reservoir", "run"]

_RESERVOIR_SHARE = 0.5
_RESERVOIR_ROWS = 1000
_STRENGTH = 0.1


class L2SPPenalty:
    """Half of `strength` times the squared L2 distance of the trained weights from their values at the start."""

    def __init__(self, model: AdaptedModel, strength: float = _STRENGTH) -> None:
        self._held = [(p, p.detach().clone()) for p in model.trainable().values()]
        self._strength = strength

    def __call__(self) -> Tensor:
        distance = torch.stack([((p - start) ** 2).sum() for p, start in self._held]).sum()
        return 0.5 * self._strength * distance


def reservoir(old: Dataset, new_rows: int, seed: int) -> Dataset:
    """Draw the earlier rows to replay: half as many as there are new rows, and at most 1,000.

    Args:
        old: Earlier rows.
        new_rows: Number of new rows.
        seed: Of the draw.
    """
    size = min(len(old), _RESERVOIR_ROWS, max(1, round(_RESERVOIR_SHARE * new_rows)))
    chosen = np.sort(np.random.default_rng([seed, 2]).permutation(len(old))[:size])
    return replace(old, examples=tuple(old.examples[int(index)] for index in chosen))


def run(job: FineTuningJob) -> FineTuningResult:
    """Continue `job.previous.adapter` on the job's rows. Measure it on old and on new rows, before and after.

    Raises:
        ConfigurationError: The job is private and has no earlier rows. The private loop has no penalty.
        FedfinError: One line that names the wrong input.
    """
    previous = job.previous
    if previous is None:
        raise ConfigurationError("incremental: name the adapter that it continues")
    if job.privacy is not None and previous.train is None:
        raise ConfigurationError("incremental: with privacy it needs the old training rows, to replay some of them")
    session = open_session(job)
    if session.done is not None:
        return session.done
    [part] = session.parts
    new = make_evaluator(session.model, part.data.task, part.data.test)
    old = make_evaluator(session.model, part.data.task, previous.test)
    before = {"new_before": new(), "old_before": old()}
    rows, validation = _rows(session, previous)
    privacy = None
    if job.privacy is None:
        trained = _train(session, rows, validation, L2SPPenalty(session.model) if previous.train is None else None)
    else:
        from client.finetune.strategies.private import train_privately  # loads Opacus, which only privacy needs

        trained, privacy = train_privately(session, session.model.encode_dataset(rows))
    after = {"new": new(), "old": old()}
    metric = part.metric
    forgotten = {"forgotten": before["old_before"][metric] - after["old"][metric]}
    return finish(session, {**after, **before, **forgotten}, trained, privacy)


def _rows(session: Session, previous: Previous) -> tuple[Dataset, Dataset | None]:
    """Return the new rows with the replayed rows: those to train on, and those to choose the epoch by."""
    [part] = session.parts
    if previous.train is None:
        return part.train, part.validation
    # Neither test set may be trained on, the old rows included.
    old, _ = remove_test_rows(previous.train, previous.test)
    old, _ = remove_test_rows(old, part.data.test)
    replayed = reservoir(old, len(part.train), session.job.seed)
    if part.validation is None:
        return merge([part.train, replayed], "new and replayed rows"), None
    replayed, held = hold_out(replayed, session.job.training.validation, session.job.seed)
    rows = merge([part.train, replayed], "new and replayed rows")
    return rows, part.validation if held is None else merge([part.validation, held], "held-out rows")


def _train(
    session: Session, rows: Dataset, validation: Dataset | None, penalty: L2SPPenalty | None
) -> dict[str, float]:
    model, [part] = session.model, session.parts
    sets = [TrainingSet(model.encode_dataset(rows), model.logits)]
    return train(session, sets, validator(session, part.data.task, validation), penalty=penalty)
