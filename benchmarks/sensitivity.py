"""How far one record moves the sum of a step at hostile adapters: `python -m benchmarks.sensitivity --adapters 1000`.

Draws adapters as a hub could send them (`client.audit.sensitivity.hostile_adapters`) and data sets of random tokens and
mixed lengths, adds a record, and compares the sums of clipped gradients before noise: if the record is drawn, and if it
is in the data but not drawn. Beside it the same for the step in floating point (`benchmarks.float_step`).
"""

import argparse
import json
import time
from dataclasses import replace

import numpy as np
import torch

from benchmarks.encoder import Case, adapted
from benchmarks.float_step import PaddedFeatureCache, float_sum
from client.audit.sensitivity import Neighbours, hostile_adapters, movement
from client.dp.mechanism import DpSettings
from client.dp.plan import DpTrainingPlan
from client.dp.random_examples import random_examples
from common.adapters.adapted_model import AdaptedModel
from common.adapters.feature_cache import FeatureCache
from common.tokenization.batches import TokenizedSet

SHARES = {"none": 0.45, "last:1": 0.45, "all": 0.1}
"""Trained layers, and their shares of the adapters. A step of the whole encoder takes six times as long as of one."""
OF_ONE_DATA_SET = 14  # adapters, so that frozen features are computed once for all of them
CLIP = 1.0


def plan(records: int) -> DpTrainingPlan:
    """One step over all records."""
    dp = DpSettings(0.0, CLIP, sampling_probability=1.0, steps=1, expected_batch_size=float(records))
    return DpTrainingPlan(1, 1.0, 1.0, 1.0, "sgd", 4096, dp, 0)


def float_movement(
    model: AdaptedModel, pair: Neighbours, step: DpTrainingPlan, caches: tuple[FeatureCache, FeatureCache]
) -> tuple[float, float]:
    """The same as `movement` for the step in floating point. `caches` are of the data with and without the unit."""
    every, rest = np.arange(len(pair.data)), np.arange(len(pair.without))
    whole = float_sum(model, pair.data, every, step, caches[0]).astype(np.float64)
    undrawn = float_sum(model, pair.data, pair.others, step, caches[0])
    less = float_sum(model, pair.without, rest, step, caches[1])
    return float(np.linalg.norm(whole - less)) / CLIP, float(np.linalg.norm(undrawn - less)) / CLIP


def records(model: AdaptedModel, count: int, rng: np.random.Generator) -> TokenizedSet:
    """Short texts, in a third of the sets of one length, and one at a random place that is longer than all."""
    lengths = rng.integers(4, rng.choice([5, 8, 13]), count)
    lengths[int(rng.integers(count))] = rng.choice([14, 22, 30])
    return replace(random_examples(model, lengths.tolist(), rng), owners=np.arange(count))


def measure(
    layers: str, adapters: int, count: int, with_float: bool, rng: np.random.Generator
) -> dict[str, dict[str, float]]:
    """Return the largest movements by kind of adapter, in C: `drawn`, `undrawn`, `float_drawn`, `float_undrawn`."""
    model = adapted(Case("", 0, 0, layers, "AB" if layers == "none" else "B"), max_tokens=64)
    step, found = plan(count), dict[str, dict[str, float]]()
    for done in range(adapters):
        if done % OF_ONE_DATA_SET == 0:
            data = records(model, count, rng)
            kinds = hostile_adapters(model, data, rng)
            unit = int(data.lengths.argmax()) if rng.random() < 0.5 else int(rng.integers(count))
            pair, caches = Neighbours.of(data, unit), (PaddedFeatureCache(), PaddedFeatureCache())
        kind, adapter = next(kinds)
        model.load(adapter)
        drawn, undrawn = movement(model, pair, step)
        moved = {"adapters": 1.0, "drawn": drawn, "undrawn": undrawn}
        if with_float:
            moved["float_drawn"], moved["float_undrawn"] = float_movement(model, pair, step, caches)
        before = found.setdefault(kind, dict.fromkeys(moved, 0.0))
        found[kind] = {name: max(value, moved[name]) for name, value in before.items()}
        found[kind]["adapters"] = before["adapters"] + 1
    return found


def main() -> None:
    """Print the largest movements for each part of the encoder that is trained, by kind of adapter."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adapters", type=int, default=100, metavar="N", help="how many adapters are drawn")
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    parser.add_argument("--records", type=int, default=24, metavar="R", help="of each data set")
    parser.add_argument("--no-float", action="store_true", help="leave the step in floating point out")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rng, started = np.random.default_rng(arguments.seed), time.process_time()
    result: dict[str, dict[str, dict[str, float]]] = {}
    for layers, share in SHARES.items():
        number = round(share * arguments.adapters)
        result[layers] = measure(layers, number, arguments.records, not arguments.no_float, rng)
        print(f"layers {layers}, {number} adapters: one record moves the sum by at most (in C)")
        for kind, moved in result[layers].items():
            figures = "  ".join(f"{name} {value:.6f}" for name, value in moved.items() if name != "adapters")
            print(f"  {kind:36} {moved['adapters']:4.0f}  {figures}", flush=True)
    figures_of = [moved for kinds in result.values() for moved in kinds.values()]
    largest = {name: max(moved[name] for moved in figures_of) for name in figures_of[0] if name != "adapters"}
    seconds = round(time.process_time() - started)
    print(json.dumps({"seed": arguments.seed, "seconds": seconds, "largest": largest, "layers": result}))


if __name__ == "__main__":
    main()
