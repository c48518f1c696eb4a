"""Rows are divided among institutions without loss, repeatably, and never too thinly."""

import pytest

from common.data.datasets import Dataset, Example
from common.errors import ConfigurationError, DataError
from simulation.partition import Row, dirichlet_split, split_by_column, split_test


def texts(dataset: Dataset) -> list[str]:
    return [e.text for e in dataset.examples if isinstance(e, Example)]


@pytest.mark.parametrize("alpha", [None, 0.3, 100.0])
def test_dealing_out_keeps_every_example_once(alpha: float | None) -> None:
    whole = Dataset(tuple(Example(f"t{i}", i % 3) for i in range(600)), ("a", "b", "c"), "x")
    parts = dirichlet_split(whole, 4, alpha, seed=1)
    assert sorted(t for d in parts.values() for t in texts(d)) == sorted(texts(whole))
    assert parts == dirichlet_split(whole, 4, alpha, seed=1)
    assert parts != dirichlet_split(whole, 4, alpha, seed=2)
    spread = [max(c) / len(d) for d in parts.values() for c in [d.label_counts()]]
    assert max(spread) > 0.6 if alpha == 0.3 else max(spread) < 0.5


def test_dealing_out_too_thinly_is_refused() -> None:
    whole = Dataset(tuple(Example(f"t{i}", i % 2) for i in range(100)), ("a", "b"), "x")
    with pytest.raises(ConfigurationError, match="10 rows each"):
        dirichlet_split(whole, 11, None, 0)
    with pytest.raises(ConfigurationError, match="dirichlet_alpha"):
        dirichlet_split(whole, 10, 0.01, 0)


def test_names_of_institutions_become_names_of_directories() -> None:
    rows = [Row(1, {"desk": "FX & Rates"}), Row(2, {"desk": "banks"}), Row(3, {"desk": " FX & Rates "})]
    assert {name: [row.number for row in part] for name, part in split_by_column(rows, "desk", "a.csv").items()} == {
        "banks": [2],
        "fx_rates": [1, 3],
    }
    with pytest.raises(DataError, match=r'a\.csv: row 4, column "desk" differs from "banks"'):
        split_by_column([*rows, Row(4, {"desk": "Banks!"})], "desk", "a.csv")


def test_held_out_rows_depend_on_their_own_text_alone() -> None:
    whole = Dataset(tuple(Example(f"t{i}", i % 2) for i in range(500)), ("a", "b"), "x")
    train, test = split_test(whole, 0.2, 7, "bank")
    assert sorted(texts(train) + texts(test)) == sorted(texts(whole))
    assert len(test) / 500 == pytest.approx(0.2, abs=0.06)
    half = Dataset(whole.examples[:250], ("a", "b"), "x")
    assert texts(split_test(half, 0.2, 7, "bank")[1]) == [text for text in texts(test) if text in texts(half)]
