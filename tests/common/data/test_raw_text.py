"""The bytes of a file become text, or one line that shows none of them."""

import gzip
from pathlib import Path

import pytest

from common.data.raw_text import file_kind, read_bytes, read_text
from common.errors import DataError


def test_the_kind_of_a_file_is_its_suffix_without_the_compression() -> None:
    assert [file_kind(Path(name)) for name in ("a.csv", "a.CSV.GZ", "a.b.jsonl", "a", ".hidden")] == [
        ".csv", ".csv", ".jsonl", "", ""
    ]  # fmt: skip


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_unicode_text_is_read_whatever_its_encoding(tmp_path: Path, encoding: str, name: str) -> None:
    mark = "\ufeff" if encoding[-2:] in ("le", "be") else ""
    data = (mark + "Gewinn fällt\n").encode(encoding)
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    assert read_text(tmp_path / name) == "Gewinn fällt\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b" \n", "the file is empty"),
        ("a.txt", b"PK\x03\x04secret", "it is not a text file"),
        ("a.txt", b"sec\x00ret", "it is not a text file"),
        ("a.txt", b"\xff\xfesecret!", "it is not UTF-8 or UTF-16"),
        ("a.txt.gz", b"secret", "the gzip data is damaged"),
        ("a.txt.gz", gzip.compress(b"secret" * 99)[:-9], "the gzip data is damaged"),
        ("absent", None, "no such data file"),
    ],
)
def test_bytes_that_are_no_text_are_refused_and_not_shown(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_text(tmp_path / name)
    assert "secret" not in str(caught.value)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_bytes(tmp_path)


def test_carriage_returns_alone_end_lines(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"first\rsecond\r")
    assert read_text(tmp_path / "a.txt") == "first\nsecond\n"
    (tmp_path / "b.txt").write_bytes(b"first\r\nsecond\rstill second\r\n")
    assert read_text(tmp_path / "b.txt") == "first\r\nsecond\rstill second\r\n"
