"""The federation's training loop: local steps on one institution's examples, private or not.

The privacy accountant and the learning rate know logical batches. Each is computed in physical batches, which bound
memory. With privacy these are blocks of fixed shape (`common.tokenization.blocks`), so that an example's gradient is a
function of that example, the adapter and the configuration alone.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from client.dp.clipped_sum import ClippedSum
from client.dp.gradient_check import verify_exactness, verify_model
from client.dp.mechanism import PrivateOptimizer
from client.dp.noise import NoiseSource, SystemNoise
from client.dp.pause import Draw, Pausing, to_end
from client.dp.plan import DpTrainingPlan, DpTrainingStats, SumRelease, optimizer_for
from client.dp.threads import one_thread
from client.dp.watcher import Watcher
from client.dp.workers import Workers, private_workers
from common.adapters.adapted_model import AdaptedModel
from common.adapters.feature_cache import FeatureCache
from common.adapters.losses import batch_losses, block_losses
from common.errors import ConfigurationError, DataError
from common.events import Observer
from common.tokenization.batches import TokenizedSet, minibatches, token_batches
from common.tokenization.blocks import Block

__all__ = [
    "Gradients",
    "accumulate_batch",
    "customers_at_once",
    "pausing_train",
    "train",
    "training_mode",
    "verify_training",
]

Rows = NDArray[np.int64]
Gradients = Callable[[Rows], Tensor]
_UNITS_AT_ONCE = 64  # of gradients that stand in for the model's
_OPEN_NUMBERS = 2**26  # of the customers' gradients that are added up at the same time: 256 MiB


def train(
    model: AdaptedModel,
    data: TokenizedSet,
    plan: DpTrainingPlan,
    noise: NoiseSource | None,
    cache: FeatureCache | None = None,
    observers: Sequence[Observer] = (),
    gradients: Gradients | None = None,
    release: SumRelease | None = None,
) -> DpTrainingStats:
    """Train the adapter that `model` holds, in place.

    Args:
        noise: the source of privacy's randomness; needed exactly if `plan.dp` is given.
        cache: kept by the caller to spare the frozen blocks in later rounds.
        observers: called after each step. The loss and the counts of an event are private.
        gradients: stands in for the model in audits: the gradients of given rows, (n, P) float32, each a unit.
        release: takes the noised sums of a private training. The adapter then stays as it is.

    Raises:
        DataError: there is no example, no label, or no customer where the customer is the unit.
        ConfigurationError: `noise` does not go with `plan.dp`.
        ModelError: see `verify_training`; nothing was changed.
    """
    return to_end(pausing_train(model, data, plan, noise, cache, observers, gradients, release))


def pausing_train(
    model: AdaptedModel,
    data: TokenizedSet,
    plan: DpTrainingPlan,
    noise: NoiseSource | None,
    cache: FeatureCache | None = None,
    observers: Sequence[Observer] = (),
    gradients: Gradients | None = None,
    release: SumRelease | None = None,
) -> Pausing[DpTrainingStats]:
    """Do as `train`, and pause after the draw of a private training of one step. See `client.dp.pause`."""
    started = time.monotonic()
    if (not len(data) and plan.dp is None) or data.labels is None:
        raise DataError("training data: it holds no labelled example: nothing can be trained")
    if (noise is None) != (plan.dp is None):
        raise ConfigurationError("training: privacy settings and a noise source come together or not at all")
    owners = _owners(data, plan)
    cache = cache or FeatureCache()
    if gradients is None:
        verify_training(model, plan)
    batches, given = _logical_batches(len(data), owners, plan, noise), None
    if plan.steps == 1 and plan.dp is not None and model.verified is not None and gradients is None:
        rows = next(batches)
        given = yield Draw(model, model.verified, data, rows, owners, plan, cache)
        batches = iter((rows,))
        started = started if given is None else time.monotonic() - given.seconds
    watcher = Watcher(model, data, plan, observers, started) if observers else None
    drawn: list[int] = []
    losses: list[float] = []
    clipped: list[float] = []
    with ExitStack() as stack:
        if given is None or plan.dp is None or noise is None:
            threads = 1 if plan.dp is None else stack.enter_context(one_thread())
            if gradients is None:
                cache.fill(model, data, plan.max_batch_tokens)
            stack.enter_context(training_mode(model, plan))
            stepper = _stepper(model, data, plan, noise, threads if gradients is None else 1, stack)
        else:
            stepper = Workers(model, PrivateOptimizer(optimizer_for(model, plan), plan.dp, noise))
        for step, rows in enumerate(batches, start=1):
            if not isinstance(stepper, Workers):
                total = _plain_batch(model, data, rows, plan, stepper, cache)
            elif given is not None:
                stepper.private.absorb(given.clipped)
                total = given.loss
            elif gradients is None:
                total = accumulate_batch(data, rows, plan, stepper, cache)
            else:
                total = 0.0
                for start in range(0, len(rows), _UNITS_AT_ONCE):
                    stepper.private.add_units(gradients(rows[start : start + _UNITS_AT_ONCE]))
            if release is not None and isinstance(stepper, Workers):
                release.receive(stepper.private.take_noised_sum(release.largest).numpy())
            else:
                stepper.step()
            drawn.append(len(rows))
            losses.append(total / max(1, len(rows)))
            clipped.append(stepper.take_clip_fraction())
            if watcher is not None:
                watcher.tell(step, rows, losses[-1])
    return DpTrainingStats(plan.steps, tuple(drawn), tuple(losses), tuple(clipped), time.monotonic() - started)


def verify_training(model: AdaptedModel, plan: DpTrainingPlan) -> None:
    """Verify that `model` can be trained privately at the adapter that it holds. Reads no row and changes nothing.

    `train` does this first. A caller that charges for the training calls it before it does. A verified model is not
    verified again at the same adapter, whoever trains it: the institutions of a simulation share one model.

    Raises:
        ModelError: a trainable parameter cannot be trained privately, or an example's gradient depends on others.
    """
    if plan.dp is None:
        return
    adapter = hashlib.sha256(b"".join(value.tobytes() for _, value in sorted(model.export().items()))).hexdigest()
    training = f"{plan.max_batch_tokens} tokens, {torch.get_num_threads()} threads"
    if model.verified == (training, adapter):
        return
    is_known = model.verified is not None and model.verified[0] == training
    settings = replace(plan.dp, unit="record")
    # The optimiser takes no step, so its noise is never drawn.
    with (
        one_thread() as threads,
        training_mode(model, plan),
        private_workers(model, optimizer_for(model, plan), settings, SystemNoise(), threads) as workers,
    ):
        if not is_known:
            verify_model(model)
        verify_exactness(model, workers, plan.max_batch_tokens, thorough=not is_known)
    model.verified = training, adapter


def accumulate_batch(
    data: TokenizedSet, rows: Rows, plan: DpTrainingPlan, workers: Workers, cache: FeatureCache
) -> float:
    """Add the clipped gradients of the units of one logical batch to the sum of `workers.private`.

    Call inside `private_workers`, after `cache.fill`.

    Returns:
        The sum of the examples' losses, which is private.
    """
    owners, total = _owners(data, plan), 0.0

    def add(model: AdaptedModel, clipped: ClippedSum, block: Block) -> float:
        losses = block_losses(model, cache.block_batch(data, block, model.base.device))
        whose = None if owners is None else torch.from_numpy(owners[block.rows])
        clipped.accumulate(losses, len(block.rows), whose)
        return float(losses.detach()[: len(block.rows)].sum())

    for group in customers_at_once(rows, owners, workers.private.size):
        total += sum(workers.share(cache.blocks(data, group, plan.max_batch_tokens), add))
        workers.private.close_units()
    return total


def customers_at_once(rows: Rows, owners: Rows | None, size: int) -> Iterator[Rows]:
    """Divide rows so that memory has room for the gradients of the customers of each part.

    Args:
        rows: (n,) indices of examples.
        owners: (N,) the customer of each example. None yields all rows as they are.
        size: Numbers of a gradient.
    """
    if owners is None:
        yield rows
        return
    customers = np.unique(owners[rows])
    most = max(1, _OPEN_NUMBERS // size)
    for start in range(0, len(customers), most):
        yield rows[np.isin(owners[rows], customers[start : start + most])]


def _plain_batch(
    model: AdaptedModel,
    data: TokenizedSet,
    rows: Rows,
    plan: DpTrainingPlan,
    stepper: "_PlainStepper",
    cache: FeatureCache,
) -> float:
    total = 0.0
    for part in token_batches(data.lengths, rows, plan.max_batch_tokens):
        losses = batch_losses(model, cache.batch(data, part, model.base.device))
        stepper.accumulate(losses)
        total += float(losses.detach().sum())
    return total


def _owners(data: TokenizedSet, plan: DpTrainingPlan) -> Rows | None:
    """(N,) the customer of each example, counted from 0 without gaps, if the customer is the unit. None otherwise."""
    if plan.dp is None or plan.dp.unit == "record" or not len(data):
        return None
    if data.owners is None:
        raise DataError("training data: its rows carry no customer, and the customer is the unit: name customer_column")
    return np.unique(data.owners, return_inverse=True)[1]


class _PlainStepper:
    """Without privacy: the mean over the minibatch."""

    def __init__(self, optimizer: torch.optim.Optimizer, batch_size: int) -> None:
        self._optimizer, self._batch_size = optimizer, batch_size

    def accumulate(self, losses: Tensor) -> None:
        (losses.sum() / self._batch_size).backward()  # type: ignore[no-untyped-call]

    def step(self) -> None:
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    def take_clip_fraction(self) -> float:
        return 0.0


def _stepper(
    model: AdaptedModel,
    data: TokenizedSet,
    plan: DpTrainingPlan,
    noise: NoiseSource | None,
    threads: int,
    stack: ExitStack,
) -> "Workers | _PlainStepper":
    optimizer = optimizer_for(model, plan)
    if plan.dp is None or noise is None:
        return _PlainStepper(optimizer, _minibatch_size(len(data), plan))
    return stack.enter_context(private_workers(model, optimizer, plan.dp, noise, threads))


def _minibatch_size(examples: int, plan: DpTrainingPlan) -> int:
    return max(1, round(plan.sampling_probability * examples))


def _logical_batches(
    examples: int, owners: Rows | None, plan: DpTrainingPlan, noise: NoiseSource | None
) -> Iterator[Rows]:
    """Rows of each step: with privacy, a coin for each unit (maybe none); without, minibatches that go through all."""
    if noise is not None:
        for _ in range(plan.steps):
            if owners is None:
                yield np.flatnonzero(noise.uniform_mask(examples, plan.sampling_probability))
            else:
                yield np.flatnonzero(noise.uniform_mask(int(owners.max()) + 1, plan.sampling_probability)[owners])
        return
    yield from minibatches(examples, _minibatch_size(examples, plan), plan.steps, plan.seed)


@contextmanager
def _deterministic() -> Iterator[None]:
    """Let the GPU's libraries use deterministic algorithms alone inside."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


@contextmanager
def training_mode(model: AdaptedModel, plan: DpTrainingPlan) -> Iterator[None]:
    """Put `model` into training mode inside, with dropout from the plan's seed, and back into evaluation mode after.

    No dropout under privacy: the numbers that an example loses would depend on the rest of its batch, and the seed is
    the hub's, so that one record more or less would move the gradients of all others.
    """
    exact = plan.dp is not None and model.base.device.startswith("cuda")
    with torch.random.fork_rng(), _deterministic() if exact else nullcontext():
        torch.manual_seed(plan.seed)
        model.train_mode(dropout=plan.dp is None)
        try:
            yield
        finally:
            model.eval_mode()
            for parameter in model.trainable().values():
                parameter.grad = None
