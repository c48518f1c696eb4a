"""Measure the cost of many institutions in a simulated private round: `python -m benchmarks.institutions [--large]`.

The same 2,000 headlines belong to one institution, or are dealt out to K, and train the packaged encoder: one local
step of half the rows, since a batch of less than one declared row is refused, B of rank 8 in the last two blocks, SGD.
A round is measured from the assignments to the audit line. The first one, which also computes the frozen blocks of all
rows, is told apart from the later ones. Runs with one and with K institutions alternate, and medians are compared.

Each institution adds noise of its own to each of the P numbers of its update, charges its ledger, keeps its record and
seals, and the hub opens and checks its answer. That is K times the work of one, however the gradients are computed.
`--profile K` shows where the time goes.
Peak memory is the highest resident size of a separate process for each.
"""

import argparse
import cProfile
import json
import pstats
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.encoder import Case, headlines
from common.config.run import RunConfig
from common.data.datasets import Dataset, Example
from common.events import Observer
from common.report.records import RoundRecord
from server.results.evaluation import HubEvaluator
from simulation.config import InstitutionsConfig, SimulationConfig
from simulation.in_process import run_in_process
from simulation.partition import Federation
from simulation.runner import first_state
from simulation.workspace import Workspace

AIMS = {6: 1.1, 10: 1.1, 100: 1.2, 1000: 1.5}
MEMORY_AIM = 1.3
ROUNDS = 4
ROWS = Case("2,000 headlines of 8 to 40 tokens", 2000, 17, "last:2", "B", spread=0.28)
LABELS = ("negative", "neutral", "positive")


def config() -> RunConfig:
    """Return the run of all measurements."""
    return RunConfig.from_tables(
        {
            "run": {"name": "institutions", "seed": 1, "rounds": ROUNDS},
            "task": {"name": "sentiment_analysis", "labels": list(LABELS)},
            "model": {"base": "minilm", "pooling": "mean", "max_tokens": 64},
            "adapter": {
                "rank": 8,
                "alpha": 16,
                "target_modules": "all-linear",
                "layers": "last:2",
                "trained_factors": "B",
            },
            "training": {"local_steps": 1, "sampling_rate": 0.5, "optimizer": "sgd", "learning_rate": 0.5},
            "privacy": {"mode": "custom", "noise_multiplier": 2.0, "delta": 1e-5, "clipping_norm": 4.0},
            "evaluation": {"every_rounds": ROUNDS},
        }
    )


def federation(institutions: int) -> Federation:
    """Return the headlines, dealt out to a number of institutions."""
    texts, labels = headlines(ROWS)
    rows = [Example(text, label) for text, label in zip(texts, labels, strict=True)]
    parts = {
        f"bank{number:04}": Dataset(tuple(rows[number::institutions]), LABELS, f"bank{number:04}")
        for number in range(institutions)
    }
    test = Dataset(tuple(rows[:1]), LABELS, "test")
    return Federation(parts, test, {"all": test})


def records(run: RunConfig, institutions: int, directory: Path) -> list[tuple[float, RoundRecord]]:
    """Return the processor seconds and the record of each round of `run`."""
    simulation = SimulationConfig(run, None, InstitutionsConfig(), None, "")
    workspace = Workspace.begin(simulation, federation(institutions), directory / f"run{institutions}")
    state = first_state(workspace, ())
    evaluator = HubEvaluator(workspace.models.adapted, workspace.federation.test_by_institution)
    found: list[tuple[float, RoundRecord]] = []
    last = time.process_time()

    class Clock(Observer):
        def on_round(self, record: RoundRecord) -> None:
            nonlocal last
            if len(record.contributed) != institutions:
                raise RuntimeError(f"only {len(record.contributed)} contributed: {record.outcomes}")
            found.append((time.process_time() - last, record))
            last = time.process_time()

    last = time.process_time()
    run_in_process(workspace, state, evaluator, (Clock(),))
    return found


def measured(institutions: int) -> list[float]:
    """Return the processor seconds of each round of a run in a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="institutions-") as directory:
        return [seconds for seconds, _ in records(config(), institutions, Path(directory))]


def peak_mebibytes(institutions: int) -> float:
    """Return the peak memory of a process of its own that runs the rounds."""
    command = [sys.executable, "-m", "benchmarks.institutions", "--peak", str(institutions)]
    return float(json.loads(subprocess.run(command, check=True, capture_output=True).stdout.splitlines()[-1]))


def main() -> None:
    """Print the seconds of a round, their ratios to one institution and the peak memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true", help="also 1,000 institutions")
    parser.add_argument("--profile", type=int, metavar="K", help="print a profile of a run of K institutions instead")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)  # several threads would wait in busy loops, which count as processor time
    if given.peak is not None:
        measured(given.peak)
        print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))
        return
    if given.profile is not None:
        with cProfile.Profile(time.process_time) as profile:
            measured(given.profile)
        pstats.Stats(profile).sort_stats("cumtime").print_stats(150)
        return
    counts = [number for number in AIMS if number < 1000 or given.large]
    measured(1)  # a warm-up
    for number in counts:
        one, many = measured(1), measured(number)
        first, later = many[0] / one[0], statistics.median(many[1:]) / statistics.median(one[1:])
        print(
            f"{number} institutions: {statistics.median(many[1:]):.2f} s a round, one {statistics.median(one[1:]):.2f} "
            f"s, ratio {later:.2f} (aim: at most {AIMS[number]}), of the first rounds {first:.2f}",
            flush=True,
        )
    memory = {number: peak_mebibytes(number) for number in (1, counts[-1])}
    ratio = memory[counts[-1]] / memory[1]
    print(
        f"peak memory, MiB: one {memory[1]:.0f}, {counts[-1]} institutions {memory[counts[-1]]:.0f}, "
        f"ratio {ratio:.2f} (aim: at most {MEMORY_AIM})"
    )


if __name__ == "__main__":
    main()
