"""Evaluate a finished run of benchmarks/beige_districts.toml on text that no district trained on.

    FEDFIN_DATA=... fedfin-simulate run benchmarks/beige_districts.toml --out runs/beige
    FEDFIN_DATA=... python -m benchmarks.beige_summaries runs/beige

The national summary is not in the data. The nearest substitute are the summaries that open the districts' reports of
2020. They are another kind of text than the training sections, from a year that no district trained on.
"""

import argparse
import gzip
import json
import os
import sys
from pathlib import Path

from common.data.datasets import Dataset, Example
from common.errors import FedfinError
from common.protocol.adapter_codec import Tensors
from server.results.evaluation import HubEvaluator
from server.rounds import checkpoint
from simulation.workspace import Workspace

PAIRS = Path("beige_book", "beige_book_summary_pairs_2017_2020.jsonl.gz")
YEAR = "2020"


def summaries() -> Dataset:
    """Return the summaries of `YEAR`, one for each report."""
    with gzip.open(Path(os.environ.get("FEDFIN_DATA", "../shared/data")) / PAIRS, "rt") as file:
        rows = [json.loads(line) for line in file]
    texts = dict.fromkeys(row["summary"] for row in rows if str(row["year"]) == YEAR)
    return Dataset(tuple(Example(text, 0) for text in texts), (), "summaries")


def main() -> int:
    """Print perplexity before round 1 and after the last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="directory of the finished run")
    given = parser.parse_args()
    try:
        workspace = Workspace.reopen(given.run)
        rows = summaries()
        evaluator = HubEvaluator(workspace.models.adapted, {"summaries": rows})
        states: dict[str, Tensors] = {
            "before round 1": workspace.start(),
            "after the last": checkpoint.load(workspace.out / "checkpoint").adapter,
        }
    except FedfinError as error:
        print(f"beige_summaries: {error}", file=sys.stderr)
        return error.exit_code
    for name, tensors in states.items():
        metrics = evaluator(tensors).metrics
        print(f"{len(rows)} summaries, {name}: perplexity {metrics['perplexity']:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
