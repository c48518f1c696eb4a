"""Physical batches of one private training, computed side by side.

Each worker is a thread with a copy of the model's structure over the same weights, and computes on one thread, as
`client.dp.threads` says. So an example's gradient has the same bits whatever worker computes it. Clipped gradients are
integers, so the sum has the same bits however the batches are shared out.
"""

import copy
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TypeVar

import torch
from torch import nn

from client.dp.clipped_sum import ClippedSum
from client.dp.mechanism import DpSettings, PrivateOptimizer, make_private
from client.dp.noise import NoiseSource
from client.dp.per_example import gradient_samples
from common.adapters.adapted_model import AdaptedModel

__all__ = ["Workers", "private_workers"]

Item = TypeVar("Item")
Result = TypeVar("Result")


class Workers:
    """The model and the sum of each worker. The first is the caller itself, with the model that is trained.

    Args:
        private: the sum of the first, which all others are added to.
        others: models over the same weights, each with its sum.
    """

    def __init__(
        self, model: AdaptedModel, private: PrivateOptimizer, others: Sequence[tuple[AdaptedModel, ClippedSum]] = ()
    ) -> None:
        self.private = private
        self._model = model
        self._others = tuple(others)
        self._threads = [ThreadPoolExecutor(1, "private", torch.set_num_threads, (1,)) for _ in others]

    def step(self) -> None:
        """Take the noisy step of one logical batch. See `PrivateOptimizer.step`."""
        self.private.step()

    def take_clip_fraction(self) -> float:
        """Return the share of shortened gradients. See `ClippedSum.take_clip_fraction`."""
        return self.private.take_clip_fraction()

    def close(self) -> None:
        """Wait for the threads, and end them."""
        for thread in self._threads:
            thread.shutdown()

    def share(self, items: Sequence[Item], work: Callable[[AdaptedModel, ClippedSum, Item], Result]) -> list[Result]:
        """Return the results of `work` for each of `items` in their order, and add all sums to that of the first.

        The first error of any worker is raised after all have stopped.
        """
        waiting, results = deque(enumerate(items)), dict[int, Result]()

        def take_turns(model: AdaptedModel, clipped: ClippedSum) -> None:
            try:
                while waiting:
                    try:
                        place, item = waiting.popleft()
                    except IndexError:  # another worker was faster
                        return
                    results[place] = work(model, clipped, item)
            except BaseException:
                waiting.clear()
                raise

        needed = list(zip(self._threads, self._others, strict=True))[: max(0, len(items) - 1)]
        running = [thread.submit(take_turns, model, clipped) for thread, (model, clipped) in needed]
        try:
            take_turns(self._model, self.private)
        finally:
            errors = [error for future in running if (error := future.exception()) is not None]
        if errors:
            raise errors[0]
        for _, clipped in self._others:
            self.private.absorb(clipped)
        return [results[place] for place in range(len(items))]

    def last(self, work: Callable[[AdaptedModel, ClippedSum], Result]) -> Result:
        """Return the result of `work` in the last worker's thread."""
        if not self._others:
            return work(self._model, self.private)
        return self._threads[-1].submit(work, *self._others[-1]).result()


@contextmanager
def private_workers(
    model: AdaptedModel, optimizer: torch.optim.Optimizer, settings: DpSettings, noise: NoiseSource, count: int
) -> Iterator[Workers]:
    """Do as `client.dp.mechanism.make_private`, with `count` workers. Call it in training mode.

    A customer's gradients are added up in floating point, one after another, so customers have one worker. A device
    other than the CPU computes side by side by itself.
    """
    if settings.unit == "customer" or model.base.device != "cpu":
        count = 1
    with ExitStack() as stack:
        copies = [_over_the_same_weights(model) for _ in range(count - 1)]
        private = stack.enter_context(make_private(model.module, optimizer, settings, noise))
        names = {id(parameter): name for name, parameter in model.module.named_parameters()}
        others = []
        for other in copies:
            stack.enter_context(gradient_samples(other.module))
            own = dict(other.module.named_parameters())
            params = [own[names[id(parameter)]] for parameter in private.params]
            others.append((other, ClippedSum(params, settings.clipping_norm, settings.unit)))
        workers = Workers(model, private, others)
        stack.callback(workers.close)
        yield workers


def _over_the_same_weights(model: AdaptedModel) -> AdaptedModel:
    """A copy of `model` with modules of its own. All its numbers stand in the memory of the original's."""
    shared = [*model.module.parameters(), *model.module.buffers(), model.base.tokenizer]
    memo = {id(part): part for part in shared}
    for parameter in model.trainable().values():
        memo[id(parameter)] = nn.Parameter(parameter.detach())  # with a gradient of its own
    return copy.deepcopy(model, memo)
