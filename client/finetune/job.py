"""A fine-tuning job: the value that every strategy takes. `client.finetune.result` has the value that they return."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, get_type_hints

from client.tracking.kinds import LogKind
from common.config.adapter import PROMPT_METHODS, Method
from common.config.sections import Range, Section, check_value
from common.data.datasets import Dataset
from common.errors import ConfigurationError, DataError
from common.events import Observer
from common.tasks import Head, Task, as_task, task

__all__ = ["AdapterOptions", "FineTuningJob", "Previous", "PrivacyOptions", "TaskData", "TrainingOptions"]

_LIMITS = ("max_hours", "max_memory_gb")
Strategy = Literal[
    "single_task", "incremental", "multi_task", "continual_pretraining", "distillation", "domain_adversarial"
]


class _Choice(Section):
    """Options of a command line or of a caller. Error messages name the option alone, without a section."""

    section = ""

    @classmethod
    def place(cls, key: str) -> str:
        return key


@dataclass(frozen=True, kw_only=True)
class AdapterOptions(_Choice):
    """How the base model is adapted. None takes the default of `client.finetune.options.defaults`.

    Attributes:
        method: "lora", "qlora" (LoRA on weights of four bits), "prefix_tuning" or "p_tuning".
        rank, alpha, dropout: Of lora and qlora.
        target_modules: Of lora and qlora: "all-linear", "task" (the task's roles), or names of roles.
        layers: Of lora and qlora: "all", "last:K" (the last K blocks), or "none" (the head alone).
        preset: Of lora and qlora: the task whose preset gives the values that are left open. None takes the job's own.
        virtual_tokens: Of prefix_tuning and p_tuning.
        prompt_text: Of p_tuning: words whose embeddings the virtual tokens start from.

    Raises:
        ConfigurationError: A value is out of range, or is not one of the method.
    """

    method: Method = "lora"
    rank: Annotated[int | None, Range(1, 1024)] = None
    alpha: Annotated[float | None, Range(0, above=True)] = None
    dropout: Annotated[float | None, Range(0, 1, below=True)] = None
    target_modules: Literal["task", "all-linear"] | tuple[str, ...] | None = None
    layers: str | None = None
    preset: str | None = None
    virtual_tokens: Annotated[int | None, Range(1, 512)] = None
    prompt_text: str | None = None

    def check(self) -> None:
        prompt = self.method in PROMPT_METHODS
        lora = ("rank", "alpha", "dropout", "target_modules", "layers", "preset")
        foreign = lora if prompt else ("virtual_tokens", "prompt_text")
        for key in foreign:
            if getattr(self, key) is not None:
                other = "lora or qlora" if prompt else "prefix_tuning or p_tuning"
                self.refuse(key, f"is given, but {self.method} has none: leave it out, or choose {other}")
        if self.method == "prefix_tuning" and self.prompt_text is not None:
            self.refuse("prompt_text", "is given, but prefix_tuning starts from no words: leave it out")
        if self.preset is not None:
            task(self.preset, "preset")


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(_Choice):
    """How long and how fast a model is trained. None takes the default for the task, the model and the number of rows.

    Attributes:
        epochs, batch_size: Passes over the rows, and rows of one optimiser step.
        learning_rate: Of the adapter. The head's follows from it.
        validation: Share of the training rows that is held out to choose the epoch by. If fewer than 50 rows would be
            held out, the last epoch is kept. Test rows never choose an epoch.
        patience: Epochs without improvement after which the training stops.
        max_batch_tokens: Padded tokens that are computed at once. Bounds memory and changes no result.
        precision: "auto" is bfloat16 (or float16) on a GPU and float32 on a CPU.
        gradient_checkpointing: Compute activations again for the backward pass. Needs less memory and more time.
    """

    epochs: Annotated[int | None, Range(1, 1000)] = None
    batch_size: Annotated[int | None, Range(1, 65536)] = None
    learning_rate: Annotated[float | None, Range(0, 100, above=True)] = None
    validation: Annotated[float, Range(0, 0.5)] = 0.1
    patience: Annotated[int, Range(1, 1000)] = 3
    max_batch_tokens: Annotated[int | None, Range(16, 2**40)] = None
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    gradient_checkpointing: bool = False


@dataclass(frozen=True, kw_only=True)
class PrivacyOptions(_Choice):
    """Differential privacy of one training row, added or removed.

    Attributes:
        level: "high" (noise 1.0, clip 1.0) or "standard" (noise 0.5, clip 2.0). Give a level or an epsilon.
        epsilon: Privacy loss of the whole training.
        delta: None takes the institution's delta, otherwise a power of ten below a tenth of 1 / rows.
    """

    level: Literal["high", "standard"] | None = None
    epsilon: Annotated[float | None, Range(0, above=True)] = None
    delta: Annotated[float | None, Range(0, 1, above=True, below=True)] = None

    @classmethod
    def place(cls, key: str) -> str:
        return f"privacy {key}"

    def check(self) -> None:
        if (self.level is None) == (self.epsilon is None):
            self.refuse("choice", 'needs one of a level ("high", "standard") and an epsilon (a number above 0)')


@dataclass(frozen=True, init=False)
class TaskData:
    """Rows of one task: those to train on, and those to measure on, which are never trained on.

    task: the task, or its name.

    Raises:
        ConfigurationError, DataError: There is no such task, or the rows are no data set.
    """

    task: Task
    train: Dataset
    test: Dataset

    def __init__(self, task: Task | str, train: Dataset, test: Dataset) -> None:
        for name, rows in (("train", train), ("test", test)):
            if not isinstance(rows, Dataset):
                raise DataError(f"{name} is a {type(rows).__name__}: give a Dataset, such as read_labelled returns")
        object.__setattr__(self, "task", as_task(task))
        object.__setattr__(self, "train", train)
        object.__setattr__(self, "test", test)


@dataclass(frozen=True)
class Previous:
    """The adapter that `incremental` continues.

    Attributes:
        adapter: Directory of the adapter.
        test: Rows of the earlier kind, to measure forgetting.
        train: Earlier training rows, some of which are replayed. None replays nothing.
    """

    adapter: Path
    test: Dataset
    train: Dataset | None = None


@dataclass(frozen=True, kw_only=True)
class FineTuningJob:
    """One fine-tuning. The same job with the same `out` continues an interrupted training.

    Attributes:
        data: One entry. `multi_task` takes two or more.
        out: Directory of the result.
        strategy: "single_task", "incremental" or "multi_task". Other strategies have jobs of their own.
        base_model: "minilm" (packaged), a directory, or a Hugging Face name.
        pooling: Representation of a text for the head: the "mean" of its tokens, or the model's own ("native").
        max_tokens: Tokens at which texts are cut. None takes the task's preset, and no more than the model reads.
        privacy: None trains without privacy.
        device: "auto", "cpu", "cuda" or "cuda:1".
        max_hours: Hours for the whole job. The steps that fit are planned before training, which ends in time.
        max_memory_gb: Memory of the process. A training that needs more is refused or stopped.
        institution: Directory of the institution whose limits hold and whose ledger is charged. None sets no limits,
            and a private training keeps a ledger in `out`.
        previous: Of `incremental` alone.
        probes: Labelled tasks on which a linear head on the encoder is measured, before and after the training.
        log_to: "tensorboard", "mlflow" or "wandb": also log each step for this tool, below `out`. Nothing is sent.
        observers: Called for every step and epoch. They change nothing, and are no part of the job's identity.

    Raises:
        ConfigurationError: A value is out of range, or two values exclude each other.
    """

    data: tuple[TaskData, ...]
    out: Path
    strategy: Strategy = "single_task"
    base_model: str = "minilm"
    pooling: Literal["mean", "native"] = "mean"
    max_tokens: int | None = None
    adapter: AdapterOptions = field(default_factory=AdapterOptions)
    training: TrainingOptions = field(default_factory=TrainingOptions)
    privacy: PrivacyOptions | None = None
    institution: Path | None = None
    previous: Previous | None = None
    seed: int = 0
    device: str = "auto"
    max_hours: float | None = None
    max_memory_gb: float | None = None
    probes: tuple[TaskData, ...] = field(default=(), compare=False, repr=False)
    log_to: LogKind | None = field(default=None, compare=False)
    observers: tuple[Observer, ...] = field(default=(), compare=False, repr=False)

    def __post_init__(self) -> None:
        self._check_types()
        names = [each.task.name for each in self.data]
        if self.strategy == "multi_task":
            if len(names) < 2 or len(set(names)) < len(names):
                raise ConfigurationError("multi_task: give two or more different tasks, each with its own files")
        elif len(names) != 1:
            raise ConfigurationError(f"{self.strategy}: give one task; several are trained by strategy multi_task")
        if self.institution is not None and self.strategy not in ("single_task", "incremental", "multi_task"):
            raise ConfigurationError(
                f"institution does not go with {self.strategy}, which charges no ledger: leave it out"
            )
        if self.privacy is not None and any(
            data.train.labels_from_rows and data.train.labels != data.task.labels
            for data in self.data
            if self.strategy != "multi_task"  # which refuses privacy altogether
        ):
            raise ConfigurationError(
                "with privacy the labels must be declared and not collected from the rows: give --labels FILE (in "
                "Python: `labels` of read_labelled), or name them in [data] labels of institution.toml"
            )
        if self.privacy is not None and self.training.gradient_checkpointing:
            raise ConfigurationError("gradient_checkpointing does not go with privacy: choose a smaller batch instead")
        if self.privacy is not None and self.adapter.dropout:
            raise ConfigurationError("dropout does not go with privacy: one row would move the others': leave it out")
        if (self.strategy == "incremental") != (self.previous is not None):
            raise ConfigurationError("incremental continues an earlier adapter, and only incremental does: give both")
        if self.max_tokens is not None and not 4 <= self.max_tokens <= 131_072:
            raise ConfigurationError(f"max_tokens is {self.max_tokens}: use a whole number from 4 to 131072")
        if self.max_hours is not None and not self.max_hours > 0:
            raise ConfigurationError(f"max_hours is {self.max_hours}: use a number above 0")
        if self.max_hours is not None and self.privacy is not None:
            raise ConfigurationError(
                "max_hours does not go with privacy, whose steps are charged beforehand: leave it out"
            )
        if self.max_hours is not None and self.adapter.method == "qlora" and self.data[0].task.head is Head.SUMMARY:
            raise ConfigurationError("max_hours does not go with qlora summaries, which TRL trains: leave it out")
        if self.max_memory_gb is not None and not self.max_memory_gb > 0:
            raise ConfigurationError(f"max_memory_gb is {self.max_memory_gb}: use a number above 0")

    @property
    def further_inputs(self) -> dict[str, Dataset | float]:
        """Everything that the result depends on beside rows, model and settings."""
        return {}

    def _check_types(self) -> None:
        """Refuse values of other types, and take one task without its tuple and a path given as text."""
        data = (self.data,) if isinstance(self.data, TaskData) else self.data
        if not isinstance(data, list | tuple) or not all(isinstance(each, TaskData) for each in data):
            raise ConfigurationError("data: give a tuple of TaskData")
        object.__setattr__(self, "data", tuple(data))
        if not all(isinstance(each, TaskData) and each.task.head.labels_texts for each in self.probes):
            raise ConfigurationError("probes: give a tuple of TaskData of tasks that label whole texts")
        hints = get_type_hints(type(self), include_extras=True)
        for key in (
            "out",
            "strategy",
            "base_model",
            "pooling",
            "max_tokens",
            "seed",
            "device",
            "institution",
            "log_to",
            *_LIMITS,
        ):
            object.__setattr__(self, key, check_value(getattr(self, key), hints[key], key))
        for key, kind in (("adapter", AdapterOptions), ("training", TrainingOptions), ("privacy", PrivacyOptions)):
            value = getattr(self, key)
            if not isinstance(value, kind) and not (key == "privacy" and value is None):
                raise ConfigurationError(f"{key} is a {type(value).__name__}: give {kind.__name__}")
