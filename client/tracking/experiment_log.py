"""Log a training for TensorBoard, MLflow or Weights & Biases, with Hugging Face's callbacks. It is off by default.

Everything is written below the training's directory, and nothing is sent. To see a log on a server, copy it there
(`wandb sync`, `mlflow ui --backend-store-uri`).
"""

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import MLflowCallback, TensorBoardCallback, WandbCallback

from client.tracking.kinds import LogKind
from common.errors import ConfigurationError
from common.events import EpochEvent, Observer, StepEvent
from common.report.records import RoundRecord

__all__ = ["LOGS", "ExperimentLog"]

LOGS: Mapping[str, Any] = {"tensorboard": TensorBoardCallback, "mlflow": MLflowCallback, "wandb": WandbCallback}


class ExperimentLog(Observer):
    """An observer (see `common.events.Observer`) that passes each step and epoch to one of the callbacks.

    Names are those of a Trainer: loss, grad_norm, learning_rate, and eval_... for metrics on the held-out rows.
    """

    def __init__(self, kind: LogKind, out: Path) -> None:
        """Prepare the callback. Nothing is written yet.

        Args:
            kind: "tensorboard", "mlflow" or "wandb".
            out: Directory of the training.

        Raises:
            ConfigurationError: The package is not installed.
        """
        if importlib.util.find_spec(kind) is None:
            raise ConfigurationError(f"log_to {kind}: the package is not installed: pip install 'fedfin[{kind}]'")
        self._directory = out / kind
        os.environ.update(_environment(kind, self._directory))
        self._callback = LOGS[kind]()
        self._arguments: TrainingArguments | None = None
        self._state, self._control = TrainerState(), TrainerControl()

    def on_step(self, event: StepEvent) -> None:
        """Log the step."""
        logs = {
            "loss": event.loss,
            "learning_rate": event.learning_rate,
            "update_norm": event.update_norm,
            "epoch": float(event.epoch),
        }
        if event.gradient_norm is not None:
            logs["grad_norm"] = event.gradient_norm
        self._state.max_steps = event.steps
        self._log(event.step, logs)

    def on_epoch(self, event: EpochEvent) -> None:
        """Log the metrics of the epoch on the held-out rows."""
        figures = {f"eval_{name}": value for name, value in event.metrics.items()}
        self._log(event.step, {**figures, "epoch": float(event.epoch)})

    def on_round(self, record: RoundRecord) -> None:
        """Log the metrics of a federation's round on the hub's test set."""
        figures = {f"eval_{name}": value for name, value in (record.metrics or {}).items()}
        epsilon = {f"epsilon_{name}": value for name, value in record.epsilon.items()}
        self._log(record.round, {**figures, **epsilon, "seconds": record.seconds, "bytes_up": float(record.bytes_up)})

    def close(self) -> None:
        """Write the entries that the callback still buffers."""
        if self._arguments is not None:
            self._callback.on_train_end(self._arguments, self._state, self._control)

    def _log(self, step: int, logs: dict[str, float]) -> None:
        self._state.global_step = step
        if self._arguments is None:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._arguments = TrainingArguments(
                output_dir=str(self._directory), run_name=self._directory.parent.name, report_to="none", use_cpu=True
            )
            self._callback.on_train_begin(self._arguments, self._state, self._control, model=None)
        self._callback.on_log(self._arguments, self._state, self._control, logs=logs)


def _environment(kind: LogKind, directory: Path) -> dict[str, str]:
    """Return the environment variables with which the callback writes to `directory` alone."""
    place = str(directory.absolute())
    match kind:
        case "tensorboard":
            return {"TENSORBOARD_LOGGING_DIR": place}
        case "mlflow":
            return {
                "MLFLOW_TRACKING_URI": f"sqlite:///{place}/mlflow.db",
                "MLFLOW_EXPERIMENT_NAME": "fedfin",
                "MLFLOW_DISABLE_TELEMETRY": "true",
            }
        case "wandb":
            return {
                "WANDB_MODE": "offline",
                "WANDB_DIR": place,
                "WANDB_PROJECT": "fedfin",
                "WANDB_SILENT": "true",
                "WANDB_DISABLE_CODE": "true",
                "WANDB__DISABLE_STATS": "true",
            }
