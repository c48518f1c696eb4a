"""The training loop without privacy: epochs over shuffled rows, the best epoch kept, resumable at the exact step.

Rows of similar length share a minibatch, so that little is padded. The order of the rows and the dropout of a step
depend on the seed and the step alone, so a training that is interrupted and continued ends in the same weights. The
private loop is `client.dp.training`: it draws its batches at random, clips each gradient, and may not use private rows
to choose when to stop. The two loops share model, batches and loss.
"""

import io
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from client.finetune.training.plan import History, Minibatch, Training, TrainingSet
from client.finetune.training.schedule import compute_precision, device_kind, rate_factor
from client.finetune.training.time_budget import TRIAL_STEPS, TimePlan, plan_time
from common.adapters.optimizer import make_optimizer, parameter_groups
from common.errors import CheckpointError, ConfigurationError, DataError
from common.events import EpochEvent, Observer, StepEvent, tell_epoch, tell_step
from common.files import write_atomic
from common.protocol.adapter_codec import Tensors
from common.tokenization.batches import Batch, token_batches

__all__ = ["fit"]

_SAVE_EVERY_S = 60.0
_MAX_GRADIENT_NORM = 1.0


def fit(training: Training, state: Path, observers: Sequence[Observer] = ()) -> History:
    """Train the adapter that the model holds, in place, and leave the best epoch's weights in it.

    Args:
        training: The model, its training sets and its plan.
        state: File from which an interrupted training continues. The caller removes it when the job is done.
        observers: Called for every step and epoch.

    Raises:
        DataError: A training set holds no labelled rows.
        ConfigurationError: The loss is no number any more.
        TimeBudgetExceeded: Not even one step an epoch fits in the plan's hours.
        CheckpointError: `state` is of another job, or damaged.
    """
    if any(not len(part.tokens) or part.tokens.labels is None for part in training.parts):
        raise DataError("training data: it holds no labelled example: nothing can be trained")
    return _Fit(training, state, observers).run()


