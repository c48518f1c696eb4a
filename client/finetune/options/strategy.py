"""Suggest a way to train from the rows and the aims: one task, several, an earlier adapter, stages, or a federation.

Each way has a verdict and one reason with a figure. The thresholds are rules of thumb. Where the project measured a
way, the reason says so (`docs/results.md`).
"""

from dataclasses import dataclass
from typing import Any

from common.tasks import Task

__all__ = ["Aims", "Way", "advise_strategy"]

_FEW_ROWS = 5_000
"""Below it, rows of others are likely to help: one institution's own rows show each rare label too seldom."""
_TEXTS_A_ROW = 10
"""Unlabelled texts for each labelled row from which domain pretraining is worth a try."""
_SPLIT_WORDS = 1.5
"""Tokens a word from which a tokenizer reads the domain badly. MiniLM has 1.31 on annual reports, which is well."""


@dataclass(frozen=True)
class Aims:
    """What an institution has beside the rows of its task, and what it wants.

    Attributes:
        other_tasks: Tasks that it has labelled rows of, and wants answered too.
        previous: Whether it has an adapter of the same task, which new rows are to be added to.
        corpus_texts: Number of texts of the domain without labels. 0 if there are none.
        tokens_per_word: Of the base model's tokenizer on these texts. 0 if there are none.
        institutions: Institutions with rows of the same task, this one included.
        private: Whether the training must be differentially private.
    """

    other_tasks: tuple[str, ...] = ()
    previous: bool = False
    corpus_texts: int = 0
    tokens_per_word: float = 0.0
    institutions: int = 1
    private: bool = False


@dataclass(frozen=True)
class Way:
    """A way to train, whether it is advised, and why."""

    strategy: str
    advised: bool
    because: str

    def to_json(self) -> dict[str, Any]:
        """Return the way as one JSON object."""
        return {"strategy": self.strategy, "advised": self.advised, "because": self.because}


def advise_strategy(task: Task, rows: int, aims: Aims) -> tuple[Way, ...]:
    """Return every way with its verdict. The first one is the one to take, and the last one is always possible.

    Args:
        task: The task.
        rows: Number of its training rows.
        aims: What else there is.
    """
    ways = [_incremental(rows, aims), _federated(task, rows, aims), _multi_task(task, rows, aims), _stages(rows, aims)]
    alone = not any(way.advised for way in ways)
    other = "no other way is better" if alone else "it also works, and it is the baseline to compare with"
    ways.append(Way("single_task", alone, f"{rows:,} rows of one task: {other}"))
    return tuple(sorted(ways, key=lambda way: not way.advised))


def _incremental(rows: int, aims: Aims) -> Way:
    if not aims.previous:
        return Way("incremental", False, f"no earlier adapter was named (--previous) that {rows:,} rows could continue")
    return Way(
        "incremental",
        True,
        f"the earlier adapter has learned the task: {rows:,} new rows continue it, and forgetting is measured",
    )


def _federated(task: Task, rows: int, aims: Aims) -> Way:
    if aims.institutions < 2:
        return Way("federated", False, "1 institution: name others with rows of the task by --institutions")
    if task.head.writes_text:
        return Way("federated", False, f"{aims.institutions} institutions, but {task.name} is trained alone only")
    if rows >= 4 * _FEW_ROWS:
        return Way(
            "federated", False, f"{rows:,} rows of its own: the rows of {aims.institutions - 1} others add little"
        )
    spent = ", and with privacy each row of the others hides behind more noise" if aims.private else ""
    return Way(
        "federated",
        True,
        f"{aims.institutions} institutions with rows of the task, {rows:,} of them here{spent}: only adapters travel",
    )


def _multi_task(task: Task, rows: int, aims: Aims) -> Way:
    others = len(aims.other_tasks)
    if not others:
        return Way("multi_task", False, "1 task: name others that you have rows of by --other-task")
    if task.head.writes_text:
        return Way("multi_task", False, f"{task.name} shares no encoder with {others} other tasks")
    if aims.private:
        return Way("multi_task", False, f"{others + 1} tasks, but several tasks do not train with privacy alone")
    return Way(
        "multi_task",
        True,
        f"{others + 1} tasks: one encoder and one adapter serve all, and the {rows:,} rows of this one help others",
    )


def _stages(rows: int, aims: Aims) -> Way:
    texts, split = aims.corpus_texts, aims.tokens_per_word
    if not texts:
        return Way("stages", False, "0 texts of the domain were named (--corpus)")
    if aims.private:
        return Way("stages", False, f"{texts:,} texts, but stages train without privacy")
    if texts < _TEXTS_A_ROW * rows or split < _SPLIT_WORDS:
        return Way(
            "stages",
            False,
            f"{texts:,} texts for {rows:,} rows at {split:.2f} tokens a word: on annual reports (1.31 tokens a word) "
            "pretraining gained nothing, see docs/results.md",
        )
    return Way(
        "stages",
        True,
        f"{texts:,} texts for {rows:,} rows, and the tokenizer takes {split:.2f} tokens a word: new words and the "
        "domain's text are learned first",
    )
