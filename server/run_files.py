"""What a run left in its output directory, read once and checked; absent files leave their part empty."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.errors import CheckpointError
from common.files import INFINITE
from common.report_words import METRICS

__all__ = ["Round", "RunFiles", "load_run"]

_DIGESTED = ("config.toml", "config.json", "versions.json", "history.json", "adapter/adapter_model.safetensors")
_LARGEST = 1e18


@dataclass(frozen=True)
class Round:
    """One round as history.json tells it; bytes over all institutions, seconds of wall time."""

    round: int
    asked: tuple[str, ...]
    contributed: tuple[str, ...]
    outcomes: Mapping[str, str]
    metrics: Mapping[str, float]
    by_institution: Mapping[str, Mapping[str, float]]
    epsilon: Mapping[str, float]
    bytes_up: int
    bytes_down: int
    seconds: float
    adapter_digest: str


@dataclass(frozen=True)
class RunFiles:
    """Everything the report may say; the dictionaries are those of the JSON files."""

    result: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    config_text: str = ""
    versions: Mapping[str, Any] = field(default_factory=dict)
    rounds: tuple[Round, ...] = ()
    statements: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)
    run_id: str = ""
    digests: Mapping[str, str] = field(default_factory=dict)

    @property
    def institutions(self) -> tuple[str, ...]:
        """All names that occur anywhere in the run, sorted."""
        found = set(self.statements) | set(self.result.get("epsilon") or {})
        return tuple(sorted(found.union(*({*r.asked, *r.by_institution} for r in self.rounds))))

    @property
    def unprotected(self) -> tuple[str, ...]:
        """Institutions whose noise came from a fixed seed: no record of theirs is protected."""
        stated = sorted(
            n for n, s in self.statements.items() if "NOT PRIVATE" in str(s.get("noise_source", "")).upper()
        )
        return tuple(stated) or (self.institutions if self.result.get("noise") == "fixed" else ())

    @property
    def without_privacy(self) -> bool:
        """Whether the run trained without differential privacy at all."""
        privacy = self.config.get("privacy")
        if isinstance(privacy, dict) and privacy.get("level") == "none":
            return True
        return bool(self.statements) and all(s.get("epsilon_run") is None for s in self.statements.values())

    @property
    def largest_epsilon(self) -> float | None:
        """The largest epsilon of any institution over this run, whichever file says so."""
        stated = [s["epsilon_run"] for s in self.statements.values() if s.get("epsilon_run") is not None]
        spent = [value for r in self.rounds for value in r.epsilon.values()]
        return max([*(self.result.get("epsilon") or {}).values(), *stated, *spent], default=None)


class _Reader:
    """Takes typed values out of one JSON object and names file and key when a value is of another kind."""

    def __init__(self, source: str, value: object) -> None:
        if not isinstance(value, dict):
            raise CheckpointError(
                f"{source}: expected a JSON object, found {_kind(value)}: restore the file or run again"
            )
        self.source, self.value = source, value

    def wrong(self, key: str, expected: str) -> CheckpointError:
        found = _kind(self.value.get(key))
        return CheckpointError(
            f"{self.source}: {key}: expected {expected}, found {found}: restore the file or run again"
        )

    def number(self, key: str, default: float | None = None) -> float | None:
        value = self.value.get(key)
        if value is None:
            return default
        value = math.inf if value == INFINITE else value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(key, "a number")
        if value != value or (abs(value) > _LARGEST and value != math.inf):  # NaN, or absurd
            raise CheckpointError(f"{self.source}: {key}: not a usable number: restore the file or run again")
        return value

    def whole(self, key: str) -> int:
        """A whole number of at least 0, 0 where there is none."""
        value = self.number(key)
        if value is not None and (value < 0 or value != value // 1):
            raise CheckpointError(
                f"{self.source}: {key}: not a whole number of at least 0: restore the file or run again"
            )
        return int(value or 0)

    def text(self, key: str) -> str:
        value = self.value.get(key)
        if value is not None and not isinstance(value, str):
            raise self.wrong(key, "a string")
        return value or ""

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.value.get(key)
        if value is not None and not (isinstance(value, list) and all(isinstance(v, str) for v in value)):
            raise self.wrong(key, "a list of strings")
        return tuple(value or ())

    def objects(self, key: str) -> list["_Reader"]:
        """The objects of a list; none where there is no list."""
        value = self.value.get(key)
        if value is not None and not isinstance(value, list):
            raise self.wrong(key, "a list of objects")
        return [_Reader(f"{self.source}: {key}[{index}]", each) for index, each in enumerate(value or [])]

    def inner(self, key: str) -> "_Reader":
        value = self.value.get(key)
        if value is not None and not isinstance(value, dict):
            raise self.wrong(key, "an object")
        return _Reader(f"{self.source}: {key}", value or {})

    def numbers(self, key: str) -> dict[str, float]:
        inner = self.inner(key)
        read = {name: inner.number(name) for name in sorted(inner.value)}
        return {name: value for name, value in read.items() if value is not None}


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "nothing"}
    return names.get(type(value), "a number")


def _json(path: Path) -> Any:
    """The value in a JSON file, or None where there is no such file."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: cannot be read ({type(error).__name__}): restore the file or run again"
        ) from error
    except ValueError as error:
        where = f"line {error.lineno}" if isinstance(error, json.JSONDecodeError) else "not text or not a usable number"
        raise CheckpointError(f"{path}: not valid JSON ({where}): restore the file or run again") from error