class _Fit:
    """The state of one call of `fit`. The same state is saved."""

    def __init__(self, training: Training, state: Path, observers: Sequence[Observer]) -> None:
        model, plan = training.model, training.plan
        self.model, self.parts, self.minibatches, self.plan = model, training.parts, training.minibatches, plan
        self.validate, self.penalty, self.state, self.observers = training.validate, training.penalty, state, observers
        self.parameters = list(model.trainable().values())
        groups = parameter_groups(model, plan.learning_rate, plan.head_learning_rate)
        self.optimizer = make_optimizer(plan.optimizer, groups, device=model.base.device)
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.steps_an_epoch = len(self.minibatches(np.random.default_rng([plan.seed, 0])))
        self.steps = self.steps_an_epoch * plan.epochs
        dtype, scaled = compute_precision(plan.precision, model.base.device)
        self.autocast = torch.autocast(device_kind(model.base.device), dtype) if dtype else nullcontext()
        self.scaler = torch.amp.GradScaler(device_kind(model.base.device), enabled=scaled)
        self.step = 0
        self.first = 0  # at which the epoch under way began
        self.seconds_before = 0.0
        self.epoch_loss = 0.0
        self.task_losses: dict[str, tuple[float, int]] = {}  # of the epoch under way: sum of the losses, and rows
        self.epochs: list[EpochEvent] = []
        self.best: Tensors | None = None
        self.time: TimePlan | None = None
        self.out_of_hours = False
        self.started = self.saved = time.monotonic()
        self.end = math.inf if plan.max_hours is None else self.started + 3600 * plan.max_hours

    def run(self) -> History:
        self._restore()
        for part in self.parts:
            part.cache.fill(self.model, part.tokens, self.plan.max_batch_tokens)
        with torch.random.fork_rng():
            try:
                self._plan_hours()
                while not self._finished():
                    self._epoch()
            finally:
                self.model.eval_mode()
                for parameter in self.parameters:
                    parameter.grad = None
        if self.best is not None:
            self.model.load(self.best)
        return History(
            epochs=tuple(self.epochs),
            best_epoch=self._best_epoch(),
            stopped_early=len(self.epochs) < self.plan.epochs,
            steps=self.step,
            seconds=self._seconds(),
            time=self.time,
            out_of_hours=self.out_of_hours,
        )

    def _plan_hours(self) -> None:
        """Time some steps, and shorten every epoch so that the training fits. A continued training keeps its plan."""
        epochs = self.plan.epochs - len(self.epochs)
        if self.plan.max_hours is None or epochs == 0:
            return
        if self.time is None:
            batches = self.minibatches(np.random.default_rng([self.plan.seed, 0]))
            seconds = [self._trial(minibatch) for minibatch in batches[:TRIAL_STEPS]]
            self.time = plan_time(seconds, epochs, len(batches), (self.end - time.monotonic()) / 3600)
        self.steps_an_epoch = self.time.steps
        self.steps = self.first + self.steps_an_epoch * epochs

    def _trial(self, minibatch: Minibatch) -> float:
        """Return the seconds of a step that changes nothing."""
        started = time.monotonic()
        self.model.train_mode()
        for part, batch in self._batches(minibatch):
            if batch.labels is not None:
                with self.autocast:
                    logits = part.logits(batch)
                total = part.loss(logits.float(), batch.labels).sum()
                torch.autograd.grad(total, self.parameters, allow_unused=True)
        return time.monotonic() - started

    def _batches(self, minibatch: Minibatch) -> Iterator[tuple[TrainingSet, Batch]]:
        """Yield the physical batches of a step."""
        for number, rows in minibatch:
            part = self.parts[number]
            for chosen in token_batches(part.tokens.lengths, rows, self.plan.max_batch_tokens):
                yield part, part.cache.batch(part.tokens, chosen, self.model.base.device)

    def _finished(self) -> bool:
        done = len(self.epochs)
        best = max((event.metrics[self.plan.metric] for event in self.epochs), default=0.0) if self.validate else 0.0
        # A metric that is still 0 has not stopped rising: rare labels take some epochs to be predicted at all.
        waited = done - self._best_epoch() if best > 0 else 0
        return done >= self.plan.epochs or waited >= self.plan.patience or self.out_of_hours

    def _best_epoch(self) -> int:
        return max((event.epoch for event in self.epochs if event.best), default=len(self.epochs))

    def _epoch(self) -> None:
        epoch = len(self.epochs)
        batches = self.minibatches(np.random.default_rng([self.plan.seed, epoch]))
        for minibatch in batches[self.step - self.first : self.steps_an_epoch]:
            self._step(minibatch, epoch + 1)
            self.out_of_hours = time.monotonic() > self.end
            if self.out_of_hours:
                break
            if time.monotonic() - self.saved > _SAVE_EVERY_S:
                self._save()
        metrics = dict(self.validate()) if self.validate is not None else {}
        key = self.plan.metric
        best = not metrics or metrics[key] > max((e.metrics[key] for e in self.epochs), default=-math.inf)
        if metrics and best:
            self.best = self.model.export()
        event = EpochEvent(
            epoch=epoch + 1,
            epochs=self.plan.epochs,
            step=self.step,
            train_loss=self.epoch_loss / max(1, self.step - self.first),
            metrics=metrics,
            best=best,
            seconds=self._seconds(),
            metric=key if metrics else "",
            losses={name: total / rows for name, (total, rows) in self.task_losses.items()},
        )
        self.epochs.append(event)
        self.epoch_loss, self.first, self.task_losses = 0.0, self.step, {}
        self._save()
        tell_epoch(self.observers, event)

    def _step(self, minibatch: Minibatch, epoch: int) -> None:
        # Seeded at every step, so that a continued training has the dropout of an uninterrupted one.
        torch.manual_seed(self.plan.seed * 1_000_003 + self.step)
        self.model.train_mode()
        examples = sum(len(rows) for _, rows in minibatch)
        loss, tokens = 0.0, 0
        for part, batch in self._batches(minibatch):
            loss += self._backward(part, batch, examples)
            tokens += int(batch.attention_mask.sum())
        if self.penalty is not None:
            extra = self.penalty()
            self.scaler.scale(extra).backward()  # type: ignore[no-untyped-call]
            loss += float(extra.detach())
        if not math.isfinite(loss):
            raise ConfigurationError(
                f"learning_rate {self.plan.learning_rate:g}: the loss is no number at step {self.step + 1}: lower it"
            )
        factor = rate_factor(self.step, self.steps, self.plan.warmup, self.plan.schedule)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.parameters, _MAX_GRADIENT_NORM)
        before = [parameter.detach().clone() for parameter in self.parameters] if self.observers else []
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.epoch_loss += loss
        if self.observers:
            moved = torch.stack([(p.detach() - b).norm() for p, b in zip(self.parameters, before, strict=True)])
            tell_step(
                self.observers,
                StepEvent(
                    step=self.step,
                    steps=self.steps,
                    epoch=epoch,
                    loss=loss,
                    learning_rate=self.rates[0] * factor,
                    gradient_norm=float(norm),
                    update_norm=float(moved.norm()),
                    examples=examples,
                    tokens=tokens,
                    seconds=self._seconds(),
                ),
            )

    def _backward(self, part: TrainingSet, batch: Batch, examples: int) -> float:
        if batch.labels is None:
            raise DataError("training data: a batch without labels")
        with self.autocast:
            logits = part.logits(batch)
        total = part.loss(logits.float(), batch.labels).sum() / examples
        self.scaler.scale(total).backward()  # type: ignore[no-untyped-call]
        if part.name:
            before, rows = self.task_losses.get(part.name, (0.0, 0))
            self.task_losses[part.name] = (before + float(total.detach()) * examples, rows + len(logits))
        return float(total.detach())

    def _seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.started

    def _save(self) -> None:
        stream = io.BytesIO()
        content = {
            "identity": self.plan.identity,
            "weights": _to_torch(self.model.export()),
            "best": None if self.best is None else _to_torch(self.best),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "step": self.step,
            "first": self.first,
            "epoch_loss": self.epoch_loss,
            "task_losses": self.task_losses,
            "epochs": [asdict(event) for event in self.epochs],
            "seconds": self._seconds(),
            "time": None if self.time is None else asdict(self.time),
            "out_of_hours": self.out_of_hours,
        }
        torch.save(content, stream)
        write_atomic(self.state, stream.getvalue(), mode=0o600)
        self.saved = time.monotonic()

    def _restore(self) -> None:
        if not self.state.exists():
            return
        try:
            content: dict[str, Any] = torch.load(self.state, weights_only=True, map_location="cpu")
            identity = content["identity"]
        except Exception as error:  # a damaged file can raise almost any error
            raise CheckpointError(f"{self.state}: damaged: delete it to train from the start") from error
        if identity != self.plan.identity:
            raise CheckpointError(
                f"{self.state}: it is of another training (other settings or data): choose another output directory"
            )
        self.model.load(_to_numpy(content["weights"]))
        self.best = None if content["best"] is None else _to_numpy(content["best"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.scaler.load_state_dict(content["scaler"])
        self.step, self.first, self.epoch_loss = content["step"], content["first"], content["epoch_loss"]
        self.task_losses = content.get("task_losses", {})  # absent in a state of an earlier release
        self.epochs = [EpochEvent(**event) for event in content["epochs"]]
        self.seconds_before = content["seconds"]
        self.time = None if content["time"] is None else TimePlan(**content["time"])
        self.out_of_hours = content["out_of_hours"]


def _to_torch(tensors: Tensors) -> dict[str, Tensor]:
    return {name: torch.from_numpy(value) for name, value in tensors.items()}


def _to_numpy(tensors: Mapping[str, Tensor]) -> Tensors:
    return {name: value.numpy() for name, value in tensors.items()}
