"""Damaged files of a run: one line that names the file, and no page half-written."""

import json
from pathlib import Path
from typing import Any

import pytest

from common.errors import CheckpointError
from server.report.report import render, write_report
from server.report.run_files import load_run
from tests.server.report.report_example import write_example

DAMAGE = {
    "cut": lambda text: text[: len(text) // 2],
    "empty": lambda _: "",
    "text": lambda _: '"words"',
    "number": lambda _: "3",
    "binary": lambda _: "\x00\x01",
    "deep": lambda _: "[" * 100_000,
}
FILES = [
    "result.json",
    "history.json",
    "config.json",
    "versions.json",
    "run.json",
    "data.json",
    "institutions/bank-0/statement.json",
]


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_one_line_that_names_it_and_keeps_the_old_page(
    tmp_path: Path, name: str, damage: str
) -> None:
    out = write_example(tmp_path)
    (out / "report.html").write_text("old")
    (out / name).write_text(DAMAGE[damage]((out / name).read_text()))
    with pytest.raises(CheckpointError) as caught:
        write_report(out)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (out / "report.html").read_text() == "old"


def test_bytes_that_are_not_text_are_one_line(tmp_path: Path) -> None:
    out = write_example(tmp_path)
    (out / "result.json").write_bytes(b'{"name": "\xff\xfe"}')
    with pytest.raises(CheckpointError, match=r"result\.json: not valid JSON \(not text"):
        write_report(out)


SHAPES: list[Any] = [
    3,
    -1,
    2.5,
    True,
    "words",
    ["a"],
    [3],
    {"a": "b"},
    {"a": {"b": {}}},
    {"a": 1},
    float("nan"),
    float("inf"),
    10**400,
    None,
    [],
    {},
    "",
]


@pytest.mark.parametrize("name", FILES)
def test_every_field_of_another_kind_gives_a_page_or_one_line(tmp_path: Path, name: str) -> None:
    out = write_example(tmp_path)
    whole = json.loads((out / name).read_text())
    record = whole[-1] if isinstance(whole, list) else whole
    for key in list(record):
        old = record[key]
        for value in SHAPES:
            record[key] = value
            (out / name).write_text(json.dumps(whole))
            trouble = refusal(out)
            assert trouble is None or (name in trouble and "\n" not in trouble)
        record[key] = old


def refusal(out: Path) -> str | None:
    try:
        render(load_run(out))
    except CheckpointError as error:
        return str(error)
    return None


def test_not_a_run_directory(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not the directory of a run"):
        write_report(tmp_path / "absent")
    assert not (tmp_path / "absent").exists()
