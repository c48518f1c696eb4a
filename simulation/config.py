"""The TOML file of a simulation: the run, the data of its institutions, and the decisions of those institutions."""

import math
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

__all__ = ["DataConfig", "Engine", "InstitutionsConfig", "SimulationConfig", "load_simulation"]

Engine = Literal["in-process", "flower"]
VARIABLE = "FEDFIN_DATA"
FALLBACK = Path("..", "shared", "data")
_FILES_ONLY = (
    "train", "test", "public", "customer_column", "institution_column", "split_column", "institutions",
    "dirichlet_alpha",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class DataConfig(Section):
    """Section [data]: the origin of the text, and its division among institutions.

    Attributes:
        source: "synthetic" for the four banks of the package's grammar, or "files".
        train: A file, folder or pattern that `common.data.reading` reads. For a language model any text.
        text_column, label_column: None takes the usual names for the task: "text" and "label", or "tokens" and
            "ner_tags".
        customer_column: Column that names the customer of a row, if privacy.unit is "customer". In a CoNLL file each
            document is a customer.
        institution_column: Column that divides the rows among institutions. Excludes `institutions`.
        institutions: Number of institutions among which the rows are divided at random: evenly, or with a label skew
            if `dirichlet_alpha` is given (smaller is stronger). One institution is central training.
        test: File with the test rows. Without it and without `split_column`, `test_fraction` of the rows is held out.
        split_column: Column that says "train" or "test".
        test_values: Values of `split_column` that mark a test row, such as a year, instead of "test". All other rows
            train. If `test` is given too, the marked rows are left out.
        public: Public text (a file or folder). A missing head of a language model is warmed up on its first
            `public_texts` texts, before round 1.
    """

    section = "data"
    source: Literal["files", "synthetic"] = "files"
    train: Path | None = None
    test: Path | None = None
    text_column: str | None = None
    label_column: str | None = None
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
            self.text_column or "text", self.label_column or "label", self.customer_column, self.institution_column,
            self.split_column,
        ]  # fmt: skip
        named = [column for column in columns if column is not None]
        if len(set(named)) != len(named):
            twice = next(column for column in named if named.count(column) > 1)
            self.refuse("text_column", f'and the other columns must differ: "{twice}" is named twice')


@dataclass(frozen=True, kw_only=True)
class InstitutionsConfig(Section):
    """Section [institutions]: the decisions of every simulated institution.

    Attributes:
        max_epsilon: Limit of its ledger, at the run's delta.
        max_epsilon_alone: The same without the assumption of secure aggregation. None takes `max_epsilon`.
        declare_units: Whether it declares the largest power of two up to its number of records.
        noise: "fixed" repeats itself for tests and protects nobody.
    """

    section = "institutions"
    max_epsilon: Annotated[float | None, Range(0, above=True)] = None
    max_epsilon_alone: Annotated[float | None, Range(0, above=True)] = None
    declare_units: bool = True
    noise: Literal["system", "fixed"] = "system"

    def check(self) -> None:
        if self.max_epsilon_alone is not None and self.max_epsilon_alone < (self.max_epsilon or math.inf):
            self.refuse("max_epsilon_alone", "is below max_epsilon, or that is missing: raise it, or leave it out")


@dataclass(frozen=True)
class SimulationConfig:
    """The configuration of one simulation.

    Attributes:
        data: None if the rows were given from Python, by `simulation.in_memory.simulate`.
        source: The file. None if the run was given from Python.
        text: Content of the file, with the changes.
    """

    run: RunConfig
    data: DataConfig | None
    institutions: InstitutionsConfig
    source: Path | None
    text: str


def load_simulation(path: Path, relative_to: Path | None = None, changes: Sequence[str] = ()) -> SimulationConfig:
    """Read a simulation's file. The data paths in the result are absolute.

    Args:
        relative_to: Directory that relative data paths start from. If None, the directory of the file.
        changes: Values in place of the file's, each as `section.key=value`.

    Raises:
        ConfigurationError: One line that names the file, `section.key`, the problem and the remedy.
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
            run.aggregation.check_institutions(data.institutions)
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
