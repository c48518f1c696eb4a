"""Measure the cost of a personal part beside a plain round: `python -m benchmarks.personal_rounds`.

One institution with the 2,000 headlines of `benchmarks.institutions` trains the packaged encoder, with privacy, one
local step a round. With several institutions a simulation would compute the gradients of those together that hold the
same adapter, which no deployment can. Runs of each method and of none alternate, and medians of the later rounds are
compared. The further steps of "after" and the fit of "prior" follow the last round, and belong to none.
"""

import argparse
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.institutions import config, records
from common.config.personalisation import PersonalisationConfig

AIM = 1.15
KINDS = {
    "none": PersonalisationConfig(),
    "prior": PersonalisationConfig(method="prior"),
    "head": PersonalisationConfig(method="head"),
    "proximal": PersonalisationConfig(method="proximal", proximal_weight=1.0),
    "after": PersonalisationConfig(method="after", steps=5),
}


def rounds(method: str) -> tuple[list[float], int]:
    """Return the processor seconds of each round but the first, and the bytes up of the last one."""
    run = replace(config(), personalisation=KINDS[method])
    with tempfile.TemporaryDirectory(prefix="personal-") as directory:
        found = records(run, 1, Path(directory))
    return [seconds for seconds, _ in found[1:]], found[-1][1].bytes_up


def main() -> None:
    """Print the seconds of a round and the bytes up with each method, and their ratios to none."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each method that count")
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    seconds: dict[str, list[float]] = {method: [] for method in KINDS}
    up: dict[str, int] = {}
    for repeat in range(repeats + 1):
        for method, measured in seconds.items():
            found, up[method] = rounds(method)
            measured.extend(found if repeat else ())  # the first run of each is a warm-up
    plain = statistics.median(seconds["none"])
    for method, measured in seconds.items():
        middle = statistics.median(measured)
        print(
            f"{method}: {middle:.2f} s a round, ratio {middle / plain:.3f} (aim: at most {AIM}), "
            f"{up[method]:,} bytes up, ratio {up[method] / up['none']:.3f}"
        )


if __name__ == "__main__":
    main()
