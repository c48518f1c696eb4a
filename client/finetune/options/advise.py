"""Suggest method, rank, learning rate, batch and text length from the rows, the base model and the machine.

Each choice has one reason with a figure. Nothing is trained and no weights are loaded.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from client.finetune.job import AdapterOptions, TrainingOptions
from client.finetune.options.defaults import BaseFacts, ResolvedSettings, fill_in
from client.finetune.options.memory import MemoryEstimate
from common.config.adapter import AdapterConfig, Method
from common.data.splits import FEWEST_HELD_OUT
from common.errors import ConfigurationError
from common.report.formatting import format_bytes
from common.tasks import Task

__all__ = ["Advice", "Choice", "Machine", "Model", "Rows", "advise"]

_FEW_ROWS = 500
_MANY_ROWS = 20_000
_LENGTHS_COVERED = 0.99
_RANKS = (32, 16, 8, 4)
"""Ranks that are tried if the usual one does not fit in any batch."""
_HEADROOM = 0.8
"""Share of the memory to plan with, because the need is an estimate and other programs use memory too."""


@dataclass(frozen=True)
class Rows:
    """Facts about the training rows.

    Attributes:
        count: Number of rows.
        lengths: Tokens of each row, or of each row of a sample, with special tokens.
        by_label: Number of rows of each label. If words are labelled, number of words. Empty for summaries.
    """

    count: int
    lengths: tuple[int, ...]
    by_label: tuple[int, ...]

    def length_of(self, share: float) -> int:
        """Return the length in tokens that a `share` of the rows do not exceed."""
        return int(np.quantile(self.lengths, share, method="higher")) if self.lengths else 0


@dataclass(frozen=True)
class Machine:
    """The machine: bytes of memory to use (of the GPU if there is one), and processor cores."""

    memory: int
    cores: int
    gpu: bool


@dataclass(frozen=True)
class Model:
    """A base model: its name, as `--base-model` takes it, and the facts that the settings follow from."""

    name: str
    facts: BaseFacts


@dataclass(frozen=True)
class Choice:
    """One option of `finetune`, its value (empty for a switch), and the reason."""

    option: str
    value: str
    because: str


@dataclass(frozen=True)
class Advice:
    """The choices, notes about the rows, and the memory that the choices are expected to need."""

    choices: tuple[Choice, ...]
    notes: tuple[str, ...]
    need: MemoryEstimate
    fits: bool

    def to_json(self) -> dict[str, Any]:
        """Return the advice as one JSON object, without the command."""
        return {
            "choices": {c.option.removeprefix("--"): {"value": c.value, "because": c.because} for c in self.choices},
            "notes": list(self.notes),
            "memory_bytes": self.need.total,
            "fits": self.fits,
        }


Needed = Callable[[ResolvedSettings], MemoryEstimate]
"""Function that estimates the memory of a training, such as `client.finetune.options.memory.estimate_memory`."""


def advise(task: Task, rows: Rows, model: Model, machine: Machine, needed: Needed) -> Advice:
    """Return the advice. If nothing that was tried fits, `Advice.fits` is False and the smallest need is given.

    Args:
        task: The task.
        rows: Facts about its training rows.
        model: The base model.
        machine: The machine that would train.
        needed: Estimates the memory of a training with some settings.
    """
    tokens = _tokens(rows, model)
    batch = _batch(rows)
    memory, fitted = _fit(task, rows, model, machine, needed, tokens, batch)
    settings, lora = fitted.settings, _lora(fitted.settings)
    choices = [
        Choice("--base-model", model.name, f"as asked for: {fitted.need.parameters / 1e6:.0f} million parameters"),
        Choice("--adapter", settings.adapter.method, memory),
        Choice("--rank", str(lora.rank), fitted.why_rank or _why_rank(task, rows, settings)),
        Choice("--alpha", f"{lora.alpha:g}", f"twice the rank of {lora.rank}: the size of an update stays"),
        Choice("--learning-rate", f"{settings.learning_rate:g}", _why_rate(model)),
        Choice("--batch-size", str(settings.batch_size), fitted.why_batch or _why_batch(rows)),
        Choice("--epochs", str(settings.epochs), _why_epochs(rows, settings)),
        Choice("--max-tokens", str(tokens), _why_tokens(rows, tokens, model)),
    ]
    if settings.gradient_checkpointing:
        choices.append(Choice("--gradient-checkpointing", "", "the batch would not fit otherwise"))
    return Advice(tuple(choices), _notes(task, rows, machine, fitted), fitted.need, fitted.fits)


@dataclass(frozen=True)
class _Fitted:
    settings: ResolvedSettings
    need: MemoryEstimate
    fits: bool
    why_batch: str = ""
    why_rank: str = ""


def _fit(
    task: Task, rows: Rows, model: Model, machine: Machine, needed: Needed, tokens: int, batch: int
) -> tuple[str, _Fitted]:
    """Return the first settings that fit: smaller batches, recomputed activations, smaller ranks, and then 4 bits."""
    room = int(_HEADROOM * machine.memory)
    tried: list[_Fitted] = []
    methods: tuple[Method, ...] = ("lora", "qlora")
    parts = [(batch, False), (max(4, batch // 2), False), (4, False), (4, True)]
    for method in methods:
        usual = _lora(_settings(task, rows, model, method, TrainingOptions(), tokens, None)).rank
        for rank in (usual, *(each for each in _RANKS if each < usual)):
            for part, checkpointing in parts:
                training = TrainingOptions(batch_size=part, gradient_checkpointing=checkpointing)
                settings = _settings(task, rows, model, method, training, tokens, rank)
                need = needed(settings)
                more = f"would need more memory than the {format_bytes(room)} to plan with"
                tried.append(
                    _Fitted(
                        settings,
                        need,
                        need.total <= room,
                        "" if part == batch else f"{batch} {more}",
                        "" if rank == usual else f"rank {usual} {more}: it trains {usual // rank} times the numbers",
                    )
                )
                if tried[-1].fits:
                    return _why_method(tried, room), tried[-1]
    smallest = min(tried, key=lambda each: each.need.total)
    return _why_method([*tried, smallest], room), smallest


def _why_method(tried: list[_Fitted], room: int) -> str:
    last, first = tried[-1], tried[0]
    if last.settings.adapter.method == "lora":
        return (
            f"it needs {format_bytes(last.need.total)} of the {format_bytes(room)} to plan with, and 4 bits "
            f"would be slower"
        )
    return (
        f"LoRA would need {format_bytes(first.need.total)}, {format_bytes(first.need.weights)} of it for the "
        f"base model; there are "
        f"{format_bytes(room)} to plan with, and in 4 bits it needs {format_bytes(last.need.total)}"
    )


def _settings(
    task: Task, rows: Rows, model: Model, method: Method, training: TrainingOptions, tokens: int, rank: int | None
) -> ResolvedSettings:
    if rank is None and rows.count < _FEW_ROWS and method == "lora":
        rank = 8
    options = AdapterOptions(method=method, rank=rank)
    return fill_in(options, training, (task,), model.facts, rows.count, max_tokens=tokens)


def _lora(settings: ResolvedSettings) -> AdapterConfig:
    if not isinstance(settings.adapter, AdapterConfig):
        raise ConfigurationError(f"{settings.adapter.method}: only lora and qlora can be advised: choose one of them")
    return settings.adapter


def _tokens(rows: Rows, model: Model) -> int:
    """Return a text length that covers nearly all rows: a multiple of 16, and no more than the model reads."""
    wanted = 16 * math.ceil(max(16, rows.length_of(_LENGTHS_COVERED)) / 16)
    return min(wanted, model.facts.max_tokens)


def _batch(rows: Rows) -> int:
    return 8 if rows.count < _FEW_ROWS else 32 if rows.count > _MANY_ROWS else 16


def _why_batch(rows: Rows) -> str:
    batch = _batch(rows)
    if rows.count < _FEW_ROWS:
        return f"{rows.count} rows: small batches, so that an epoch has {math.ceil(rows.count / batch)} steps"
    if rows.count > _MANY_ROWS:
        return f"{rows.count} rows: larger batches are computed faster, and steps enough remain"
    return f"{rows.count} rows: {math.ceil(rows.count / batch)} steps an epoch"


def _why_rank(task: Task, rows: Rows, settings: ResolvedSettings) -> str:
    if settings.adapter.method == "qlora":
        return "the rank of the QLoRA recipe: it makes up for the 4 bits"
    if rows.count < _FEW_ROWS:
        return f"{rows.count} rows only: a small adapter has less to overfit with"
    if task.head.labels_words:
        return f"each word carries one of {len(rows.by_label)} labels: tags need more directions than one label a text"
    labels = f", for {len(rows.by_label)} labels a text" if rows.by_label else ""
    return f"the preset of {task.name}{labels}"


def _why_rate(model: Model) -> str:
    if model.facts.hidden_size < 512:
        return f"hidden size {model.facts.hidden_size}: small models need larger steps than the usual 2e-4"
    return f"hidden size {model.facts.hidden_size}: the usual rate of LoRA"


def _why_epochs(rows: Rows, settings: ResolvedSettings) -> str:
    steps = math.ceil(rows.count / settings.batch_size)
    kept = "the last epoch is kept" if _too_few(rows) else "the best epoch is kept, so more cost only time"
    return f"{steps} steps an epoch, {steps * settings.epochs} in all; {kept}"


def _too_few(rows: Rows) -> bool:
    """Return whether too few rows could be held out to choose an epoch by."""
    return TrainingOptions().validation * rows.count < FEWEST_HELD_OUT


def _why_tokens(rows: Rows, tokens: int, model: Model) -> str:
    covered = sum(length <= tokens for length in rows.lengths) / max(1, len(rows.lengths))
    words = f"{covered:.0%} of the rows are no longer (median {rows.length_of(0.5)}, longest {max(rows.lengths)})"
    return words if tokens < model.facts.max_tokens or covered == 1 else f"the most that the model reads; {words}"


def _notes(task: Task, rows: Rows, machine: Machine, fitted: _Fitted) -> tuple[str, ...]:
    notes = []
    present = [count for count in rows.by_label if count]
    if task.head.labels_texts and present:
        ratio = max(present) / min(present)
        if ratio >= 5:
            notes.append(
                f"the commonest label has {ratio:.0f} times the rows of the rarest ({max(present)}, {min(present)}): "
                "look at macro F1; accuracy hides the rare ones"
            )
        if min(present) < 20:
            notes.append(f"the rarest label has {min(present)} rows: below 20 it will hardly be learned; add rows")
    if _too_few(rows):
        notes.append(f"{rows.count} rows: too few to hold some out and choose the epoch by; add rows if you can")
    if not fitted.fits:
        notes.append(
            f"nothing tried fits: at least {format_bytes(fitted.need.total)} are needed and "
            f"{format_bytes(machine.memory)} are there; "
            "choose a smaller base model"
        )
    if fitted.settings.adapter.method == "qlora" and not machine.gpu:
        notes.append("4 bits on a processor save memory and take more time: see docs/finetuning.md")
    return tuple(notes)
