"""Count the project's files on the way of one round: python -m tools.round_files [--list]

It simulates a private run of two institutions with a random encoder of a few kilobytes, and notes every file of the
project with a function that is called between the beginning of a round and the beginning of the next one. The rounds
run in one process, so the files of the gateway, the Flower node and the relay are not among them.
"""

import argparse
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from server.rounds import coordinator
from simulation.runner import run_simulation
from simulation.workspace import Workspace
from tests.tiny_models import save_tiny_model

__all__ = ["called_files", "files_of_rounds"]

ROOT = Path(__file__).parents[1]
PACKAGES = ("common", "client", "server", "simulation")
ROWS = 40
CONFIG = """
[run]
name = "round"
seed = 3
rounds = 2
[task]
name = "sentiment_analysis"
labels = ["negative", "positive"]
[data]
train = "rows.csv"
institution_column = "institution"
[model]
base = "{base}"
max_tokens = 32
[adapter]
layers = "last:1"
[training]
local_steps = 2
sampling_rate = 0.25
learning_rate = 0.1
[privacy]
mode = "target"
target_epsilon = 8.0
delta = 1e-4
clipping_norm = 0.5
"""


@contextmanager
def called_files(names: set[str]) -> Iterator[None]:
    """Add the project's files with a function that is called within the block, in any thread, to `names`."""

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and not frame.f_code.co_name.startswith("<"):  # not the body of a module or a generator
            names.add(frame.f_code.co_filename)

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def files_of_rounds(directory: Path) -> Mapping[int, Sequence[str]]:
    """Run two rounds in `directory`, and return the paths of the files of each, relative to the project."""
    words = {"negative": "loss falls", "positive": "profit rises"}
    rows = [
        f"{words[label]} {n},{label},{('north', 'south')[n % 2]}"
        for n in range(ROWS)
        for label in [sorted(words)[n // 2 % 2]]
    ]
    (directory / "rows.csv").write_text("\n".join(["text,label,institution", *rows, ""]))
    config = directory / "round.toml"
    config.write_text(CONFIG.format(base=save_tiny_model(directory / "base")))
    workspace = Workspace.create(config, directory / "out")
    files: dict[int, Sequence[str]] = {}
    execute = coordinator._execute_round

    def watched(state: Any, *arguments: Any, **named: Any) -> Any:
        names: set[str] = set()
        with called_files(names):
            after = execute(state, *arguments, **named)
        files[state.next_round] = sorted(filter(None, map(_project_path, names)))
        return after

    coordinator._execute_round = watched
    try:
        run_simulation(workspace)
    finally:
        coordinator._execute_round = execute
    return files


def _project_path(name: str) -> str:
    """Return the path of a file relative to the project. Empty if it is no module of the four rooms."""
    path = Path(name)
    if not path.is_relative_to(ROOT):
        return ""
    relative = path.relative_to(ROOT)
    return str(relative) if relative.parts[0] in PACKAGES else ""


def main() -> int:
    """Print the number of files of each round by package, and with `--list` their paths."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="print the paths, too")
    listed = parser.parse_args().list
    with tempfile.TemporaryDirectory() as directory:
        rounds = files_of_rounds(Path(directory))
    for number, files in sorted(rounds.items()):
        counts = [f"{package} {sum(name.startswith(package) for name in files)}" for package in PACKAGES]
        print(f"round {number}: {len(files)} files ({', '.join(counts)})")
        if listed:
            print("\n".join(f"  {name}" for name in files))
    return 0


if __name__ == "__main__":
    sys.exit(main())
