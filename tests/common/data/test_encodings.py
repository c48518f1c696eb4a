"""Text in the encodings of spreadsheet programs is read, and anything else is no text."""

import logging
from pathlib import Path

import pytest

from common.data.encodings import encoding_of
from common.data.raw_text import read_text

TEXT = "Umsatz der Zürich-Gruppe: 3 Mio. € – „deutlich“ höher\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_text_is_the_same_in_every_encoding(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.txt").write_bytes(TEXT.encode(encoding))
    assert read_text(tmp_path / "a.txt") == TEXT


def test_a_guess_is_said_and_utf_8_is_no_guess(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for encoding in ("utf-8", "latin-1"):
        (tmp_path / "a.txt").write_bytes("Zürich".encode(encoding))
        with caplog.at_level(logging.WARNING):
            read_text(tmp_path / "a.txt")
        assert ("read as Windows-1252" in caplog.text) == (encoding == "latin-1")
    assert "rich" not in caplog.text


@pytest.mark.parametrize(
    "data",
    [
        "Zürich und Köln".encode() + b" \xfcber",  # a damaged UTF-8 file
        b"\xff\xfb\x90\x44",
        b"a \x81 b",
    ],
)
def test_bytes_that_are_no_western_text_have_no_encoding(tmp_path: Path, data: bytes) -> None:
    assert encoding_of(data) is None
    (tmp_path / "a.txt").write_bytes(data)
    assert any("\ud800" <= character <= "\udfff" for character in read_text(tmp_path / "a.txt"))
