"""The directory of one run at the hub: its configuration and its state.

config.toml config.json versions.json run.json     written once, before anything starts
checkpoint/ history.json audit.jsonl               written by the executing process, round by round
submission.json                                    the Flower run that executes it now
executor.lock                                      held by the executing process
progress.json                                      answers in the round under way
outcome.json                                       the ending (absent while the run should be going on)
"""

import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import tomli_w

from common.base_models.files import check_writer
from common.base_models.resolve import pinned, resolve_base
from common.canonical import is_name
from common.config.run import RUN_SECTIONS, RunConfig, parse_run
from common.config.sections import error_prefix, refuse_unknown
from common.config.toml import apply_overrides, load_toml, parse_toml, read_config
from common.errors import CheckpointError, ConfigurationError
from common.files import try_lock, write_atomic, write_json
from common.report.json_reader import Record, read_json
from common.report.records import RoundRecord
from common.tasks import task
from common.versions import package_versions
from server.hub.config import TestData, test_data
from server.hub.directory import HubDirectory
from server.hub.public_data import read_public_texts, read_test_set
from server.runs.records import Executor, Progress, RunEnding, Submission

__all__ = ["FAILED", "FINISHED", "QUORUM", "STOPPED", "Run"]

R = TypeVar("R", bound=Record)

FINISHED, QUORUM, STOPPED, FAILED = "finished", "quorum_missed", "stopped", "failed"


