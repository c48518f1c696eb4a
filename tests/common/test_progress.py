"""Away from a terminal a long run prints a line a minute, with what is done and what is left."""

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from client.tracking.progress_bar import ProgressBar
from common import progress
from common.events import StepEvent
from common.progress import MinuteLines, time_left
from simulation.display import Display


def step(number: int, institution: str = "") -> StepEvent:
    return StepEvent(number, 100, 2, 0.5, 1e-3, 0.1, 0.1, 8, 90, 60.0 * number / 10, institution)


class Lines:
    """Collects lines, and lets a test wait for the next one."""

    def __init__(self) -> None:
        self.shown: list[str] = []
        self.told = threading.Event()

    def __call__(self, text: str) -> None:
        self.shown.append(text)
        self.told.set()


def test_lines_come_while_the_block_runs_and_no_longer() -> None:
    lines = Lines()
    with MinuteLines(lambda: "half done", lines, every=0.01):
        assert lines.told.wait(10)
    shown = len(lines.shown)
    assert set(lines.shown) == {"half done"}
    threading.Event().wait(0.05)
    assert len(lines.shown) == shown


def test_a_training_says_its_step_its_loss_and_the_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "EVERY_S", 0.01)
    with ProgressBar(quiet=False) as bar:
        bar.on_step(step(25))
        threading.Event().wait(0.2)
    lines = capsys.readouterr().err.splitlines()
    assert "epoch 2, step 25 of 100, loss 0.500, about 8 min left" in lines


def test_quiet_means_no_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "EVERY_S", 0.01)
    with ProgressBar(quiet=True) as bar:
        bar.on_step(step(25))
        threading.Event().wait(0.05)
    assert capsys.readouterr().err == ""


def test_a_simulation_says_its_round_and_the_institution_that_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "EVERY_S", 0.01)
    workspace: Any = SimpleNamespace(
        out=tmp_path,
        config=SimpleNamespace(name="desks", rounds=4, aggregation=SimpleNamespace(weighting="uniform")),
        settings=lambda _: SimpleNamespace(release=SimpleNamespace(declared_units=1)),
        federation=SimpleNamespace(train=dict.fromkeys(["north", "south"]), names={}, notes=()),
        models=SimpleNamespace(adapted=SimpleNamespace(parameters_trained=1, parameters_total=2)),
    )
    display = Display()
    with display.running(workspace):
        display.on_step(step(50, "south"))
        threading.Event().wait(0.2)
    shown = capsys.readouterr().err
    assert "round 1 of 4, south at step 50 of 100" in shown


@pytest.mark.parametrize(
    ("done", "seconds", "words"),
    [
        (0.0, 5, ""),
        (0.5, 30, ", less than a minute left"),
        (0.5, 600, ", about 10 min left"),
        (1.0, 600, ", less than"),
    ],
)
def test_the_time_left_follows_from_the_share_that_is_done(done: float, seconds: float, words: str) -> None:
    assert time_left(done, seconds).startswith(words)
