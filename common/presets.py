"""The values that every training starts from, alone or in a federation: one table.

| value | without privacy | with privacy | reason |
|---|---|---|---|
| rank, alpha | the task's | the task's | a tag for each word needs more directions than a label for a text |
| dropout | the task's | 0 | a mask follows the place in the batch, so one record would change gradients of others |
| target modules | all-linear | all-linear | MiniLM on headlines: accuracy .64 with query and value, .82 with all |
| layers | all | last:2 | fewer parameters take less noise, and the frozen blocks below are computed once |
| trained factors | AB | B | with A frozen, noise enters one factor, and averages of institutions are exact |
| optimizer | adamw | sgd (soft prompt: adam) | privacy noise dominates Adam's second moment |
| max tokens | 256, tags 512, plain text 128 | the same | a tag that is cut off cannot be predicted |
| max batch tokens | 8192 | 4096 | gradients of single examples are kept in memory |

Some values have no entry. A federation names its learning rate, its steps and its clip in the run's file, where every
institution checks them. A training alone works out its learning rate, epochs and batch from the size of the model and
the number of rows (`client.finetune.options.defaults`).
"""

from dataclasses import dataclass
from typing import Literal

from common.tasks import Head, Task

__all__ = ["Preset", "preset"]

_MAX_TOKENS = {Head.TOKEN: 512, Head.MASKED: 128, Head.CAUSAL: 128}


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Starting values of a training that names none. `common.config.run` explains each value.

    Attributes:
        rank, alpha, dropout, target_modules, layers, trained_factors: Of LoRA.
        optimizer: Name of the optimiser.
        max_tokens: Tokens at which a text is cut.
        max_batch_tokens: Padded tokens that are computed at once. Bounds memory and changes no result.
    """

    rank: int
    alpha: float
    dropout: float
    target_modules: Literal["task", "all-linear"]
    layers: str
    trained_factors: Literal["AB", "B"]
    optimizer: Literal["sgd", "adamw", "adam"]
    max_tokens: int
    max_batch_tokens: int


def preset(task: Task, *, private: bool, prompt: bool = False) -> Preset:
    """Return the starting values of `task`, by the table of this module. `prompt` says that a soft prompt is trained.

    >>> from common.tasks import task
    >>> preset(task("risk_classification"), private=True).rank
    16
    """
    return Preset(
        rank=task.rank,
        alpha=task.alpha,
        dropout=0.0 if private else task.dropout,
        target_modules="all-linear",
        layers="last:2" if private else "all",
        trained_factors="B" if private else "AB",
        optimizer=("adam" if prompt else "sgd") if private else "adamw",
        max_tokens=_MAX_TOKENS.get(task.head, 256),
        max_batch_tokens=4096 if private else 8192,
    )
