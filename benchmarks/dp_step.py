"""Measure the cost of privacy in a training step: `python -m benchmarks.dp_step`.

The same loop runs with and without DP-SGD on the packaged encoder, with equal examples, physical batches and adapter.
Short trainings alternate, so that other work of the machine affects both, and medians are compared. Peak memory is the
highest resident size of a separate process for each.
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
from client.dp.mechanism import DpSettings
from client.dp.noise import SystemNoise
from client.dp.training import DpTrainingPlan, train
from common.adapters.adapted_model import AdaptedModel
from common.adapters.feature_cache import FeatureCache
from common.tokenization.batches import TokenizedSet

AIM = 1.10
STEPS = 3  # of one training. A round of the demo has 5
CASES = (
    Case("whole encoder, 64 x 64 tokens", rows=64, tokens=64, layers="all", trained_factors="AB"),
    Case("last 2 blocks, B only, 256 x ~20 tokens", rows=256, tokens=20, layers="last:2", trained_factors="B"),
)


def plan(private: bool) -> DpTrainingPlan:
    """Plan steps over every row, so that both sides do the same work whatever Poisson sampling would draw."""
    dp = DpSettings(1.0, 1.0, sampling_probability=1.0, steps=STEPS, expected_batch_size=8) if private else None
    return DpTrainingPlan(STEPS, 1.0, 1e-3, 1e-3, "sgd", 2048, dp, 0)


def seconds(model: AdaptedModel, data: TokenizedSet, private: bool, cache: FeatureCache) -> float:
    """Measure the CPU time of a step, including adding and removing hooks. Waiting for other processes is left out."""
    started = time.process_time()
    train(model, data, plan(private), SystemNoise() if private else None, cache)
    return (time.process_time() - started) / STEPS


def measure(case: Case, repeats: int) -> tuple[float, float, float]:
    """Return the median seconds of a private and of a plain step, and the median ratio of neighbouring trainings."""
    model, data = prepared(case)
    cache, times = FeatureCache(), dict[bool, list[float]]({True: [], False: []})
    for repeat in range(repeats + 1):
        for private in (True, False) if repeat % 2 else (False, True):
            times[private].append(seconds(model, data, private, cache))
    dp, plain = times[True][1:], times[False][1:]  # the first training of each side is a warm-up
    ratios = [a / b for a, b in zip(dp, plain, strict=True)]
    return statistics.median(dp), statistics.median(plain), statistics.median(ratios)


def peak_mebibytes(index: int, private: bool) -> float:
    """Return the highest resident memory, in MiB, of a fresh process that trains once."""
    command = [sys.executable, "-m", "benchmarks.dp_step", "--peak", str(index), "--private" if private else "--plain"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ)
    return float(json.loads(done.stdout.splitlines()[-1]))


def print_peak(case: Case, private: bool) -> None:
    """Run as the child process of `peak_mebibytes`."""
    model, data = prepared(case)
    cache = FeatureCache()
    cache.fill(model, data, 2048)
    mark, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    if mark.exists():
        mark.write_text("5")  # Linux: forget the peak of loading the model
        seconds(model, data, private, cache)
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        print(json.dumps(int(peak.split()[1]) / 1024))
    else:
        seconds(model, data, private, cache)
        print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def main() -> None:
    """Print seconds, memory and their ratios for each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9, help="steps of each kind that count")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--private", action="store_true", help=argparse.SUPPRESS)
    kind.add_argument("--plain", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # several threads would wait in busy loops, which count as CPU time
    if arguments.peak is not None:
        print_peak(CASES[arguments.peak], arguments.private)
        return
    for index, case in enumerate(CASES):
        dp, plain, ratio = measure(case, arguments.repeats)
        memory = [peak_mebibytes(index, private) for private in (True, False)]
        print(f"{case.name} ({int(np.sum(prepared(case)[1].lengths)):,} tokens a step)")
        print(f"  CPU seconds        DP {dp:.3f}  plain {plain:.3f}  ratio {ratio:.3f}  (aim: at most {AIM:.2f})")
        print(f"  peak memory, MiB   DP {memory[0]:.0f}  plain {memory[1]:.0f}  ratio {memory[0] / memory[1]:.3f}")


if __name__ == "__main__":
    main()
