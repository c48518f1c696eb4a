"""A corpus is any file or folder of text. Nothing of it is quoted."""

import gzip
import json
from pathlib import Path

import pytest

from common.data.corpora import general_text, read_corpus, split_held_out
from common.errors import DataError


def test_a_folder_is_all_its_files_in_order_without_repetitions(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("second\nparagraph\n\nthird\n")
    (tmp_path / "a.csv").write_text("text,label\nfirst,x\nthird,y\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.jsonl.gz").write_bytes(gzip.compress(json.dumps({"body": "fourth"}).encode()))
    (tmp_path / ".hidden.txt").write_text("no")
    (tmp_path / "model.bin").write_bytes(b"\0")
    assert read_corpus(tmp_path) == ["first", "third", "second paragraph", "fourth"]


def test_the_column_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("summary,text\nshort,long\n")
    assert read_corpus(tmp_path / "a.csv") == ["long"]
    assert read_corpus(tmp_path / "a.csv", "summary") == ["short"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.pdf", b"x", "unknown format"),
        ("a.txt", b"\xff\xfe secret", "not UTF-8"),
        ("a.txt", b"  ", "empty"),
        ("a.csv", b"label\nsecret\n", 'column "text" is missing'),
        ("a.csv", b"text\n \n", "holds no"),
    ],
)
def test_bad_input_is_one_line_that_quotes_nothing(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_corpus(tmp_path / name)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_folder_and_an_absent_file_say_so(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no text"):
        read_corpus(tmp_path / "empty")
    with pytest.raises(DataError, match="no such data file"):
        read_corpus(tmp_path / "absent.txt")
    with pytest.raises(DataError, match="no such data file or folder"):
        read_corpus(tmp_path / "absent")


def test_a_text_is_held_out_whatever_others_are_there() -> None:
    texts = [f"text {number}" for number in range(2000)]
    kept, out = split_held_out(texts, 0.2)
    assert sorted(kept + out) == sorted(texts)
    assert 320 < len(out) < 480  # 400 expected, 18 a standard deviation
    assert split_held_out(texts[::7], 0.2)[1] == [text for text in texts[::7] if text in set(out)]


def test_general_english_is_there_without_a_download() -> None:
    texts = general_text()
    assert len(texts) > 300
    assert sum(len(text.split()) for text in texts) > 15_000
