"""Load the rows of a simulation from files or from the synthetic banks, divided among its institutions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from common.data.conll import DOCUMENT
from common.data.corpora import read_text_records
from common.data.datasets import Dataset, Example, validate
from common.data.files import is_conll
from common.data.reading import labels_of_records, reading_notes, refuse_unused_kinds, to_dataset
from common.data.records import Columns, Records, read_records
from common.errors import ConfigurationError, DataError
from common.tasks import Head, task
from simulation.partition import (
    HUB,
    Federation,
    dirichlet_split,
    in_test,
    institution_names,
    leave_test_rows_out,
    split_by_column,
)
from simulation.synthetic import synthetic_banks

if TYPE_CHECKING:
    from simulation.config import DataConfig, SimulationConfig

__all__ = ["federation_of", "load_federation"]


def federation_of(simulation: "SimulationConfig") -> Federation:
    """Return the rows that section [data] of a simulation names. Neither torch nor a model is loaded for it.

    Raises:
        ConfigurationError, DataError: As `load_federation`, or there is no such section.
    """
    if simulation.data is None:
        raise ConfigurationError("data is missing: a simulation from a file names its rows in [data]")
    run = simulation.run
    head = task(run.task).head
    return load_federation(simulation.data, run.labels, head, task=run.task, seed=run.seed, answers=run.answers)


def load_federation(
    cfg: "DataConfig",
    labels: Sequence[str],
    head: str,
    *,
    task: str = "sentiment_analysis",
    seed: int = 0,
    answers: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> Federation:
    """Return the rows of a simulation. Test rows of a separate file, or of a random division, have one part, "all".

    Args:
        cfg: Section [data] of the configuration.
        labels: Labels of the task in the order of the model's outputs. Empty: those of the training rows.
        head: Kind of the task's head, as in `common.tasks`.
        task: Name of the task, for the synthetic banks and for messages.
        seed: Of the division into training and test rows and among institutions.
        answers: Of instructions, the allowed answers by kind.

    Raises:
        ConfigurationError: The settings do not divide the data, or the task cannot be simulated.
        DataError: A file cannot be used. See `common.data.datasets`.
    """
    if cfg.source == "synthetic":
        banks = synthetic_banks(seed, task)
        if labels and tuple(labels) != banks.test.labels:
            raise ConfigurationError(
                f"task.labels: the synthetic banks have {', '.join(banks.test.labels)}: leave it out"
            )
        return banks
    if cfg.train is None:
        raise ConfigurationError('data.train is missing: give the path of a data file, or source = "synthetic"')
    kind = Head(head)
    if kind.is_language_modelling:
        return leave_test_rows_out(_texts(cfg, cfg.train, seed))
    return leave_test_rows_out(_labelled(cfg, cfg.train, kind, tuple(labels), seed, answers))


def _labelled(
    cfg: "DataConfig",
    source: Path,
    head: Head,
    labels: tuple[str, ...],
    seed: int,
    answers: Mapping[str, Sequence[str]],
) -> Federation:
    """Load rows with labels. The documents of CoNLL files are the institutions if institution_column is "document"."""
    if is_conll(source, head) and cfg.institution_column not in (None, DOCUMENT):
        raise ConfigurationError(
            f'data.institution_column: CoNLL files have no columns: use "{DOCUMENT}", or institutions'
        )
    every = read_records(source, head, _columns(cfg, cfg.customer_column, cfg.institution_column, cfg.split_column))
    train, test = _divide(cfg, every, seed)
    if cfg.test is not None:
        test = read_records(cfg.test, head, _columns(cfg, None, None, None))
    # Labels are those of the whole file: a rare one may be in the test rows alone.
    known = labels or (() if head.writes_text else labels_of_records(every, head))

    def dataset(records: Records, name: str) -> Dataset:
        made = to_dataset(records, head, known, numbered=every.own_labels, name=name, answers=answers)
        return replace(made, labels_from_rows=bool(known) and not labels)

    return _federation(cfg, train, test, dataset, seed)


def _texts(cfg: "DataConfig", source: Path, seed: int) -> Federation:
    """Load text without labels from any corpus. Only a table has columns for institutions, customers and splits."""
    every = read_text_records(source, _columns(cfg, cfg.customer_column, cfg.institution_column, cfg.split_column))
    train, test = _divide(cfg, every, seed)
    if cfg.test is not None:
        test = read_text_records(cfg.test, _columns(cfg, None, None, None))

    def dataset(records: Records, name: str) -> Dataset:
        return Dataset(tuple(Example(str(row.text), 0, row.customer) for row in records.rows), (), name)

    return _federation(cfg, train, test, dataset, seed)


def _columns(cfg: "DataConfig", customer: str | None, *others: str | None) -> Columns:
    other = tuple(column for column in others if column is not None)
    return Columns(text=cfg.text_column, label=cfg.label_column, customer=customer, other=other)


def _federation(
    cfg: "DataConfig", train: Records, test: Records, dataset: Callable[[Records, str], Dataset], seed: int
) -> Federation:
    """Divide training rows among institutions, and test rows too if they come from the same file."""
    pooled, test_name = dataset(train, train.name), test.name
    validate(pooled)
    refuse_unused_kinds(pooled, "task.answers")
    if not test.rows:
        raise DataError(f"{test_name}: no rows are left for the test: raise data.test_fraction or name a test file")
    hub = dataset(test, test_name)
    column = cfg.institution_column
    sides = (("Training rows", pooled), ("Test rows", hub))
    notes = tuple(f"{side}: {note}." for side, rows in sides for note in reading_notes(rows))
    if column is None:
        parts = dirichlet_split(pooled, cfg.institutions or 0, cfg.dirichlet_alpha, seed)
        return Federation(parts, hub, {HUB: hub}, notes=notes)
    names = institution_names((*train.rows, *(test.rows if cfg.test is None else ())), column)
    shown = {name: value for value, name in names.items() if name.startswith("institution_")}
    parts = {name: dataset(rows, name) for name, rows in split_by_column(train, column, names).items()}
    by_institution = {HUB: hub}
    if cfg.test is None and not test.row_is_word:
        by_institution = {name: dataset(rows, name) for name, rows in split_by_column(test, column, names).items()}
    return Federation(parts, hub, by_institution, shown, notes)


def _divide(cfg: "DataConfig", every: Records, seed: int) -> tuple[Records, Records]:
    """Return training and test rows of one file. With a separate test file, rows marked as test rows are left out."""
    if cfg.split_column is not None:
        for row in every.rows:
            if cfg.test_values is None and row.other[cfg.split_column] not in {"train", "test"}:
                raise DataError(f"{row.where(cfg.split_column)} is neither train nor test")
        chosen = [row.other[cfg.split_column] in (cfg.test_values or ("test",)) for row in every.rows]
    elif cfg.test is None:
        texts = (row.text if isinstance(row.text, str) else " ".join(row.text) for row in every.rows)
        chosen = [in_test(text, cfg.test_fraction, seed) for text in texts]
    else:
        chosen = [False] * len(every.rows)
    train, test = (
        replace(every, rows=tuple(row for row, tested in zip(every.rows, chosen, strict=True) if tested == side))
        for side in (False, True)
    )
    return train, replace(test, num_blank=0)
