"""A simulation small enough for many tests: three institutions, a random encoder of a few kilobytes."""

import csv
import random
from pathlib import Path

from tests.tiny_models import save_tiny_model

SIZES = {"north": 40, "south": 30, "west": 24}
WORDS = {"negative": ("loss", "widens", "falls", "weak"), "positive": ("profit", "rises", "grew", "strong")}


def write_rows(path: Path) -> None:
    """Rows whose label a few words give away, with a test split."""
    draw = random.Random(5)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "bank", "split"])
        for bank, size in SIZES.items():
            for number in range(size):
                label = draw.choice(sorted(WORDS))
                words = [draw.choice(WORDS[label]) for _ in range(draw.randint(2, 6))]
                writer.writerow(
                    [f"{bank} {' '.join(words)} {number}", label, bank, "test" if number % 5 == 0 else "train"]
                )


def write_simulation(
    directory: Path,
    *,
    trained_factors: str = "B",
    noise: str = "system",
    rounds: int = 2,
    local_steps: int = 2,
    max_epsilon: float | None = None,
    target_epsilon: float = 8.0,
    extra: str = "",
) -> Path:
    """Write data, model and configuration into `directory`. Returns the configuration's path."""
    if not (directory / "rows.csv").exists():
        write_rows(directory / "rows.csv")
        save_tiny_model(directory / "base")
    limit = "" if max_epsilon is None else f"max_epsilon = {max_epsilon}"
    path = directory / f"{trained_factors}-{noise}.toml"
    path.write_text(
        f"""
[run]
name = "tiny"
seed = 3
rounds = {rounds}
[task]
name = "sentiment_analysis"
labels = ["negative", "positive"]
[data]
train = "rows.csv"
institution_column = "bank"
split_column = "split"
[model]
base = "{directory / "base"}"
max_tokens = 32
[adapter]
rank = 4
alpha = 8
target_modules = "all-linear"
layers = "last:1"
trained_factors = "{trained_factors}"
[training]
local_steps = {local_steps}
sampling_rate = 0.25
learning_rate = 1.0
[privacy]
mode = "target"
target_epsilon = {target_epsilon}
delta = 1e-4
clipping_norm = 0.5
[institutions]
noise = "{noise}"
{limit}
{extra}
"""
    )
    return path
