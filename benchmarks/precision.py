"""Training steps of MiniLM in float32 and in bfloat16 on this processor: milliseconds a step, by batch size.

`python -m benchmarks.precision [--steps N]` alternates the two, so that other work on the machine meets both alike, and
takes the median. All six blocks carry LoRA of rank 16, and texts have 64 random tokens.
"""

import argparse
import statistics
import time

import numpy as np
import torch

from common.adapters.adapted_model import AdaptedModel, adapt
from common.adapters.losses import batch_losses
from common.base_models.load import load_base
from common.config.adapter import AdapterConfig
from common.config.training import ModelConfig
from common.tasks import task
from common.tokenization.batches import Batch

__all__ = ["main", "step_seconds"]

_TOKENS = 64
_BATCHES = (4, 16, 64)


def step_seconds(model: AdaptedModel, batch: Batch, bfloat16: bool) -> float:
    """Return the seconds of one forward and one backward pass."""
    started = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        losses = batch_losses(model, batch)
    losses.sum().backward()  # type: ignore[no-untyped-call]
    return time.perf_counter() - started


def main() -> None:
    """Measure, and print one line for each batch size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=12, help="steps of each kind (default: 12)")
    given = parser.parse_args()
    kind = task("sentiment_analysis")
    base = load_base(ModelConfig(max_tokens=_TOKENS), kind, 3)
    config = AdapterConfig(
        rank=16, alpha=32, dropout=0.0, target_modules="all-linear", layers="all", trained_factors="AB"
    )
    model = adapt(base, config, kind, seed=0)
    model.train_mode()
    rng = np.random.default_rng(0)
    print(f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}")
    for size in _BATCHES:
        ids = torch.from_numpy(rng.integers(1000, 20_000, (size, _TOKENS)))
        batch = Batch(ids, torch.ones_like(ids), torch.zeros(size, dtype=torch.int64))
        seconds: dict[bool, list[float]] = {False: [], True: []}
        for number in range(2 * (given.steps + 2)):
            taken = step_seconds(model, batch, bfloat16=number % 2 == 1)
            if number >= 4:  # the first steps of each kind warm up
                seconds[number % 2 == 1].append(taken)
        plain, half = (1000 * statistics.median(seconds[each]) for each in (False, True))
        print(f"batch {size:3}: float32 {plain:7.1f} ms, bfloat16 {half:7.1f} ms, ratio {half / plain:.2f}", flush=True)


if __name__ == "__main__":
    main()
