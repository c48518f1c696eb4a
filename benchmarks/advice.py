"""Recommendations after trainings with planted faults, and after healthy ones: the hits and false alarms of each rule.

`python -m benchmarks.advice [--cases N] [--seed S]` trains MiniLM's last block on real rows, about 40 times, and
`$FEDFIN_DATA` names their directory. A fault counts as found if one of its own recommendations is given, or if the
training ends with an error that names the learning rate. A healthy training counts as a false alarm if it gets a
recommendation of any planted fault.
"""

import argparse
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.finetune_cases import CASES, DATA, Case, read
from client.finetune import AdapterOptions, FineTuningJob, TaskData, TrainingOptions, finetune
from common.data.datasets import Dataset, Example
from common.errors import ConfigurationError

__all__ = ["FAULTS", "Fault", "main", "run_case"]

TOKENS = 32
ROWS = 600
LABELS = 8


@dataclass(frozen=True)
class Fault:
    """A planted fault: the options that plant it, and the recommendations that find it."""

    found_by: tuple[str, ...]
    adapter: Mapping[str, Any]
    training: Mapping[str, Any]
    rows: int = ROWS
    wrong_labels: float = 0.0


FAULTS: Mapping[str, Fault] = {
    "rate too high": Fault(("lower_the_rate",), {}, {"learning_rate": 0.3, "epochs": 4}),
    "rate too low": Fault(("raise_the_rate",), {}, {"learning_rate": 1e-6, "epochs": 4}),
    "rank too small": Fault(("more_rank",), {"rank": 1}, {"epochs": 4}),
    "overfitting": Fault(
        ("stop_earlier", "fewer_modules"), {"rank": 64}, {"epochs": 16, "validation": 0.25, "learning_rate": 3e-3},
        rows=400, wrong_labels=0.3,
    ),
    "too few rows": Fault(("more_rows",), {}, {"epochs": 4}, rows=40),
}  # fmt: skip
HEALTHY = Fault((), {}, {"epochs": 4})
PLANTED = {action for fault in FAULTS.values() for action in fault.found_by}


def run_case(fault: Fault, data: TaskData, out: Path, seed: int) -> tuple[str, ...]:
    """Train once, and return the recommended actions."""
    job = FineTuningJob(
        data=(data,),
        out=out,
        max_tokens=TOKENS,
        adapter=AdapterOptions(layers="last:1", **fault.adapter),
        training=TrainingOptions(**{"validation": 0.1, **fault.training}),
        seed=seed,
    )
    try:
        return tuple(each["action"] for each in finetune(job).recommendations)
    except ConfigurationError as error:
        if "learning_rate" not in str(error):
            raise
        return ("lower_the_rate",)


def _data(case: Case, fault: Fault, seed: int) -> TaskData:
    """Return rows of the eight commonest labels, the first of a shuffle of the seed. A fault may plant wrong labels."""
    train, test = read(replace(case, rows=100_000), 2_000)
    kept = sorted(range(len(train.labels)), key=lambda label: -train.label_counts()[label])[:LABELS]
    return TaskData(case.task, _some(train, kept, fault, seed), _some(test, kept, replace(HEALTHY, rows=200), seed))


def _some(rows: Dataset, kept: list[int], fault: Fault, seed: int) -> Dataset:
    draw = random.Random(seed)  # noqa: S311 - an order, not a secret
    examples = [each for each in rows.examples if isinstance(each, Example) and each.label in kept]
    draw.shuffle(examples)
    found = []
    for each in examples[: fault.rows]:
        wrong = draw.random() < fault.wrong_labels
        found.append(Example(each.text, kept.index(draw.choice(kept) if wrong else each.label)))
    return Dataset(tuple(found), tuple(rows.labels[label] for label in kept), rows.name)


def main() -> None:
    """Train all cases, and print hits and false alarms."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=4, help="trainings of each fault (default: 4)")
    parser.add_argument("--healthy", type=int, default=20, help="healthy trainings (default: 20)")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if not DATA.is_dir():
        raise SystemExit(f"{DATA}: no such directory: set FEDFIN_DATA")
    cases = [case for case in CASES if case.task != "financial_ner"]
    started, given_actions, found, alarms = time.monotonic(), Counter[str](), Counter[str](), 0
    with tempfile.TemporaryDirectory() as directory:
        for name, fault in FAULTS.items():
            for number in range(given.cases):
                case = cases[number % len(cases)]
                seed = given.seed + number
                actions = run_case(fault, _data(case, fault, seed), Path(directory) / f"{name} {number}", seed)
                hit = bool(set(actions) & set(fault.found_by))
                found[name] += hit
                print(f"{name:16} {case.name:16} {'found' if hit else 'MISSED':7} {', '.join(actions)}", flush=True)
        for number in range(given.healthy):
            case, seed = cases[number % len(cases)], given.seed + 100 + number
            actions = run_case(HEALTHY, _data(case, HEALTHY, seed), Path(directory) / f"healthy {number}", seed)
            given_actions.update(actions)
            alarm = bool(set(actions) & PLANTED)
            alarms += alarm
            print(f"{'healthy':16} {case.name:16} {'ALARM' if alarm else 'quiet':7} {', '.join(actions)}", flush=True)
    total = given.cases * len(FAULTS)
    summary = {
        "faults": total,
        "found": sum(found.values()),
        "found_by_fault": dict(found),
        "healthy": given.healthy,
        "false_alarms": alarms,
        "recommended_after_healthy": dict(given_actions),
        "seconds": round(time.monotonic() - started),
    }
    print(f"\nfound {sum(found.values())} of {total} planted faults; {alarms} false alarms in {given.healthy} healthy")
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
