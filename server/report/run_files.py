"""What a run left in its output directory, read once and checked; absent files leave their part empty."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.errors import CheckpointError
from common.report.formatting import METRICS
from server.report.json_reader import JsonReader, kind, read_json

__all__ = ["Round", "RunFiles", "load_run"]

_DIGESTED = ("config.toml", "config.json", "versions.json", "history.json", "adapter/adapter_model.safetensors")


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
    audit: Mapping[str, Any] | None = None
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
        if isinstance(privacy, dict) and privacy.get("mode") == "none":
            return True
        return bool(self.statements) and all(s.get("epsilon_run") is None for s in self.statements.values())

    @property
    def largest_epsilon(self) -> float | None:
        """The largest epsilon of any institution over this run, whichever file says so."""
        stated = [s["epsilon_run"] for s in self.statements.values() if s.get("epsilon_run") is not None]
        spent = [value for r in self.rounds for value in r.epsilon.values()]
        return max([*(self.result.get("epsilon") or {}).values(), *stated, *spent], default=None)


def _round(reader: JsonReader) -> Round:
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
    reader = JsonReader(source, value)
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
        inner = JsonReader(f"{source}: baselines[{index}]", row)
        for key in ("name", "note"):
            inner.text(key)
        for key in METRICS:
            inner.number(key)
        row["epsilon"] = inner.number("epsilon")
    return {**reader.value, "epsilon": reader.numbers("epsilon"), "baselines": rows}


_STATED_NUMBERS = (
    "noise_multiplier", "clipping_norm", "sampling_probability", "steps", "delta", "epsilon_run",
    "epsilon_cumulative", "epsilon_prv", "epsilon_rdp", "max_epsilon", "ledger_entries", "gaussian_mu",
    "steps_of_unfinished_trainings", "max_epsilon_delta", "epsilon_of_limit_spent",
)  # fmt: skip
_STATED_TEXTS = (
    "unit", "adjacency", "sampler", "sampler_assumed", "sampler_implemented", "accountant", "noise_source",
)  # fmt: skip
_LEFT_OUT = ("population", "delta_times_population")  # an institution's own: a report may be shown to others
_STATED_LISTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {  # numbers and texts of each of their objects
    "mechanisms": (("noise_multiplier", "sampling_probability", "clipping_norm", "steps"), ()),
    "attack": (("false_positive_rate", "true_positive_rate"), ()),
    "curve": (("delta", "epsilon"), ()),
    "groups": (("units", "epsilon", "delta"), ()),
    "adversaries": (("epsilon_run", "epsilon_all_runs"), ("who", "sees")),
}


def _statement(reader: JsonReader) -> dict[str, Any]:
    read: dict[str, Any] = {key: reader.number(key) for key in _STATED_NUMBERS if key in reader.value}
    for key in _STATED_TEXTS:
        reader.text(key)
    for key, (numbers, texts) in _STATED_LISTS.items():
        read[key] = [
            {name: each.number(name) or 0.0 for name in numbers} | {name: each.text(name) for name in texts}
            for each in reader.objects(key)
        ]
    lists = {key: reader.texts(key) for key in ("covers", "does_not_cover", "data_fingerprints")}
    given = {key: value for key, value in reader.value.items() if key not in _LEFT_OUT}
    return {**given, **read, **lists}


_AUDITED_NUMBERS = (
    "claimed_epsilon", "lower_bound", "confidence", "delta", "canaries", "guesses", "right_guesses",
    "largest_possible_bound", "noise_multiplier", "claimed_noise_multiplier", "clipping_norm",
    "sampling_probability", "steps", "steps_attacked",
)  # fmt: skip
_INVERTED = ("rank", "sentences", "tokens", "plain", "clipped", "private", "chance", "place")


def _audit(reader: JsonReader) -> dict[str, Any]:
    """What `fedfin-institution audit` found."""
    inversion = reader.inner("inversion")
    checks = [
        {key: each.text(key) for key in ("name", "what")} | {key: each.number(key) for key in ("measured", "stated")}
        for each in reader.objects("checks")
    ]
    return {
        **{key: reader.number(key) or 0.0 for key in _AUDITED_NUMBERS},
        "unit": reader.text("unit"),
        "failed": reader.texts("failed"),
        "planted": reader.value.get("planted") is True,
        "config_digest": reader.text("config_digest"),
        "checks": checks,
        "inversion": {key: inversion.number(key) or 0.0 for key in _INVERTED} | {"example": inversion.texts("example")},
    }


def load_run(out_dir: Path) -> RunFiles:
    """Read the files that a run left in `out_dir`.

    Raises:
        CheckpointError: the directory holds neither result, history nor configuration, or one of its JSON
            files is damaged; the message is one line and names the file.
    """
    result, history = read_json(out_dir / "result.json"), read_json(out_dir / "history.json")
    config, versions, run = (read_json(out_dir / f"{name}.json") for name in ("config", "versions", "run"))
    if result is None and history is None and config is None:
        raise CheckpointError(f"{out_dir}: not the directory of a run (no result, history or config): name another one")
    if history is not None and not isinstance(history, list):
        raise CheckpointError(
            f"{out_dir / 'history.json'}: expected a list, found {kind(history)}: restore it or run again"
        )
    rounds = [
        _round(JsonReader(f"{out_dir / 'history.json'}: [{index}]", value)) for index, value in enumerate(history or [])
    ]
    statements: dict[str, Mapping[str, Any]] = {}
    limits: dict[str, float] = {}
    for directory in sorted((out_dir / "institutions").glob("*")):
        name = directory.name
        found = read_json(directory / "statement.json")
        if found is not None:
            reader = JsonReader(str(directory / "statement.json"), found)
            name = reader.text("institution") or name
            statements[name] = _statement(reader)
        settings = JsonReader(str(directory / "settings.json"), read_json(directory / "settings.json") or {})
        stated = statements.get(name, {}).get("max_epsilon")
        limit = settings.number("max_epsilon") if stated is None else stated
        if limit is not None:
            limits[name] = limit
    toml, audited = out_dir / "config.toml", read_json(out_dir / "audit.json")
    return RunFiles(
        result=_checked_result(str(out_dir / "result.json"), {} if result is None else result),
        config=JsonReader(str(out_dir / "config.json"), {} if config is None else config).value,
        config_text=toml.read_text(encoding="utf-8", errors="replace") if toml.is_file() else "",
        versions=JsonReader(str(out_dir / "versions.json"), {} if versions is None else versions).value,
        rounds=tuple(sorted(rounds, key=lambda r: r.round)),
        statements=statements,
        limits=limits,
        audit=None if audited is None else _audit(JsonReader(str(out_dir / "audit.json"), audited)),
        run_id=JsonReader(str(out_dir / "run.json"), {} if run is None else run).text("run_id"),
        digests={name: _sha256(out_dir / name) for name in _DIGESTED if (out_dir / name).is_file()},
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
