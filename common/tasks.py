"""The financial tasks as data: the output of each, and the LoRA values that its preset starts from.

Target modules are roles ("query", "value", ...), not module names: `common.adapters.target_modules` translates them to
the base model's own. `common.presets` turns these values into the starting point of a training.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from common.errors import ConfigurationError

__all__ = ["MULTI_TASK", "TASKS", "Head", "Task", "as_task", "task", "tasks_of"]

MULTI_TASK = "multi_task"


class Head(StrEnum):
    """The kind of output that a task needs from a model. Other modules ask for the properties, not for the member.

    The value stands in configuration files, model cards and `load_classifier`. `common.adapters.task_heads` holds the
    torch side: inputs, outputs and losses of each kind.
    """

    SEQUENCE = "sequence"
    TOKEN = "token"  # noqa: S105 - a word, not a secret
    SUMMARY = "summary"
    INSTRUCTION = "instruction"
    MASKED = "masked"
    CAUSAL = "causal"

    @property
    def labels_texts(self) -> bool:
        """One label for a text."""
        return self is Head.SEQUENCE

    @property
    def labels_words(self) -> bool:
        """One label for each word of a text."""
        return self is Head.TOKEN

    @property
    def writes_text(self) -> bool:
        """A new text for each text: a summary, or the response to a prompt."""
        return self in (Head.SUMMARY, Head.INSTRUCTION)

    @property
    def is_language_modelling(self) -> bool:
        """The text's own tokens, masked or next. Such a task trains on plain text without labels."""
        return self in (Head.MASKED, Head.CAUSAL)

    @property
    def is_linear(self) -> bool:
        """A linear layer with one output for each label, on features of the encoder."""
        return self in (Head.SEQUENCE, Head.TOKEN)

    @property
    def generates(self) -> bool:
        """A score for each entry of the vocabulary at every token, from the base model's own generating head."""
        return self.writes_text or self is Head.CAUSAL

    @property
    def columns(self) -> tuple[str, str]:
        """The usual names of the text column and the target column in data sets of such tasks."""
        own = {
            Head.TOKEN: ("tokens", "ner_tags"),
            Head.SUMMARY: ("text", "summary"),
            Head.INSTRUCTION: ("prompt", "completion"),
        }
        return own.get(self, ("text", "label"))


@dataclass(frozen=True)
class Task:
    """A task and the values of its preset.

    labels: in the order of the model's outputs. Empty: the labels are those in the data.
    rank, alpha, dropout: of LoRA. Dropout applies without differential privacy only.
    target_modules: the roles that `target_modules = "task"` adapts.
    metric: the figure of `common.evaluation.metrics` that matters most.
    high_risk: indices of the labels whose misses cost most.
    """

    name: str
    head: Head
    labels: tuple[str, ...]
    rank: int
    alpha: int
    target_modules: tuple[str, ...]
    dropout: float
    metric: str
    high_risk: tuple[int, ...] = ()


_ALL = (
    Task(
        name="sentiment_analysis",
        head=Head.SEQUENCE,
        labels=("negative", "neutral", "positive"),
        rank=8,
        alpha=16,
        target_modules=("query", "value"),
        dropout=0.05,
        metric="weighted_f1",
    ),
    Task(
        name="risk_classification",
        head=Head.SEQUENCE,
        labels=("very_low", "low", "medium", "high", "very_high"),
        rank=16,
        alpha=32,
        target_modules=("query", "value", "key", "dense"),
        dropout=0.1,
        metric="high_risk_macro_f1",
        high_risk=(2, 3, 4),
    ),
    Task(
        name="financial_ner",
        head=Head.TOKEN,
        labels=(),
        rank=32,
        alpha=64,
        target_modules=("query", "value", "key", "dense"),
        dropout=0.1,
        metric="entity_f1",
    ),
    Task(
        name="document_classification",
        head=Head.SEQUENCE,
        labels=(),
        rank=12,
        alpha=24,
        target_modules=("query", "key", "value"),
        dropout=0.08,
        metric="weighted_f1",
    ),
    Task(
        name="document_summarization",
        head=Head.SUMMARY,
        labels=(),
        rank=16,
        alpha=32,
        target_modules=("query", "key", "value", "out"),
        dropout=0.1,
        metric="rouge_l",
    ),
    # Prompts and responses of any kind. The epoch is chosen by the loss on the responses, because to write the
    # responses of all held-out rows after every epoch would take longer than to train.
    Task(
        name="instruction_tuning",
        head=Head.INSTRUCTION,
        labels=(),
        rank=16,
        alpha=32,
        target_modules=("query", "key", "value", "out"),
        dropout=0.05,
        metric="log_likelihood",
    ),
    # Continual pretraining on unlabelled text. Dropout stays off, so that the same masks give the same loss.
    Task(
        name="masked_language_modelling",
        head=Head.MASKED,
        labels=(),
        rank=16,
        alpha=32,
        target_modules=("query", "value", "key", "dense"),
        dropout=0.0,
        metric="log_likelihood",
    ),
    # The same for a decoder, by its own names of the roles.
    Task(
        name="causal_language_modelling",
        head=Head.CAUSAL,
        labels=(),
        rank=16,
        alpha=32,
        target_modules=("query", "key", "value", "out"),
        dropout=0.0,
        metric="log_likelihood",
    ),
    # Several tasks that label texts, in a federation: a label is "task/label", and each row is of one of the tasks.
    # (Alone it is a strategy, for tasks that label words too: `client.finetune.strategies.multi_task`.)
    Task(
        name=MULTI_TASK,
        head=Head.SEQUENCE,
        labels=(),
        rank=16,
        alpha=32,
        target_modules=("query", "value", "key", "dense"),
        dropout=0.1,
        metric="weighted_f1",
    ),
)

TASKS: Mapping[str, Task] = MappingProxyType({each.name: each for each in _ALL})


def task(name: str, place: str = "task.name") -> Task:
    """The task called `name`. `place` says in messages where the name stands.

    Raises:
        ConfigurationError: there is none. The message lists the known ones.
    """
    if name in TASKS:
        return TASKS[name]
    near = difflib.get_close_matches(name, TASKS, n=1)
    hint = f'did you mean "{near[0]}"? ' if near else ""
    raise ConfigurationError(f'{place} is "{name[:40]}": {hint}use one of {", ".join(TASKS)}')


def as_task(wanted: Task | str) -> Task:
    """Return `wanted` itself, or the task of that name.

    Raises:
        ConfigurationError: There is no such task. The message lists the tasks.
    """
    return wanted if isinstance(wanted, Task) else task(str(wanted))


def tasks_of(labels: Sequence[str]) -> tuple[str, ...]:
    """The task of each label of `multi_task`.

    Raises:
        ConfigurationError: a label is not "task/label", or a task has one label alone or does not label texts.
    """
    names = tuple(label.partition("/")[0] for label in labels)
    for name, label in zip(names, labels, strict=True):
        if "/" not in label or name == MULTI_TASK or name not in TASKS or not TASKS[name].head.labels_texts:
            raise ConfigurationError(
                f'task.labels holds "{label[:60]}": write task/label, with a task that labels texts'
            )
        if names.count(name) < 2:
            raise ConfigurationError(f'task.labels holds one label of {name}, "{label[:60]}": a task needs two or more')
    return names
