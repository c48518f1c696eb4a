"""Rows are divided among institutions without loss, repeatably, and never too thinly."""

import pytest

from common.data.datasets import Dataset, Example
from common.data.records import Record, Records
from common.errors import ConfigurationError, DataError
from simulation.partition import (
    Federation,
    dirichlet_split,
    institution_names,
    leave_test_rows_out,
    split_by_column,
    split_test,
)


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


def named(*desks: str) -> Records:
    rows = (Record(("a.csv", number), "text", "up", other={"desk": desk}) for number, desk in enumerate(desks, start=1))
    return Records(tuple(rows), "a.csv", ("text", "label"))


def test_names_of_institutions_become_names_of_directories() -> None:
    rows = named("FX & Rates", "banks", "FX\u00a0& Rates\u200b")
    parts = split_by_column(rows, "desk", institution_names(rows.rows, "desk"))
    assert {name: [row.place[1] for row in part.rows] for name, part in parts.items()} == {
        "banks": [2],
        "fx_rates": [1, 3],
    }
    with pytest.raises(DataError, match=r'a\.csv: row 4, column "desk" differs from "banks" by case or punctuation'):
        institution_names(named("FX", "banks", "FX", "Banks!").rows, "desk")


LONG = "The Cooperative Savings and Loan Association of the Northern "


@pytest.mark.parametrize(
    ("desks", "names"),
    [
        (("Τράπεζα Άλφα", "Τράπεζα Βήτα"), ["institution_1", "institution_2"]),
        (("甲银行", "乙银行"), ["institution_2", "institution_1"]),
        (("بنك ألف", "बैंक की", "बैंक का", "Bank A"), ["institution_1", "institution_3", "institution_2", "bank_a"]),
        (("Bank Ä", "Bank B"), ["bank_a", "bank_b"]),
        (("Bank Ä", "Bank A"), ["institution_2", "institution_1"]),
        ((LONG + "Provinces", LONG + "Islands"), ["institution_2", "institution_1"]),
        ((LONG + "Provinces",), [(LONG + "P").lower().replace(" ", "_")[:48]]),
        (("Institution 1", "Банк"), ["institution_1", "institution_2"]),
        (("2021-01-01", "2022-01-01"), ["2021_01_01", "2022_01_01"]),
    ],
)
def test_names_in_any_script_are_kept_apart(desks: tuple[str, ...], names: list[str]) -> None:
    found = institution_names(named(*desks).rows, "desk")
    assert [found[desk] for desk in desks] == names
    assert all(len(name) <= 48 and name.isascii() for name in names)


def test_a_name_without_a_letter_or_digit_and_names_that_differ_by_case_are_refused() -> None:
    with pytest.raises(DataError, match=r"row 2, .* names no institution: use letters or digits"):
        institution_names(named("a", " &").rows, "desk")
    with pytest.raises(DataError, match=r'row 2, .* differs from "alpha_bank" by case or punctuation only'):
        institution_names(named("Alpha Bank", "ALPHA BANK").rows, "desk")
    with pytest.raises(DataError, match=r"row 2, .* differs from the name of an earlier row by case") as caught:
        institution_names(named("Альфа", "АЛЬФА").rows, "desk")
    assert "Альфа" not in str(caught.value)


def federation(test: Dataset, **train: str) -> Federation:
    parts = {name: Dataset(tuple(Example(t, 0) for t in texts), ("a", "b"), name) for name, texts in train.items()}
    return Federation(parts, test, {"all": test})


def test_training_rows_that_are_test_rows_are_left_out_and_counted() -> None:
    test = Dataset(tuple(Example(text, 1) for text in "axyz"), ("a", "b"), "test")
    found = leave_test_rows_out(federation(test, one="aabc", two="cde"))
    assert {name: texts(rows) for name, rows in found.train.items()} == {"one": ["b", "c"], "two": ["c", "d", "e"]}
    assert found.notes == (
        "2 training rows have a text of the test rows, and are left out of the training.",
        "1 of 4 different training texts are held by more than one institution.",
    )
    assert leave_test_rows_out(federation(test, one="bc", two="de")).notes == ()


def test_a_test_set_that_is_mostly_training_rows_is_refused() -> None:
    test = Dataset(tuple(Example(text, 1) for text in "abx"), ("a", "b"), "test")
    with pytest.raises(DataError, match="2 of its 3 different texts are among the training rows"):
        leave_test_rows_out(federation(test, one="abc", two="cde"))
    other = Dataset(tuple(Example(text, 1) for text in "awxyz"), ("a", "b"), "test")
    with pytest.raises(DataError, match="one: all of its rows are test rows"):
        leave_test_rows_out(federation(other, one="aa", two="cde"))


def test_held_out_rows_depend_on_their_own_text_alone() -> None:
    whole = Dataset(tuple(Example(f"t{i}", i % 2) for i in range(500)), ("a", "b"), "x")
    train, test = split_test(whole, 0.2, 7, "bank")
    assert sorted(texts(train) + texts(test)) == sorted(texts(whole))
    assert len(test) / 500 == pytest.approx(0.2, abs=0.06)
    half = Dataset(whole.examples[:250], ("a", "b"), "x")
    assert texts(split_test(half, 0.2, 7, "bank")[1]) == [text for text in texts(test) if text in texts(half)]
