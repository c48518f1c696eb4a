"""Read and check the files in a run's directory. The report leaves out the parts whose files are absent."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from common.errors import CheckpointError
from common.report.json_reader import JsonReader, describe_kind, read_json
from common.report.records import AuditResult, ResultRecord, RoundRecord
from common.report.statement_record import StatementRecord

__all__ = ["RunFiles", "load_run"]

_DIGESTED = ("config.toml", "config.json", "versions.json", "history.json", "adapter/adapter_model.safetensors")


@dataclass(frozen=True)
class RunFiles:
    """The content of a run's directory, as far as a report may show it.

    Attributes:
        result: Content of result.json. An empty record if there is no such file.
        config, config_text: Configuration as parsed JSON, and as the TOML file.
        versions: Versions of the packages that the run used.
        rounds: Finished and missed rounds, in order.
        statements: By institution, without the number of records, which is the institution's own.
        limits: Epsilon limit by institution, for those that have one.
        audit: Findings of an audit. None if there was none.
        digests: SHA-256 by file name, in hex.
        names: By institution, its name in the data of a simulation if that is another.
        notes: Facts about the rows of a simulation, one sentence each.
    """

    result: ResultRecord = field(default_factory=ResultRecord)
    config: Mapping[str, Any] = field(default_factory=dict)
    config_text: str = ""
    versions: Mapping[str, Any] = field(default_factory=dict)
    rounds: tuple[RoundRecord, ...] = ()
    statements: Mapping[str, StatementRecord] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)
    audit: AuditResult | None = None
    run_id: str = ""
    digests: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def institutions(self) -> tuple[str, ...]:
        """All names that occur anywhere in the run, sorted."""
        names = set(self.statements) | set(self.result.epsilon)
        return tuple(sorted(names.union(*({*r.asked, *(r.by_institution or {})} for r in self.rounds))))

    @property
    def unprotected(self) -> tuple[str, ...]:
        """Institutions whose noise came from a fixed seed, so that none of their records is protected."""
        stated = sorted(name for name, statement in self.statements.items() if statement.is_fixed_noise)
        return tuple(stated) or (self.institutions if self.result.noise == "fixed" else ())

    @property
    def without_privacy(self) -> bool:
        """Whether the run trained without differential privacy at all."""
        privacy = self.config.get("privacy")
        # Files of earlier releases say "level".
        if isinstance(privacy, dict) and "none" in (privacy.get("mode"), privacy.get("level")):
            return True
        return bool(self.statements) and all(s.epsilon_run is None for s in self.statements.values())

    @property
    def largest_epsilon(self) -> float | None:
        """The largest epsilon of any institution over this run, in any of the files."""
        values = [*self.result.epsilon.values(), *(s.epsilon_run for s in self.statements.values())]
        spent = [value for record in self.rounds for value in record.epsilon.values()]
        return max([*(value for value in values if value is not None), *spent], default=None)


def load_run(out_dir: Path) -> RunFiles:
    """Read the files in `out_dir`, the directory of a run of this or an earlier release.

    Raises:
        CheckpointError: The directory holds neither result, history nor configuration, or one of its JSON files is
            damaged. The message is one line and names the file.
    """
    result, history = read_json(out_dir / "result.json"), read_json(out_dir / "history.json")
    config, versions, run = (read_json(out_dir / f"{name}.json") for name in ("config", "versions", "run"))
    if result is None and history is None and config is None:
        raise CheckpointError(f"{out_dir}: not the directory of a run (no result, history or config): name another one")
    if history is not None and not isinstance(history, list):
        kind = describe_kind(history)
        raise CheckpointError(f"{out_dir / 'history.json'}: expected a list, found {kind}: restore it or run again")
    rounds = [
        RoundRecord.from_json(f"{out_dir / 'history.json'}: [{index}]", value)
        for index, value in enumerate(history or [])
    ]
    statements, limits = _institutions(out_dir / "institutions")
    toml, audit = out_dir / "config.toml", read_json(out_dir / "audit.json")
    data = JsonReader(str(out_dir / "data.json"), read_json(out_dir / "data.json") or {})
    names = data.inner("names")
    return RunFiles(
        result=ResultRecord.from_json(str(out_dir / "result.json"), {} if result is None else result),
        config=JsonReader(str(out_dir / "config.json"), {} if config is None else config).value,
        config_text=toml.read_text(encoding="utf-8", errors="replace") if toml.is_file() else "",
        versions=JsonReader(str(out_dir / "versions.json"), {} if versions is None else versions).value,
        rounds=tuple(sorted(rounds, key=lambda record: record.round)),
        statements=statements,
        limits=limits,
        audit=None if audit is None else AuditResult.from_json(str(out_dir / "audit.json"), audit),
        run_id=JsonReader(str(out_dir / "run.json"), {} if run is None else run).text("run_id") or "",
        digests={name: _sha256(out_dir / name) for name in _DIGESTED if (out_dir / name).is_file()},
        names={name: names.text(name) or name for name in sorted(names.value)},
        notes=data.texts("notes"),
    )


def _institutions(directory: Path) -> tuple[dict[str, StatementRecord], dict[str, float]]:
    """Return the statement and the epsilon limit of each institution that has one."""
    statements: dict[str, StatementRecord] = {}
    limits: dict[str, float] = {}
    for own in sorted(directory.glob("*")):
        name, path = own.name, own / "statement.json"
        value = read_json(path)
        limit = JsonReader(str(own / "settings.json"), read_json(own / "settings.json") or {}).number("max_epsilon")
        if value is not None:
            statement = StatementRecord.from_json(str(path), value)
            name = statement.institution or name
            # The number of records is the institution's own, and a report may be shown to others.
            statements[name] = replace(statement, num_units=None, delta_times_num_units=None)
            limit = limit if statement.max_epsilon is None else statement.max_epsilon
        if limit is not None:
            limits[name] = limit
    return statements, limits


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