def _round(reader: _Reader) -> Round:
    if reader.value.get("round") is None:
        raise reader.wrong("round", "a number")
    outcomes = reader.inner("outcomes")
    by_institution = reader.inner("by_institution")
    return Round(
        round=reader.whole("round"),
        asked=reader.texts("asked"),
        contributed=reader.texts("contributed"),
        outcomes={name: outcomes.text(name) for name in sorted(outcomes.value)},
        metrics=reader.numbers("metrics"),
        by_institution={name: by_institution.numbers(name) for name in sorted(by_institution.value)},
        epsilon=reader.numbers("epsilon"),
        bytes_up=reader.whole("bytes_up"),
        bytes_down=reader.whole("bytes_down"),
        seconds=reader.number("seconds") or 0.0,
        adapter_digest=reader.text("adapter_digest"),
    )


def _checked_result(source: str, value: object) -> dict[str, Any]:
    reader = _Reader(source, value)
    for key in (*METRICS, "rounds", "delta", "bytes_up", "bytes_down", "seconds"):
        reader.number(key)
    for key in ("name", "task", "adapter_digest", "noise", "unit", "adjacency", "engine"):
        reader.text(key)
    for key in ("parameters_trained", "parameters_total"):
        reader.number(key)
    reader.texts("labels")
    rows = reader.value.get("baselines") or []
    if not isinstance(rows, list):
        raise reader.wrong("baselines", "a list")
    for index, row in enumerate(rows):
        inner = _Reader(f"{source}: baselines[{index}]", row)
        for key in ("name", "note"):
            inner.text(key)
        for key in METRICS:
            inner.number(key)
        row["epsilon"] = inner.number("epsilon")
    return {**reader.value, "epsilon": reader.numbers("epsilon"), "baselines": rows}


_STATED_NUMBERS = (
    "noise_multiplier", "clipping_norm", "sampling_probability", "steps", "delta", "epsilon_run",
    "epsilon_cumulative", "epsilon_prv", "epsilon_rdp", "max_epsilon", "ledger_entries", "gaussian_mu",
    "steps_of_unfinished_trainings",
)  # fmt: skip
_STATED_TEXTS = ("unit", "adjacency", "sampler", "accountant", "noise_source")
_STATED_LISTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {  # numbers and texts of each of their objects
    "mechanisms": (("noise_multiplier", "sampling_probability", "clipping_norm", "steps"), ()),
    "attack": (("false_positive_rate", "true_positive_rate"), ()),
    "groups": (("units", "epsilon", "delta"), ()),
    "adversaries": (("epsilon_run", "epsilon_all_runs"), ("who", "sees")),
}


def _statement(reader: _Reader) -> dict[str, Any]:
    read: dict[str, Any] = {key: reader.number(key) for key in _STATED_NUMBERS if key in reader.value}
    for key in _STATED_TEXTS:
        reader.text(key)
    for key, (numbers, texts) in _STATED_LISTS.items():
        read[key] = [
            {name: each.number(name) or 0.0 for name in numbers} | {name: each.text(name) for name in texts}
            for each in reader.objects(key)
        ]
    lists = {key: reader.texts(key) for key in ("covers", "does_not_cover", "data_fingerprints")}
    return {**reader.value, **read, **lists}


def load_run(out_dir: Path) -> RunFiles:
    """Read the files that a run left in `out_dir`.

    Raises:
        CheckpointError: the directory holds neither result, history nor configuration, or one of its JSON
            files is damaged; the message is one line and names the file.
    """
    result, history = _json(out_dir / "result.json"), _json(out_dir / "history.json")
    config, versions, run = (_json(out_dir / f"{name}.json") for name in ("config", "versions", "run"))
    if result is None and history is None and config is None:
        raise CheckpointError(f"{out_dir}: not the directory of a run (no result, history or config): name another one")
    if history is not None and not isinstance(history, list):
        raise CheckpointError(
            f"{out_dir / 'history.json'}: expected a list, found {_kind(history)}: restore it or run again"
        )
    rounds = [
        _round(_Reader(f"{out_dir / 'history.json'}: [{index}]", value)) for index, value in enumerate(history or [])
    ]
    statements: dict[str, Mapping[str, Any]] = {}
    limits: dict[str, float] = {}
    for directory in sorted((out_dir / "institutions").glob("*")):
        name = directory.name
        found = _json(directory / "statement.json")
        if found is not None:
            reader = _Reader(str(directory / "statement.json"), found)
            name = reader.text("institution") or name
            statements[name] = _statement(reader)
        settings = _Reader(str(directory / "settings.json"), _json(directory / "settings.json") or {})
        stated = statements.get(name, {}).get("max_epsilon")
        limit = settings.number("max_epsilon") if stated is None else stated
        if limit is not None:
            limits[name] = limit
    toml = out_dir / "config.toml"
    return RunFiles(
        result=_checked_result(str(out_dir / "result.json"), {} if result is None else result),
        config=_Reader(str(out_dir / "config.json"), {} if config is None else config).value,
        config_text=toml.read_text(encoding="utf-8", errors="replace") if toml.is_file() else "",
        versions=_Reader(str(out_dir / "versions.json"), {} if versions is None else versions).value,
        rounds=tuple(sorted(rounds, key=lambda r: r.round)),
        statements=statements,
        limits=limits,
        run_id=_Reader(str(out_dir / "run.json"), {} if run is None else run).text("run_id"),
        digests={name: _sha256(out_dir / name) for name in _DIGESTED if (out_dir / name).is_file()},
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
