"""Measure the cost of privacy in a training step: `python -m benchmarks.dp_step`.

The same rows and adapter are trained by the private step, by a private step in floating point
(`benchmarks.float_step`) and without privacy, on the packaged encoder.
Short trainings alternate, so that other work of the machine affects both, and medians are compared. Peak memory is the
highest resident size of a separate process for each. With `--workers N` the private step's time on the clock is
compared between one worker and N.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.encoder import Case, prepared
from benchmarks.float_step import PaddedFeatureCache, train_in_float
from client.dp.mechanism import DpSettings
from client.dp.noise import SystemNoise
from client.dp.plan import DpTrainingPlan
from client.dp.training import train, verify_training
from common.adapters.adapted_model import AdaptedModel
from common.adapters.feature_cache import FeatureCache
from common.tokenization.batches import TokenizedSet

AIM = 1.10
STEPS = 3  # of one training. A round of the demo has 5
KINDS = ("exact", "float", "plain")
CASES = (
    Case("whole encoder, 64 texts cut at 64 tokens", 64, 80, "all", "AB", limit=64),
    Case("last 2 blocks, B only, 256 headlines of 8 to 40 tokens", 256, 17, "last:2", "B", spread=0.28),
)


def plan(private: bool) -> DpTrainingPlan:
    """Plan steps over every row, so that both sides do the same work whatever Poisson sampling would draw."""
    dp = DpSettings(1.0, 1.0, sampling_probability=1.0, steps=STEPS, expected_batch_size=8) if private else None
    return DpTrainingPlan(STEPS, 1.0, 1e-3, 1e-3, "sgd", 2048, dp, 0)


def seconds(model: AdaptedModel, data: TokenizedSet, kind: str, cache: FeatureCache) -> float:
    """Measure the CPU time of a step, including adding and removing hooks. Waiting for other processes is left out.

    Args:
        kind: "exact", the private step; "float", the private step in floating point; or "plain".
        cache: for that kind alone.
    """
    if kind == "exact":
        verify_training(model, plan(True))  # once a training, and printed by itself
    started = time.process_time()
    if kind == "float":
        train_in_float(model, data, plan(True), cache)
    else:
        train(model, data, plan(kind == "exact"), SystemNoise() if kind == "exact" else None, cache)
    return (time.process_time() - started) / STEPS


def measure(case: Case, repeats: int) -> tuple[dict[str, float], dict[str, float]]:
    """Return the median seconds of each kind of step, and the median ratios of neighbouring trainings to the exact one.

    Under "check" the seconds that a training's own check takes.
    """
    model, data = prepared(case, max_tokens=case.limit)
    caches = {kind: PaddedFeatureCache() if kind == "float" else FeatureCache() for kind in KINDS}
    times, checks = dict[str, list[float]]((kind, []) for kind in KINDS), []
    for repeat in range(repeats + 1):
        for kind in KINDS if repeat % 2 else KINDS[::-1]:
            times[kind].append(seconds(model, data, kind, caches[kind]))
        started = time.process_time()
        verify_training(model, plan(True))
        checks.append(time.process_time() - started)
    kept = {kind: values[1:] for kind, values in times.items()}  # the first training of each side is a warm-up
    ratios = {
        kind: statistics.median(a / b for a, b in zip(kept["exact"], kept[kind], strict=True)) for kind in KINDS[1:]
    }
    medians = {kind: statistics.median(values) for kind, values in kept.items()}
    return medians | {"check": statistics.median(checks)}, ratios


def workers_ratio(case: Case, repeats: int, workers: int) -> tuple[float, float]:
    """Return the median seconds that an exact step takes on the clock with one worker, and its ratio to `workers`."""
    model, data = prepared(case, max_tokens=case.limit)
    cache, times = FeatureCache(), dict[int, list[float]]({1: [], workers: []})
    for _ in range(repeats + 1):
        for threads, measured in times.items():
            torch.set_num_threads(threads)
            verify_training(model, plan(True))
            started = time.perf_counter()
            train(model, data, plan(True), SystemNoise(), cache)
            measured.append((time.perf_counter() - started) / STEPS)
    torch.set_num_threads(1)
    ratio = statistics.median(a / b for a, b in zip(times[1][1:], times[workers][1:], strict=True))
    return statistics.median(times[1][1:]), ratio


def peak_mebibytes(index: int, private: bool) -> float:
    """Return the highest resident memory, in MiB, of a fresh process that trains once."""
    command = [sys.executable, "-m", "benchmarks.dp_step", "--peak", str(index), "--private" if private else "--plain"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ)
    return float(json.loads(done.stdout.splitlines()[-1]))


def print_peak(case: Case, private: bool) -> None:
    """Run as the child process of `peak_mebibytes`."""
    model, data = prepared(case, max_tokens=case.limit)
    cache = FeatureCache()
    cache.fill(model, data, 2048)
    kind = "exact" if private else "plain"
    mark, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    if mark.exists():
        mark.write_text("5")  # Linux: forget the peak of loading the model
        seconds(model, data, kind, cache)
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        print(json.dumps(int(peak.split()[1]) / 1024))
    else:
        seconds(model, data, kind, cache)
        print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def main() -> None:
    """Print seconds, memory and their ratios for each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9, help="steps of each kind that count")
    parser.add_argument("--workers", type=int, help="compare the seconds of one worker with those of so many instead")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--private", action="store_true", help=argparse.SUPPRESS)
    kind.add_argument("--plain", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # several threads would wait in busy loops, which count as CPU time
    if arguments.peak is not None:
        print_peak(CASES[arguments.peak], arguments.private)
        return
    if arguments.workers is not None:
        for case in CASES:
            alone, ratio = workers_ratio(case, arguments.repeats, arguments.workers)
            print(f"{case.name}: one worker {alone:.3f} s a step, {ratio:.2f} times that of {arguments.workers}")
        return
    for index, case in enumerate(CASES):
        medians, ratios = measure(case, arguments.repeats)
        memory = [peak_mebibytes(index, private) for private in (True, False)]
        tokens = int(np.sum(prepared(case, max_tokens=case.limit)[1].lengths))
        print(f"{case.name} ({tokens:,} tokens a step)")
        print("  processor seconds  " + "  ".join(f"{kind} {value:.3f}" for kind, value in medians.items()))
        print(f"  exact over float {ratios['float']:.3f} (aim: at most {AIM:.2f})  over plain {ratios['plain']:.3f}")
        print(f"  peak memory, MiB   exact {memory[0]:.0f}  plain {memory[1]:.0f}  ratio {memory[0] / memory[1]:.3f}")


if __name__ == "__main__":
    main()