@dataclass(frozen=True)
class Run:
    """One run of a hub.

    Attributes:
        home: The hub's directory.
        name: The run's name, which is never used again.
    """

    home: HubDirectory
    name: str

    @classmethod
    def create(cls, home: HubDirectory, source: Path, name: str | None = None, changes: Sequence[str] = ()) -> "Run":
        """Validate a run's file against this hub, then lay out its directory.

        Args:
            home: The hub's directory.
            source: The run's TOML file.
            name: The run's name. If None, the name in the file with a random end.
            changes: Values in place of the file's, each as `section.key=value`.

        Raises:
            ConfigurationError, DataError: One line that names the wrong input. Nothing was written.
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
        if task(config.task).head.writes_text:
            check_writer(config.model.base, Path(resolve_base(config.model.base)))
        stem = config.name.replace(" ", "-")
        # A random end: the institutions' ledgers hold the run's name, so it must never be used twice.
        run = cls(home, name or f"{stem[:100]}-{secrets.token_hex(4)}")
        if not is_name(run.name):
            raise ConfigurationError(f"run name {run.name[:80]!r}: use letters, digits, '_', '.' or '-'")
        if run.directory.exists():
            raise ConfigurationError(f"{run.directory}: a run of this name exists: choose another name, or `resume` it")
        kept = {key: value for key, value in tables.items() if key != "data"}
        kept["model"] = {**kept.get("model", {}), "base_digest": config.model.base_digest}
        if data is not None:
            paths = asdict(data) | {"test": str(data.test), "public": str(data.public) if data.public else None}
            kept["data"] = {key: value for key, value in paths.items() if value is not None}
        write_atomic(run.directory / "config.toml", tomli_w.dumps(kept).encode())
        write_json(run.directory / "config.json", json.loads(config.to_json()))
        write_json(run.directory / "versions.json", package_versions())
        # Written last: a directory with run.json is a complete one.
        write_json(run.directory / "run.json", {"run_id": run.name, "source": str(source.resolve())})
        return run

    @classmethod
    def open(cls, home: HubDirectory, name: str) -> "Run":
        """Return an existing run.

        Raises:
            CheckpointError: There is none of that name.
        """
        run = cls(home, name)
        if not is_name(name) or not (run.directory / "run.json").is_file():
            known = ", ".join(other.name for other in cls.all(home)[-5:])
            remedy = f"choose one of {known}" if known else "begin one with `fedfin-hub run`"
            raise CheckpointError(f"run {name[:80]!r}: no run of this hub has that name: {remedy}")
        return run

    @classmethod
    def all(cls, home: HubDirectory) -> "list[Run]":
        """Return every run of this hub, oldest first."""
        files = sorted(home.runs_path.glob("*/run.json"), key=lambda path: path.stat().st_mtime_ns)
        return [cls(home, path.parent.name) for path in files]

    @property
    def directory(self) -> Path:
        return self.home.runs_path / self.name

    @property
    def checkpoint(self) -> Path:
        return self.directory / "checkpoint"

    def config(self) -> tuple[RunConfig, TestData | None]:
        """Return the configuration and the test set.

        Raises:
            ConfigurationError: The file was damaged, or an earlier release wrote it with other names.
        """
        path = self.directory / "config.toml"
        return _read(load_toml(path), str(path), path.parent)

    def ending(self) -> RunEnding | None:
        """Return the way in which the run ended. None while it should be going on.

        Raises:
            CheckpointError: The file is damaged.
        """
        return self._record("outcome.json", RunEnding)

    def end(self, state: str, message: str = "") -> None:
        """Record the ending of the run: one of the constants here, and a line for the operator."""
        write_json(self.directory / "outcome.json", RunEnding(state=state, message=message).to_json())

    def reopen(self) -> None:
        """Remove the ending, so that the run goes on."""
        (self.directory / "outcome.json").unlink(missing_ok=True)

    def submission(self) -> Submission | None:
        """Return the last hand-over to Flower. None before the first. Raises CheckpointError if it is damaged."""
        return self._record("submission.json", Submission)

    def submitted(self, flower_run: int, attempt: int) -> None:
        """Record the Flower run that executes this run, and the attempt number since the last finished round."""
        value = Submission(flower_run=str(flower_run), attempt=attempt, round=self.next_round())
        write_json(self.directory / "submission.json", value.to_json())

    def history(self) -> tuple[RoundRecord, ...]:
        """Return the finished rounds and the attempts that missed the quorum. Raises CheckpointError if damaged."""
        path = self.directory / "history.json"
        value = read_json(path) or []
        if not isinstance(value, list):
            raise CheckpointError(f"{path}: expected a list of rounds: restore the file from a backup")
        return tuple(RoundRecord.from_json(str(path), record) for record in value)

    def next_round(self) -> int:
        """Return the round that is under way or due, from 1."""
        return 1 + sum(bool(record.weights) for record in self.history())

    def progress(self) -> Progress | None:
        """Return the state of the round under way. None between rounds. Raises CheckpointError if damaged."""
        return self._record("progress.json", Progress)

    @contextmanager
    def executing(self, flower_run: str) -> Iterator[None]:
        """Hold the run while this process executes it. `is_executing` shows it to other processes.

        Args:
            flower_run: Flower's id of the run, for the record.

        Raises:
            CheckpointError: Another process executes it.
        """
        handle = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not try_lock(handle):
                raise CheckpointError(f"run {self.name}: another process executes it already: wait for it to end")
            os.ftruncate(handle, 0)
            executor = Executor(flower_run=flower_run, pid=os.getpid())
            os.pwrite(handle, json.dumps(executor.to_json()).encode(), 0)
            yield
        finally:
            os.close(handle)

    def is_executing(self) -> bool:
        """Return whether a process executes the run now."""
        try:
            handle = os.open(self._lock, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return not try_lock(handle, shared=True)
        finally:
            os.close(handle)

    def executor(self) -> Executor | None:
        """Return the process that executes the run, or was the last to. None if there was none yet."""
        try:
            return self._record(self._lock.name, Executor)
        except CheckpointError:  # the process is writing its own entry
            return None

    @property
    def _lock(self) -> Path:
        return self.directory / "executor.lock"

    def _record(self, name: str, kind: type[R]) -> R | None:
        path = self.directory / name
        value = read_json(path)
        return None if value is None else kind.from_json(str(path), value)


def _read(tables: Mapping[str, Any], source: str, start: Path) -> tuple[RunConfig, TestData | None]:
    with error_prefix(source):
        refuse_unknown(tables, (*RUN_SECTIONS, "data"))
        data = test_data(tables, start)
    config = parse_run({name: table for name, table in tables.items() if name in RUN_SECTIONS}, source)
    with error_prefix(source):
        kind = task(config.task)
        if not config.labels and kind.head.is_linear:
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
    config.aggregation.check_institutions(members)
