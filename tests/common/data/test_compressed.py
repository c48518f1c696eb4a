"""Compressed files are read whole, and one that expands without bound is refused."""

import bz2
import gzip
import io
import lzma
import zipfile
from pathlib import Path

import pytest

from common.data import compressed
from common.data.compressed import expanded_bytes, file_kind
from common.data.tables import read_rows
from common.errors import DataError

CSV = b"text,label\nProfit rose,up\nSales fell,down\n"
ROWS = [{"text": "Profit rose", "label": "up"}, {"text": "Sales fell", "label": "down"}]


def zipped(members: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return target.getvalue()


PACKED = {
    "a.csv.gz": gzip.compress(CSV),
    "a.csv.bz2": bz2.compress(CSV),
    "a.csv.xz": lzma.compress(CSV),
    "a.csv.zip": zipped({"a.csv": CSV}),
    "export.zip": zipped(
        {"data/": b"", "data/rows.CSV": CSV, "__MACOSX/data/._rows.CSV": b"x", "data/.DS_Store": b"y"}
    ),
    "A.CSV.GZ": gzip.compress(CSV),
}


@pytest.mark.parametrize("name", PACKED)
def test_rows_are_the_same_however_the_file_is_compressed(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(PACKED[name])
    assert file_kind(tmp_path / name) == ".csv"
    assert read_rows(tmp_path / name) == ROWS


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv.gz", gzip.compress(CSV)[:-9], "the gzip data is damaged or cut short"),
        ("a.csv.bz2", b"secret", "the bz2 data is damaged or cut short"),
        ("a.csv.bz2", bz2.compress(CSV * 99)[:-9], "the bz2 data is damaged or cut short"),
        ("a.csv.xz", b"secret", "the xz data is damaged or cut short"),
        ("a.zip", b"secret", "the zip data is damaged or cut short"),
        ("a.zip", zipped({"a.csv": CSV, "b.csv": CSV}), "the zip file holds 2 files, not one: unpack it"),
        ("a.zip", zipped({}), "the zip file holds 0 files"),
        ("a.csv.gz", gzip.compress(b""), "the file is empty"),
    ],
)
def test_a_damaged_archive_is_one_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_rows(tmp_path / name)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.csv.gz", "a.csv.bz2", "a.csv.xz", "a.csv.zip"])
def test_a_decompression_bomb_is_refused_before_it_fills_the_memory(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compressed, "_ALWAYS_ALLOWED", 2**20)
    monkeypatch.setattr(compressed, "_CHUNK", 2**16)
    bomb = b"text\n" + b"0" * 40_000_000
    pack = {
        ".gz": gzip.compress,
        ".bz2": bz2.compress,
        ".xz": lzma.compress,
        ".zip": lambda data: zipped({"a.csv": data}),
    }
    (tmp_path / name).write_bytes(pack[Path(name).suffix](bomb))
    with pytest.raises(DataError, match=r"it expands to more than \d+ MiB") as caught:
        expanded_bytes(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_text_that_compresses_well_is_no_bomb(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"text\n" + b"Profit rose in the quarter.\n" * 400_000))
    assert len(expanded_bytes(tmp_path / "a.csv.gz")) > 100 * (tmp_path / "a.csv.gz").stat().st_size
