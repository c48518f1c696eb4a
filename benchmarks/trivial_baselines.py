"""Measure trivial baselines, the majority guess and a bag of words, on a configuration's data.

python -m benchmarks.trivial_baselines benchmarks/sentfin_desks.toml
"""

import argparse
import sys
from pathlib import Path

from common.errors import FedfinError
from common.tasks import task
from simulation.baselines import bag_of_words, majority
from simulation.config import load_simulation
from simulation.loading import load_federation


def main() -> int:
    """Print majority guess and bag of words, on all rows pooled without privacy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    usual = Path("benchmarks/sentfin_desks.toml")
    parser.add_argument("config", type=Path, nargs="?", default=usual, help=f"default: {usual}")
    given = parser.parse_args()
    try:
        simulation = load_simulation(given.config)
        head = task(simulation.run.task).head
        run = simulation.run
        federation = load_federation(simulation.data, run.labels, head, task=run.task, seed=run.seed)
    except FedfinError as error:
        print(f"trivial_baselines: {error}", file=sys.stderr)
        return error.exit_code
    for row in (majority(federation), bag_of_words(federation)):
        print(f"{row.name}: accuracy {row.accuracy:.3f}, weighted F1 {row.weighted_f1:.3f} ({row.note})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
