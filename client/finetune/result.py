"""The result of one fine-tuning, as typed values that are also written as `result.json`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from common.errors import ConfigurationError
from common.evaluation.task_metrics import Metrics

__all__ = ["FineTuningResult", "PrivacyGuarantee", "TrainingSummary"]


@dataclass(frozen=True, kw_only=True)
class PrivacyGuarantee:
    """The differential privacy of one training, for one unit added or removed.

    Attributes:
        epsilon, delta: Privacy loss of this training alone.
        noise_multiplier: Standard deviation of the noise over `clipping_norm`.
        clipping_norm: L2 norm to which each row's gradient is cut.
        sampling_probability: Probability of each row to be in a step's batch, independently of all other rows.
        steps: Number of noised steps.
        unit: The protected unit, a "record".
        adjacency: The neighbouring data sets: "add-or-remove-one".
        accountant: How epsilon was computed.
        ledger_epsilon: Privacy loss of everything in the ledger together, at `delta`.
        unprotected_before: Whether the training began from weights that private rows shaped without privacy.
        does_not_cover: Limits of the guarantee, one sentence each.
    """

    epsilon: float
    delta: float
    noise_multiplier: float
    clipping_norm: float
    sampling_probability: float
    steps: int
    unit: str
    adjacency: str
    accountant: str
    ledger_epsilon: float
    unprotected_before: bool
    does_not_cover: tuple[str, ...]

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """Read the result of `to_json`. Raises TypeError or KeyError for anything else."""
        return cls(**{**record, "does_not_cover": tuple(record["does_not_cover"])})

    def to_json(self) -> dict[str, Any]:
        """Return the guarantee as one JSON object."""
        return asdict(self) | {"does_not_cover": list(self.does_not_cover)}


@dataclass(frozen=True, kw_only=True)
class TrainingSummary:
    """How the training went. Its values come from the institution's rows without noise, so they must stay inside.

    Attributes:
        loss: Mean loss a row in the kept epoch, or in the last tenth of a private training's steps.
        steps: Number of steps that were taken.
        seconds: Seconds that they took.
        epochs, best_epoch: Number of epochs, and the one that was kept, counted from 1. None with privacy.
        validation: Metrics of the kept epoch on the held-out rows. None if no rows were held out.
    """

    loss: float
    steps: int
    seconds: float
    epochs: int | None
    best_epoch: int | None
    validation: Metrics | None


@dataclass(frozen=True, kw_only=True)
class FineTuningResult:
    """The result of one job.

    Attributes:
        adapter: Directory in PEFT's format, with a model card and `fedfin.json`. `fedfin.load_adapter` reads it.
        base_model: The base model of the adapter, or the new one that continual pretraining made.
        settings: Every setting as it was used, with the defaults filled in.
        train_metrics: The record that `training` is read from.
        measured: Everything that the strategy measured, as written to `result.json`.
        trainable_parameters, total_parameters: Numbers that are trained, and all numbers of the model.
        parameter_efficiency: `trainable_parameters` over `total_parameters`.
        peak_memory_bytes: Of the process, or of its GPU memory.
        privacy: None if the rows are not protected.
        encoder: What the encoder still knows, compared with its base model: `similarity` of the vectors of general
            sentences, and `probes`. Empty if it was not measured.
        warnings: What a reader of the metrics must know, one sentence each.
        report: The page about the course of the training. None if nothing was observed.
        recommendations: For the next training, the most urgent first, see `client.tracking.recommendations`.
    """

    adapter: Path
    base_model: str
    strategy: str
    tasks: tuple[str, ...]
    method: str
    settings: Mapping[str, Any]
    train_metrics: Mapping[str, float]
    measured: Mapping[str, Any]
    trainable_parameters: int
    total_parameters: int
    parameter_efficiency: float
    seconds: float
    peak_memory_bytes: int
    privacy: PrivacyGuarantee | None = None
    encoder: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    report: Path | None = None
    recommendations: tuple[Mapping[str, Any], ...] = ()

    @property
    def metrics(self) -> Metrics:
        """Metrics on the test rows of the result's one task.

        Raises:
            ConfigurationError: The result has several tasks. `metrics_by_task` has each of them.
        """
        if len(self.tasks) != 1:
            raise ConfigurationError(f"metrics: this result has {len(self.tasks)} tasks: use metrics_by_task")
        return self.metrics_by_task[self.tasks[0]]

    @property
    def metrics_by_task(self) -> dict[str, Metrics]:
        """Metrics on the test rows of each task, by its name."""
        if len(self.tasks) > 1:
            return {name: Metrics.from_json(self.measured[name]) for name in self.tasks}
        # An adapter that was continued is measured on new and on old rows.
        return {self.tasks[0]: Metrics.from_json(self.measured.get("new", self.measured))}

    @property
    def training(self) -> TrainingSummary:
        """How the training went."""
        record, start = self.train_metrics, "validation_"
        held_out = {name.removeprefix(start): value for name, value in record.items() if name.startswith(start)}
        validation = Metrics.from_json(held_out)
        epochs, best = record.get("epochs"), record.get("best_epoch")
        return TrainingSummary(
            loss=record["loss"],
            steps=int(record["steps"]),
            seconds=record["training_seconds"],
            epochs=None if epochs is None else int(epochs),
            best_epoch=None if best is None else int(best),
            validation=validation if validation.to_json() else None,
        )

    def predict(self, texts: Sequence[str]) -> list[str]:
        """Return the trained model's answer to each text. `fedfin.load_adapter` gives probabilities too."""
        from client.inference.predictor import Predictor  # loads torch

        return Predictor(self.adapter).predict(texts)

    def to_json(self) -> dict[str, Any]:
        """Return the result as one JSON object, the content of `result.json`."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        privacy = None if self.privacy is None else self.privacy.to_json()
        shown = {
            "adapter": str(self.adapter),
            "tasks": list(self.tasks),
            "privacy": privacy,
            "warnings": list(self.warnings),
            "report": None if self.report is None else str(self.report),
            "recommendations": [dict(each) for each in self.recommendations],
        }
        return {("metrics" if name == "measured" else name): value for name, value in (values | shown).items()}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """Read the result of `to_json`. Raises TypeError, KeyError or AttributeError for anything else."""
        values = {("measured" if name == "metrics" else name): value for name, value in record.items()}
        privacy = None if values["privacy"] is None else PrivacyGuarantee.from_json(values["privacy"])
        report = values.get("report")
        read = {
            "adapter": Path(values["adapter"]),
            "tasks": tuple(values["tasks"]),
            "privacy": privacy,
            "warnings": tuple(values.get("warnings", ())),  # absent in a result of an earlier release
            "report": None if report is None else Path(report),
            "recommendations": tuple(values.get("recommendations", ())),
        }
        return cls(**(values | read))
