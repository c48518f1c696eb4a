"""The directory of one run at the hub: what it was asked to do, and where it stands.

config.toml config.json versions.json run.json     written once, before anything starts
checkpoint/ history.json audit.jsonl               by the run's own process, round by round
submission.json                                    which Flower run plays it now
progress.json                                      who has answered in the round under way
outcome.json                                       how it ended; absent while it should be running
"""

import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import tomli_w

from common.base_models.resolve import pinned
from common.canonical import is_name
from common.config.run import RUN_SECTIONS, RunConfig, parse_run
from common.config.sections import error_prefix, refuse_unknown
from common.config.toml import apply_overrides, load_toml, parse_toml, read_config
from common.errors import CheckpointError, ConfigurationError
from common.files import try_lock, write_atomic, write_json
from common.tasks import task
from common.versions import package_versions
from server.hub.config import TestData, test_data
from server.hub.directory import HubDirectory
from server.hub.public_data import read_public_texts, read_test_set

__all__ = ["FAILED", "FINISHED", "QUORUM", "STOPPED", "Run"]

FINISHED, QUORUM, STOPPED, FAILED = "finished", "quorum_missed", "stopped", "failed"


@dataclass(frozen=True)
class Run:
    """One run of the hub in `home`."""

    home: HubDirectory
    name: str

    @classmethod
    def create(cls, home: HubDirectory, source: Path, name: str | None = None, changes: Sequence[str] = ()) -> "Run":
        """Validate a run's file against this hub, then lay its directory out.

        Raises:
            ConfigurationError: one line, before anything is written.
        """
        text = read_config(source)
        tables = parse_toml(text, str(source))
        if changes:
            tables = apply_overrides(tables, changes)
        config, data = _read(tables, str(source), source.parent)
        data = data or home.settings().data
        members = home.members()
        with error_prefix(str(source)):
            _check_members(config, len(members))
        if data is not None:
            read_test_set(data, config)
            if task(config.task).head.is_language_modelling:
                read_public_texts(data, config)
        with error_prefix(str(source)):
            config = replace(config, model=pinned(config.model))
        stem = config.name.replace(" ", "-")
        # A random end: the run's name stands in the institutions' ledgers, and must never come twice.
        run = cls(home, name or f"{stem[:100]}-{secrets.token_hex(4)}")
        if not is_name(run.name):
            raise ConfigurationError(f"run name {run.name[:80]!r}: use letters, digits, '_', '.' or '-'")
        if run.directory.exists():
            raise ConfigurationError(f"{run.directory}: there is such a run already: name another, or `resume` it")
        kept = {key: value for key, value in tables.items() if key != "data"}
        kept["model"] = {**kept.get("model", {}), "base_digest": config.model.base_digest}
        if data is not None:
            found = asdict(data) | {"test": str(data.test), "public": str(data.public) if data.public else None}
            kept["data"] = {key: value for key, value in found.items() if value is not None}
        write_atomic(run.directory / "config.toml", tomli_w.dumps(kept).encode())
        write_json(run.directory / "config.json", json.loads(config.to_json()))
        write_json(run.directory / "versions.json", package_versions())
        # Written last: a directory with run.json is a complete one.
        write_json(run.directory / "run.json", {"run_id": run.name, "source": str(source.resolve())})
        return run

    @classmethod
    def open(cls, home: HubDirectory, name: str) -> "Run":
        """An existing run, by its name.

        Raises:
            CheckpointError: there is none.
        """
        run = cls(home, name)
        if not is_name(name) or not (run.directory / "run.json").is_file():
            known = ", ".join(other.name for other in cls.all(home)[-5:]) or "none yet"
            raise CheckpointError(f"run {name[:80]!r}: there is none of that name here (the latest are: {known})")
        return run

    @classmethod
    def all(cls, home: HubDirectory) -> "list[Run]":
        """Every run of this hub, oldest first."""
        found = sorted(home.runs_path.glob("*/run.json"), key=lambda path: path.stat().st_mtime_ns)
        return [cls(home, path.parent.name) for path in found]

    @property
    def directory(self) -> Path:
        return self.home.runs_path / self.name

    @property
    def checkpoint(self) -> Path:
        return self.directory / "checkpoint"

    def config(self) -> tuple[RunConfig, TestData | None]:
        """What is run, and the test set. Raises ConfigurationError: the kept file was damaged."""
        path = self.directory / "config.toml"
        return _read(load_toml(path), str(path), path.parent)

    def outcome(self) -> Mapping[str, Any] | None:
        """`state` (one of the constants here) and `message`; None while the run should be going on."""
        found: Mapping[str, Any] | None = _json(self.directory / "outcome.json")
        return found

    def end(self, state: str, message: str = "") -> None:
        """Say how the run ended."""
        write_json(self.directory / "outcome.json", {"state": state, "message": message})

    def reopen(self) -> None:
        """It should be going on again."""
        (self.directory / "outcome.json").unlink(missing_ok=True)

    def submission(self) -> Mapping[str, Any]:
        """`flower_run`, `attempt` (without progress), `round`; empty before the first."""
        return _json(self.directory / "submission.json") or {}

    def submitted(self, flower_run: int, attempt: int) -> None:
        """Say which Flower run plays it now, and for the how manieth time since a round was finished."""
        value = {"flower_run": str(flower_run), "attempt": attempt, "round": self.next_round()}
        write_json(self.directory / "submission.json", value)

    def history(self) -> list[Mapping[str, Any]]:
        """The rounds played so far and the attempts that missed the quorum, as `RoundRecord.to_json`."""
        found = _json(self.directory / "history.json")
        return found if isinstance(found, list) else []

    def next_round(self) -> int:
        """The round that is played now or next, from 1."""
        return 1 + sum(bool(record.get("weights")) for record in self.history())

    def progress(self) -> Mapping[str, Any]:
        """`round`, `answered`, `waiting` of the round under way; empty between rounds."""
        return _json(self.directory / "progress.json") or {}

    @contextmanager
    def playing(self, flower_run: str) -> Iterator[None]:
        """Hold the run: one process plays it at a time, and `is_playing` tells others.

        Raises:
            CheckpointError: another process plays it.
        """
        handle = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not try_lock(handle):
                raise CheckpointError(f"run {self.name}: another process executes it already: wait for it to end")
            os.ftruncate(handle, 0)
            os.pwrite(handle, json.dumps({"flower_run": flower_run, "pid": os.getpid()}).encode(), 0)
            yield
        finally:
            os.close(handle)

    def is_playing(self) -> bool:
        """Whether a process plays it now."""
        try:
            handle = os.open(self._lock, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return not try_lock(handle, shared=True)
        finally:
            os.close(handle)

    def played_by(self) -> Mapping[str, Any]:
        """`flower_run` and `pid` of the process that plays it, or was the last to."""
        return _json(self._lock) or {}

    @property
    def _lock(self) -> Path:
        return self.directory / "playing"


def _read(tables: Mapping[str, Any], source: str, start: Path) -> tuple[RunConfig, TestData | None]:
    with error_prefix(source):
        refuse_unknown(tables, (*RUN_SECTIONS, "data"))
        data = test_data(tables, start)
    config = parse_run({name: table for name, table in tables.items() if name in RUN_SECTIONS}, source)
    with error_prefix(source):
        kind = task(config.task)
        if kind.head.writes_text:
            raise ConfigurationError(
                f"task.name is {config.task}: a federation trains labels or a language model: "
                "let each institution fine-tune it with fedfin-institution finetune"
            )
        if not config.labels and not kind.head.is_language_modelling:
            raise ConfigurationError(
                f"task.labels is missing: {config.task} has no labels of its own, and the hub sees no rows: name them"
            )
    return config, data


def _check_members(config: RunConfig, members: int) -> None:
    if not members:
        raise ConfigurationError("no institution is enrolled: `fedfin-hub approve` their requests first")
    for key in ("quorum", "institutions_per_round"):
        if (getattr(config.aggregation, key) or 0) > members:
            config.aggregation.refuse(key, f"is more than the {members} institutions that are enrolled: lower it")


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
