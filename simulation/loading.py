"""Load the rows of a simulation from files or from the synthetic banks, divided among its institutions."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from common.data.corpora import read_corpus
from common.data.datasets import (
    Dataset,
    Example,
    examples_of,
    labels_of,
    merge,
    read_conll_documents,
    validate,
)
from common.data.tables import read_rows
from common.errors import ConfigurationError, DataError
from simulation.partition import HUB, Federation, Row, dirichlet_split, in_test, split_by_column, split_test
from simulation.synthetic import synthetic_banks

if TYPE_CHECKING:
    from simulation.config import DataConfig

__all__ = ["load_federation"]


def load_federation(
    cfg: "DataConfig", labels: Sequence[str], head: str, *, task: str = "sentiment_analysis", seed: int = 0
) -> Federation:
    """Return the rows of a simulation. Test rows of a separate file, or of a random division, have one part, "all".

    Args:
        cfg: Section [data] of the configuration.
        labels: Labels of the task in the order of the model's outputs. Empty: those of the training rows.
        head: Kind of the task's head, as in `common.tasks`.
        task: Name of the task, for the synthetic banks and for messages.
        seed: Of the division into training and test rows and among institutions.

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
    match head:
        case "sequence":
            return _sequences(cfg, cfg.train, tuple(labels), seed)
        case "token":
            return _sentences(cfg, cfg.train, tuple(labels), seed)
        case "masked" | "causal":
            return _texts(cfg, cfg.train, seed)
        case _:
            raise ConfigurationError(f'task.name: "{task}" cannot be simulated: choose one that labels texts or words')


def _sequences(cfg: "DataConfig", source: Path, labels: tuple[str, ...], seed: int) -> Federation:
    train, test = _read(cfg, source, (cfg.text_column, cfg.label_column), seed)
    known = labels or labels_of(row.values[cfg.label_column] for row in train)
    train_name, test_name = str(source), str(cfg.test or source)

    def dataset(rows: Sequence[Row], name: str, customer: str | None = None) -> Dataset:
        numbers, values = [row.number for row in rows], [row.values for row in rows]
        return examples_of(values, cfg.text_column, cfg.label_column, known, name, numbers, customer)

    pooled, hub = dataset(train, train_name, cfg.customer_column), dataset(test, test_name)
    validate(pooled)
    if not test:
        raise DataError(f"{test_name}: no rows are left for the test: raise data.test_fraction or name a test file")
    if cfg.institution_column is None:
        return Federation(dirichlet_split(pooled, cfg.institutions or 0, cfg.dirichlet_alpha, seed), hub, {HUB: hub})
    parts = {
        name: replace(dataset(rows, train_name, cfg.customer_column), name=name)
        for name, rows in split_by_column(train, cfg.institution_column, train_name).items()
    }
    if cfg.test is not None:
        return Federation(parts, hub, {HUB: hub})
    of_test = split_by_column(test, cfg.institution_column, test_name)
    return Federation(parts, hub, {n: replace(dataset(rows, test_name), name=n) for n, rows in of_test.items()})


def _texts(cfg: "DataConfig", source: Path, seed: int) -> Federation:
    """Load text without labels. The test rows may come from any corpus that `read_corpus` reads."""
    train, test = _read(replace(cfg, test=None), source, (cfg.text_column,), seed)
    if cfg.test is not None:
        test = [Row(number, {cfg.text_column: text}) for number, text in enumerate(read_corpus(cfg.test), start=1)]
    if not test:
        raise DataError(f"{source}: no texts are left for the test: raise data.test_fraction or name a test file")

    def dataset(rows: Sequence[Row], name: str, customer: str | None = None) -> Dataset:
        filled = [row for row in rows if row.values[cfg.text_column].strip()]
        for row in filled if customer else []:
            if not row.values[str(customer)].strip():
                raise DataError(f'{source}: row {row.number}, column "{customer}" is empty: fill it or leave it out')
        texts = [
            (row.values[cfg.text_column].strip(), row.values[customer].strip() if customer else None) for row in filled
        ]
        return Dataset(tuple(Example(text, 0, whose) for text, whose in texts), (), name)

    pooled, hub = dataset(train, str(source), cfg.customer_column), dataset(test, str(cfg.test or source))
    validate(pooled)
    if cfg.institution_column is None:
        return Federation(dirichlet_split(pooled, cfg.institutions or 0, cfg.dirichlet_alpha, seed), hub, {HUB: hub})
    column = cfg.institution_column
    named = split_by_column(train, column, str(source))
    parts = {name: dataset(rows, name, cfg.customer_column) for name, rows in named.items()}
    if cfg.test is not None:
        return Federation(parts, hub, {HUB: hub})
    of_test = {name: dataset(rows, name) for name, rows in split_by_column(test, column, str(source)).items()}
    return Federation(parts, hub, of_test)


def _read(cfg: "DataConfig", source: Path, wanted: Sequence[str], seed: int) -> tuple[list[Row], list[Row]]:
    optional = (cfg.customer_column, cfg.institution_column, cfg.split_column)
    extra = [column for column in optional if column is not None]
    rows = [Row(number, row) for number, row in enumerate(read_rows(source, [*wanted, *extra]), start=1)]
    if cfg.test is not None:
        kept = [row for row in rows if not _is_test_value(cfg, row)]
        return kept, [Row(number, row) for number, row in enumerate(read_rows(cfg.test, wanted), start=1)]
    if cfg.split_column is None:
        chosen = [in_test(row.values[cfg.text_column].strip(), cfg.test_fraction, seed) for row in rows]
    else:
        for row in rows:
            if cfg.test_values is None and row.values[cfg.split_column].strip() not in {"train", "test"}:
                raise DataError(f'{source}: row {row.number}, column "{cfg.split_column}" is neither train nor test')
        chosen = [_is_test_value(cfg, row) for row in rows]
    return (
        [row for row, testing in zip(rows, chosen, strict=True) if not testing],
        [row for row, testing in zip(rows, chosen, strict=True) if testing],
    )


def _is_test_value(cfg: "DataConfig", row: Row) -> bool:
    return cfg.split_column is not None and row.values[cfg.split_column].strip() in (cfg.test_values or ("test",))


def _sentences(cfg: "DataConfig", source: Path, labels: tuple[str, ...], seed: int) -> Federation:
    """Load CoNLL files. Their documents are the institutions if institution_column is "document"."""
    documents = read_conll_documents(source, labels)
    known = documents[0].labels
    if cfg.test is not None:
        test = merge(read_conll_documents(cfg.test, known), str(cfg.test))
    else:
        sides = [split_test(document, cfg.test_fraction, seed, document.name) for document in documents]
        documents = tuple(train for train, _ in sides if train.examples)
        test = merge([held_out for _, held_out in sides], str(source))
    pooled = merge(documents, str(source))
    validate(pooled)
    if not len(test):
        raise DataError(f"{source}: no sentences are left for the test: raise data.test_fraction or name a test file")
    if cfg.institution_column is None:
        train = dirichlet_split(pooled, cfg.institutions or 0, cfg.dirichlet_alpha, seed)
    elif cfg.institution_column == "document":
        train = {document.name: document for document in documents}
    else:
        raise ConfigurationError(
            'data.institution_column: CoNLL files have no columns: use "document", or institutions'
        )
    return Federation(train, test, {HUB: test})
