"""A value of another kind is one line that names file and key. Absent values have their defaults."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from common.errors import CheckpointError
from common.files import json_text
from common.report.json_reader import JsonReader, Record, read_json


@dataclass(frozen=True)
class Part:
    size: int = 0


@dataclass(frozen=True, kw_only=True)
class Sample(Record):
    name: str
    share: float | None = None
    number: int = 0
    ready: bool = False
    words: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()
    first: Part = field(default_factory=Part)
    figures: Mapping[str, float] = field(default_factory=dict)
    spent: Mapping[str, float | None] = field(default_factory=dict)
    nested: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


FULL = Sample(
    name="a", share=math.inf, number=3, ready=True, words=("x", "y"), parts=(Part(1), Part(2)), first=Part(4),
    figures={"f1": 0.5}, spent={"bank": None, "fund": 2.0}, nested={"bank": {"f1": 0.25}},
)  # fmt: skip


def test_a_record_is_read_as_it_was_written() -> None:
    assert Sample.from_json("file", json.loads(json_text(FULL.to_json()))) == FULL


def test_a_file_without_version_and_with_keys_of_another_release_is_read() -> None:
    assert Sample.from_json("file", {"name": "a", "colour": "red"}) == Sample(name="a")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"name": None}, "name: expected a value, found nothing"),
        ({"name": 3}, "name: expected a string, found a number"),
        ({"share": "much"}, "share: expected a number, found a string"),
        ({"share": 1e19}, "share: not a usable number"),
        ({"share": float("nan")}, "share: not a usable number"),
        ({"number": 2.5}, "number: not a whole number"),
        ({"number": "infinity"}, "number: not a whole number"),
        ({"ready": 1}, "ready: expected true or false, found a number"),
        ({"words": ["x", 1]}, "words: expected a list of strings"),
        ({"parts": [{"size": "big"}]}, "parts[0]: size: expected a number"),
        ({"first": [1]}, "first: expected an object, found a list"),
        ({"figures": {"f1": "high"}}, "figures: f1: expected a number"),
        ({"nested": {"bank": 1}}, "nested: bank: expected an object"),
        ({"version": 2}, "version 2, and this release reads up to 1: install the release that wrote it"),
    ],
)
def test_a_value_of_another_kind_is_one_line_that_names_file_and_key(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        Sample.from_json("run/file.json", FULL.to_json() | changed)
    assert str(caught.value).startswith("run/file.json")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_only_an_object_is_a_record() -> None:
    with pytest.raises(CheckpointError, match="expected a JSON object, found a list"):
        JsonReader("file", [])


def test_an_absent_file_is_none_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    assert read_json(tmp_path / "absent.json") is None
    (tmp_path / "cut.json").write_text('{"a": [1,\n')
    with pytest.raises(CheckpointError, match=r"cut\.json: not valid JSON \(line 2\)"):
        read_json(tmp_path / "cut.json")
