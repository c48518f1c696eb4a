"""Checks of the run's own process before it asks any institution."""

from pathlib import Path
from typing import Any

import pytest

from server.flower.server_app import execute_run
from server.hub.directory import ENVIRONMENT, HubDirectory
from server.hub.enrolment import approve
from server.runs.run import FAILED, Run
from tests.server.hub.test_directory import make_request
from tests.server.runs.test_run import TOML
from tests.tiny_models import save_tiny_model


def test_a_run_whose_base_model_is_no_longer_the_same_ends_before_anybody_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = HubDirectory.create(tmp_path / "hub", "hub", "127.0.0.1:8443", [])
    approve(home, make_request("north"))
    base = save_tiny_model(tmp_path / "base")
    (tmp_path / "run.toml").write_text(f'{TOML}[model]\nbase = "{base}"\nmax_tokens = 64\n')
    run = Run.create(home, tmp_path / "run.toml")
    with (base / "tokenizer_config.json").open("a") as file:
        file.write("\n")
    monkeypatch.setenv(ENVIRONMENT, str(home.directory))
    # These change Flower for the whole process.
    changed: list[str] = []
    for name in ("shorten_pull_backoff", "refuse_repeated_pieces"):
        monkeypatch.setattr(f"server.flower.server_app.{name}", lambda name=name: changed.append(name))
    nobody: Any = object()
    execute_run(nobody, run.name, "7")
    assert changed == ["shorten_pull_backoff", "refuse_repeated_pieces"]
    ending = run.ending()
    assert ending is not None
    assert ending.state == FAILED
    assert f"it differs from the one that run {run.name} began with" in ending.message
