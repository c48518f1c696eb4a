"""Column names are shown if they look like names, and a row's values never are."""

import pytest

from common.data.table import Table, listed_columns, shown


@pytest.mark.parametrize(
    "name", ["text", "Consumer complaint narrative", "ner_tags", "meta.label", "Étiquette", "标签"]
)
def test_a_name_is_shown(name: str) -> None:
    assert shown(name) == f'"{name}"'
    assert listed_columns(Table((name,), ())) == f"the file has {name}"


@pytest.mark.parametrize(
    "value",
    [
        "Norvik Shipping missed its forecasts on Monday",
        "Norvik fell.",
        "2021-01-01",
        "17",
        "x" * 41,
        "a@b.example",
        "\x1b[31m",
        "",
    ],
)
def test_a_value_is_not_shown(value: str) -> None:
    assert shown(value) == "without a usable name"
    assert "does not look like a header" in listed_columns(Table((value, "label") if value else (), ()))


def test_of_many_columns_the_first_are_listed() -> None:
    assert listed_columns(Table(tuple(f"c{number:02}" for number in range(30)), ())).endswith("c19 and 10 more")
