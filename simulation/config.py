"""A simulation's TOML file: the run, the data its institutions hold, and what those institutions would decide."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tomli_w

from common.config.run import RUN_SECTIONS, RunConfig, parse_run
from common.config.sections import Range, Section, build, error_prefix, refuse_unknown
from common.config.toml import apply_overrides, parse_toml, read_config
from common.errors import ConfigurationError

__all__ = ["DataConfig", "InstitutionsConfig", "SimulationConfig", "load_simulation"]

VARIABLE = "FEDFIN_DATA"
FALLBACK = Path("..", "shared", "data")
_FILES_ONLY = (
    "train", "test", "public", "customer_column", "institution_column", "split_column", "institutions",
    "dirichlet_alpha",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class DataConfig(Section):
    """Where the text comes from and which institution holds which part.

    source: "synthetic" for the four banks of our grammar, or "files".
    customer_column: whose a row is, where privacy.unit is "customer"; in a CoNLL file each document is one.
    institution_column, or institutions: rows divided by a column, or dealt out to that many; evenly, or with a label
    skew where dirichlet_alpha is given (smaller is stronger). One institution is central training.
    test, or split_column: a file of its own, or a column that says "train" or "test"; else `test_fraction` is held out.
    test_values: instead of "test", what a test row holds in split_column, such as a year; all others train. With `test`
    too, those rows are left out.
    public: text that anybody may read (a file or folder): a missing head of a language model is warmed up on its first
    `public_texts`, before round 1.
    """

    section = "data"
    source: Literal["files", "synthetic"] = "files"
    train: Path | None = None
    test: Path | None = None
    text_column: str = "text"
    label_column: str = "label"
    customer_column: str | None = None
    institution_column: str | None = None
    split_column: str | None = None
    test_values: tuple[str, ...] | None = None
    public: Path | None = None
    public_texts: Annotated[int, Range(16, 10_000_000)] = 4000
    institutions: Annotated[int | None, Range(1, 10_000)] = None
    dirichlet_alpha: Annotated[float | None, Range(0, 1_000_000, above=True)] = None
    test_fraction: Annotated[float, Range(0, 1, above=True, below=True)] = 0.2

    def check(self) -> None:
        if self.source == "synthetic":
            for key in _FILES_ONLY:
                if getattr(self, key) is not None:
                    self.refuse(key, 'is given, but source = "synthetic" needs no files: leave one of the two out')
            return
        if self.train is None:
            self.refuse("train", 'is missing: give the path of a data file, or source = "synthetic"')
        if (self.institution_column is None) == (self.institutions is None):
            both = "is missing" if self.institutions is None else "stands beside data.institutions"
            self.refuse("institution_column", f"{both}: give exactly one of institution_column and institutions")
        if self.dirichlet_alpha is not None and self.institutions is None:
            self.refuse("dirichlet_alpha", "goes with data.institutions, the number to deal the rows out to: give it")
        if self.test is not None and self.split_column is not None and self.test_values is None:
            self.refuse("split_column", "stands beside data.test: give at most one of them")
        if self.test_values is not None and self.split_column is None:
            self.refuse("test_values", "goes with data.split_column, the column that holds them: give it")
        columns = [
            self.text_column, self.label_column, self.customer_column, self.institution_column, self.split_column,
        ]  # fmt: skip
        named = [column for column in columns if column is not None]
        if len(set(named)) != len(named):
            twice = next(column for column in named if named.count(column) > 1)
            self.refuse("text_column", f'and the other columns must differ: "{twice}" is named twice')


@dataclass(frozen=True, kw_only=True)
class InstitutionsConfig(Section):
    """What every simulated institution decides for itself.

    max_epsilon: limit of its ledger at the run's delta. declare_units: whether it declares the power of two below its
    number of records. noise: "fixed" repeats itself for tests and protects nobody.
    """

    section = "institutions"
    max_epsilon: Annotated[float | None, Range(0, above=True)] = None
    declare_units: bool = True
    noise: Literal["system", "fixed"] = "system"


@dataclass(frozen=True)
class SimulationConfig:
    """One simulation. `source` is the file; `text` is what stood in it, changes included.

    data: None if the rows were given from Python, by `simulation.simulate`.
    """

    run: RunConfig
    data: DataConfig | None
    institutions: InstitutionsConfig
    source: Path | None
    text: str


def load_simulation(path: Path, relative_to: Path | None = None, changes: Sequence[str] = ()) -> SimulationConfig:
    """Read a simulation's file; its data paths are absolute afterwards.

    Args:
        relative_to: the directory that relative data paths start from; the file's own by default.
        changes: values to put in place of the file's, each as `section.key=value`.

    Raises:
        ConfigurationError: one line naming the file, `section.key`, what is wrong and what to do.
    """
    text, source = read_config(path), str(path)
    tables = parse_toml(text, source)
    if changes:
        tables = apply_overrides(tables, changes)
        text = f"# {path.name}, with {', '.join(changes)}\n{tomli_w.dumps(tables)}"
    with error_prefix(source):
        refuse_unknown(tables, (*RUN_SECTIONS, "data", "institutions"))
        if "data" not in tables:
            raise ConfigurationError('data is missing: add [data] with train = "FILE", or source = "synthetic"')
    run = parse_run({name: table for name, table in tables.items() if name in RUN_SECTIONS}, source)
    with error_prefix(source):
        data = _resolved(build(DataConfig, tables["data"]), relative_to or path.parent)
        institutions = build(InstitutionsConfig, tables.get("institutions", {}))
        if data.institutions is not None:
            for key in ("quorum", "institutions_per_round"):
                if (getattr(run.aggregation, key) or 0) > data.institutions:
                    run.aggregation.refuse(key, f"is more than data.institutions = {data.institutions}: lower it")
    return SimulationConfig(run=run, data=data, institutions=institutions, source=path, text=text)


def _resolved(data: DataConfig, start: Path) -> DataConfig:
    train, test, public = (_absolute(data, key, start) for key in ("train", "test", "public"))
    return replace(data, train=train, test=test, public=public)


def _absolute(data: DataConfig, key: str, start: Path) -> Path | None:
    path: Path | None = getattr(data, key)
    if path is None:
        return None
    first = path.parts[0] if path.parts else ""
    if not first.startswith("$"):
        return (start / path).resolve()
    if first != f"${VARIABLE}":
        data.refuse(key, f"starts with {first}: ${VARIABLE} is the only variable used here")
    root = Path(os.environ.get(VARIABLE) or FALLBACK)
    if not root.is_dir():
        state = f"is {root}, which is no directory" if os.environ.get(VARIABLE) else "is not set"
        data.refuse(key, f"uses ${VARIABLE}, which {state}: set {VARIABLE} to your data directory")
    return root.joinpath(*path.parts[1:]).resolve()
