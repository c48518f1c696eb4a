"""Train a decoder with QLoRA to follow an instruction, with TRL's SFTTrainer.

The Trainer has paged optimisers, accumulation, mixed precision and checkpoints. Its callbacks become the events of
`common.events`. The epoch with the lowest loss on the held-out rows is kept.
"""

import contextlib
import math
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import EarlyStoppingCallback, PrinterCallback, TrainerCallback
from transformers.trainer_utils import get_last_checkpoint

from client.finetune.training.plan import History, LoopPlan
from common.adapters.adapted_model import AdaptedModel
from common.adapters.optimizer import WEIGHT_DECAY
from common.base_models.transformers_logging import quiet
from common.errors import ConfigurationError, ModelError
from common.events import EpochEvent, Observer, StepEvent, tell_epoch, tell_step
from common.tokenization.batches import IGNORED, TokenizedSet

__all__ = ["instruct"]


def instruct(
    model: AdaptedModel,
    rows: TokenizedSet,
    held: TokenizedSet | None,
    plan: LoopPlan,
    batch_size: int,
    state: Path,
    observers: Sequence[Observer] = (),
) -> History:
    """Train the adapter that `model`, a decoder, holds, in place, and leave the best epoch's weights in it.

    Args:
        model: A decoder with its adapter.
        rows: Training rows, from `common.tokenization.summary_prompt.instruction_prompts`.
        held: Held-out rows, from the same function. None keeps the last epoch.
        plan: Length, learning rates and limits.
        batch_size: Rows of one optimiser step.
        state: Directory of checkpoints, one an epoch, from which an interrupted training continues.
        observers: Called for every step and epoch.

    Raises:
        ModelError: TRL is not installed.
        ConfigurationError: The loss is no number any more.
    """
    try:
        from trl import SFTConfig, SFTTrainer
    except ImportError:
        raise ModelError("instruction tuning: trl is not installed: pip install 'fedfin[qlora]'") from None
    fitting = max(1, min(batch_size, plan.max_batch_tokens // int(rows.lengths.max())))
    micro = max(size for size in range(1, fitting + 1) if batch_size % size == 0)
    on_gpu = model.base.device.startswith("cuda")
    with _quiet():
        arguments = SFTConfig(
            str(state),
            num_train_epochs=plan.epochs,
            per_device_train_batch_size=micro,
            per_device_eval_batch_size=micro,
            gradient_accumulation_steps=batch_size // micro,
            learning_rate=plan.learning_rate,
            weight_decay=WEIGHT_DECAY,
            optim=plan.optimizer if plan.optimizer.startswith("paged") else "adamw_torch",
            lr_scheduler_type=plan.schedule,
            warmup_steps=plan.warmup,
            train_sampling_strategy="group_by_length",
            eval_strategy="no" if held is None else "epoch",
            save_strategy="epoch",
            save_total_limit=1,
            load_best_model_at_end=held is not None,
            metric_for_best_model=None if held is None else "loss",
            logging_steps=1,
            # A loss that is no number must reach the watcher, which ends the training.
            logging_nan_inf_filter=False,
            bf16=on_gpu and torch.cuda.is_bf16_supported(),
            use_cpu=not on_gpu,
            dataloader_pin_memory=on_gpu,
            # TRL would switch it on for every training. `AdaptedModel.recompute` has done so if the job asks for it.
            gradient_checkpointing=False,
            max_length=None,
            dataset_kwargs={"skip_prepare_dataset": True},
            disable_tqdm=True,
            report_to="none",
            seed=plan.seed,
        )
        trainer = SFTTrainer(
            model.module,
            arguments,
            train_dataset=_dataset(rows),
            eval_dataset=None if held is None else _dataset(held),
            processing_class=model.base.tokenizer,
        )
        trainer.remove_callback(PrinterCallback)
        watcher = _Watcher(model, plan, rows, batch_size, observers)
        trainer.add_callback(watcher)
        if held is not None:
            trainer.add_callback(EarlyStoppingCallback(plan.patience))
        last = get_last_checkpoint(str(state)) if state.is_dir() else None
        try:
            trainer.train(resume_from_checkpoint=last)
        finally:
            model.eval_mode()
            for parameter in model.trainable().values():
                parameter.grad = None
    return watcher.history()


def _dataset(rows: TokenizedSet) -> Any:
    """Return the rows in the Trainer's format: each label beside its own token. The model's loss shifts them."""
    labels = [[IGNORED, *row[:-1].tolist()] for row in rows.labels or ()]
    from datasets import Dataset

    return Dataset.from_dict({"input_ids": [row.tolist() for row in rows.input_ids], "labels": labels})


class _Watcher(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """Turns the Trainer's callbacks into the events of `common.events`."""

    def __init__(
        self, model: AdaptedModel, plan: LoopPlan, rows: TokenizedSet, batch: int, observers: Sequence[Observer]
    ) -> None:
        self._parameters = list(model.trainable().values())
        self._plan, self._observers = plan, observers
        self._rows, self._batch = len(rows), batch
        self._steps_an_epoch = math.ceil(self._rows / batch)
        self._before: list[Tensor] = []
        self._moved, self._tokens, self._step = 0.0, 0.0, 0
        self._began = time.monotonic()
        self._epochs: list[EpochEvent] = []

    def on_train_begin(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        """Restore the epochs that an interrupted training had finished."""
        self._began = time.monotonic()
        for epoch in range(1, state.global_step // self._steps_an_epoch + 1):
            self._epochs.append(self._epoch_event(epoch, state, 0.0))

    def on_pre_optimizer_step(self, _args: Any, _state: Any, _control: Any, **_: Any) -> None:
        """Keep the weights before the step."""
        self._before = [parameter.detach().clone() for parameter in self._parameters]

    def on_optimizer_step(self, _args: Any, _state: Any, _control: Any, **_: Any) -> None:
        """Measure the size of the update."""
        moved = [(p.detach() - before).norm() for p, before in zip(self._parameters, self._before, strict=True)]
        self._moved, self._before = float(torch.stack(moved).norm()), []

    def on_log(self, _args: Any, state: Any, _control: Any, logs: Mapping[str, float], **_: Any) -> None:
        """Pass on the event of a step. Logs of the whole training and of evaluations are no events."""
        if "loss" not in logs or "learning_rate" not in logs:
            return
        step, loss, tokens = int(state.global_step), float(logs["loss"]), float(logs.get("num_tokens", 0.0))
        if not math.isfinite(loss):
            raise ConfigurationError(
                f"learning_rate {self._plan.learning_rate:g}: the loss is no number at step {step}: lower it"
            )
        place = (step - 1) % self._steps_an_epoch
        event = StepEvent(
            step=step,
            steps=int(state.max_steps),
            epoch=1 + (step - 1) // self._steps_an_epoch,
            loss=loss,
            learning_rate=float(logs["learning_rate"]),
            gradient_norm=float(logs["grad_norm"]) if "grad_norm" in logs else None,
            update_norm=self._moved,
            examples=min(self._batch, self._rows - place * self._batch),
            tokens=int(tokens - self._tokens),
            seconds=time.monotonic() - self._began,
        )
        self._tokens, self._step = tokens, step
        tell_step(self._observers, event)

    def on_epoch_end(self, args: Any, state: Any, _control: Any, **_: Any) -> None:
        """End an epoch without held-out rows."""
        if args.eval_strategy == "no":
            self._end_of_epoch(state)

    def on_evaluate(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        """End an epoch with held-out rows."""
        self._end_of_epoch(state)

    def history(self) -> History:
        """Return the course of the training."""
        best = max((event.epoch for event in self._epochs if event.best), default=len(self._epochs))
        return History(
            epochs=tuple(self._epochs),
            best_epoch=best,
            stopped_early=len(self._epochs) < self._plan.epochs,
            steps=self._step,
            seconds=time.monotonic() - self._began,
        )

    def _end_of_epoch(self, state: Any) -> None:
        event = self._epoch_event(len(self._epochs) + 1, state, time.monotonic() - self._began)
        self._epochs.append(event)
        tell_epoch(self._observers, event)

    def _epoch_event(self, epoch: int, state: Any, seconds: float) -> EpochEvent:
        """Return the event of an epoch from the Trainer's log, which its checkpoints keep."""
        last = epoch * self._steps_an_epoch
        steps = [e["loss"] for e in state.log_history if "loss" in e and 0 <= last - e["step"] < self._steps_an_epoch]
        held = [e["eval_loss"] for e in state.log_history if "eval_loss" in e and e["step"] == last]
        before = [event.metrics["loss"] for event in self._epochs if "loss" in event.metrics]
        return EpochEvent(
            epoch=epoch,
            epochs=self._plan.epochs,
            step=last,
            train_loss=float(np.mean(steps)) if steps else 0.0,
            metrics={"loss": float(held[-1])} if held else {},
            best=not held or float(held[-1]) < min(before, default=math.inf),
            seconds=seconds,
            metric="loss" if held else "",
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence warnings about intended settings: no paging on a CPU, and old attribute names inside TRL."""
    with quiet(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Paged optimizers are not supported on CPU")
        warnings.filterwarnings("ignore", category=FutureWarning)
        yield
