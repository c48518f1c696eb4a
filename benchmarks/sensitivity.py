"""How far one record moves the sum of a step at hostile adapters: `python -m benchmarks.sensitivity --adapters 1000`.

Draws adapters as a hub could send them (`client.audit.sensitivity.hostile_adapters`) and data sets of random tokens and
mixed lengths, adds a record, and compares the sums of clipped gradients before noise: if the record is drawn, and if it
is in the data but not drawn. Beside it the same for the step in floating point (`benchmarks.float_step`).
"""

import argparse
import json
import time
from dataclasses import dataclass, replace

import numpy as np
import torch

from benchmarks.encoder import Case, adapted
from benchmarks.float_step import PaddedFeatureCache, float_sum
from client.audit.sensitivity import hostile_adapters, movement
from client.audit.subject import units_of
from client.dp.mechanism import DpSettings
from client.dp.random_examples import random_examples
from client.dp.training import DpTrainingPlan
from common.adapters.adapted_model import AdaptedModel
from common.tokenization.batches import TokenizedSet

LAYERS = ("none", "last:1", "all")
CLIP = 1.0


@dataclass
class Largest:
    """The largest movements so far, in clipping norms."""

    drawn: float = 0.0
    undrawn: float = 0.0

    def add(self, moved: tuple[float, float]) -> None:
        """Keep the larger of each."""
        self.drawn, self.undrawn = max(self.drawn, moved[0]), max(self.undrawn, moved[1])


def plan(records: int) -> DpTrainingPlan:
    """One step over all records."""
    dp = DpSettings(0.0, CLIP, sampling_probability=1.0, steps=1, expected_batch_size=float(records))
    return DpTrainingPlan(1, 1.0, 1.0, 1.0, "sgd", 4096, dp, 0)


def float_movement(model: AdaptedModel, data: TokenizedSet, unit: int, step: DpTrainingPlan) -> tuple[float, float]:
    """The same as `movement` for the step in floating point."""
    without, cache = units_of(data, np.arange(len(data)) != unit), PaddedFeatureCache()
    others = np.flatnonzero(np.arange(len(data)) != unit)
    whole = float_sum(model, data, np.arange(len(data)), step, cache).astype(np.float64)
    undrawn = float_sum(model, data, others, step, cache)
    less = float_sum(model, without, np.arange(len(without)), step, PaddedFeatureCache())
    return float(np.linalg.norm(whole - less)) / CLIP, float(np.linalg.norm(undrawn - less)) / CLIP


def records(model: AdaptedModel, count: int, rng: np.random.Generator) -> TokenizedSet:
    """Short texts, and one at a random place that is longer than all."""
    lengths = rng.integers(4, 13, count)
    lengths[int(rng.integers(count))] = 30
    return replace(random_examples(model, lengths.tolist(), rng), owners=np.arange(count))


def main() -> None:
    """Print the largest movements for each part of the encoder that is trained."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adapters", type=int, default=100, metavar="N", help="how many adapters are drawn")
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    parser.add_argument("--records", type=int, default=24, metavar="R", help="of each data set")
    parser.add_argument("--no-float", action="store_true", help="leave the step in floating point out")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rng, started = np.random.default_rng(arguments.seed), time.process_time()
    result: dict[str, dict[str, float]] = {}
    for place, layers in enumerate(LAYERS):
        model = adapted(Case("", 0, 0, layers, "AB" if layers == "none" else "B"), max_tokens=64)
        step, exact, floating = plan(arguments.records), Largest(), Largest()
        data = records(model, arguments.records, rng)
        adapters = hostile_adapters(model, data, rng)
        count = arguments.adapters // len(LAYERS) + (place < arguments.adapters % len(LAYERS))
        for _ in range(count):
            _, adapter = next(adapters)
            model.load(adapter)
            unit = int(data.lengths.argmax()) if rng.random() < 0.5 else int(rng.integers(arguments.records))
            exact.add(movement(model, data, unit, step))
            if not arguments.no_float:
                floating.add(float_movement(model, data, unit, step))
        print(f"layers {layers}, {count} adapters: one record moves the sum by at most (in C)")
        print(f"  exact           drawn {exact.drawn:.9f}  not drawn {exact.undrawn:.9f}", flush=True)
        result[layers] = {"adapters": count, "drawn": exact.drawn, "undrawn": exact.undrawn}
        if not arguments.no_float:
            print(f"  floating point  drawn {floating.drawn:.9f}  not drawn {floating.undrawn:.9f}", flush=True)
            result[layers] |= {"float_drawn": floating.drawn, "float_undrawn": floating.undrawn}
    print(json.dumps({"seed": arguments.seed, "seconds": round(time.process_time() - started), "layers": result}))


if __name__ == "__main__":
    main()
