"""Workbooks are read as people keep them: titles above the header, several sheets, formulas, numbers and dates."""

import datetime
import io
import re
import zipfile
from pathlib import Path

import openpyxl
import pytest

from common.data import compressed
from common.data.corpora import read_corpus
from common.data.spreadsheets import open_spreadsheet
from common.data.tables import read_rows
from common.errors import DataError

SECRET = "zxq secret phrase"


def workbook(path: Path, **sheets: list[list[object]]) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def computed(path: Path, values: dict[str, str]) -> None:
    """Store values of formulas in the first sheet, as a spreadsheet program does."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    sheet = members["xl/worksheets/sheet1.xml"].decode()
    for cell, value in values.items():
        sheet = re.sub(
            rf'<c r="{cell}"([^>]*)><f>([^<]*)</f><v */?>(</v>)?',
            rf'<c r="{cell}" t="str"><f>\2</f><v>{value}</v>',
            sheet,
        )
    members["xl/worksheets/sheet1.xml"] = sheet.encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


ROWS: list[list[object]] = [["text", "label"], ["Profit rose", "up"], ["Sales fell", "down"]]
READ = [{"text": "Profit rose", "label": "up"}, {"text": "Sales fell", "label": "down"}]


def test_a_header_below_a_title_is_found_and_empty_rows_are_none(tmp_path: Path) -> None:
    rows = [
        ["Complaints 2025"],
        [],
        [None, "as of", datetime.date(2025, 3, 1)],
        ROWS[0],
        ROWS[1],
        [None, None],
        ROWS[2],
        [],
    ]
    path = workbook(tmp_path / "a.xlsx", Data=rows)
    assert read_rows(path, ("text", "label")) == READ
    assert [number for number, _ in open_spreadsheet(path, ("text", "label")).rows] == [5, 7]


def test_the_sheet_with_the_columns_is_read(tmp_path: Path) -> None:
    path = workbook(
        tmp_path / "a.xlsx", Readme=[["About this file"], ["text of the note"]], Data=ROWS, Codes=[["code"], [1]]
    )
    assert read_rows(path, ("text", "label")) == READ
    assert read_corpus(path) == ["Profit rose", "Sales fell"]


def test_two_sheets_with_the_columns_are_refused_by_their_names(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", Q1=ROWS, Q2=ROWS)
    with pytest.raises(DataError, match='the sheets "Q1" and "Q2" have the same columns: save the one to read'):
        read_rows(path, ("text", "label"))


def test_numbers_dates_and_line_breaks_are_read_as_they_are_shown(tmp_path: Path) -> None:
    rows = [["text", "label", "day"], ["first_x000D_\nline", 1.0, datetime.datetime(2025, 3, 1)], ["2", 0.5, None]]
    assert read_rows(workbook(tmp_path / "a.xlsx", Data=rows)) == [
        {"text": "first\r\nline", "label": "1", "day": "2025-03-01"},
        {"text": "2", "label": "0.5", "day": ""},
    ]


def test_a_stored_value_of_a_formula_is_read_and_a_missing_one_is_named(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", Data=[*ROWS[:2], ["=A2", "=B2"]])
    with pytest.raises(DataError, match='row 3, column "text" holds a formula without a stored value'):
        read_rows(path, ("text", "label"))
    computed(path, {"A3": "Profit fell", "B3": "down"})
    assert read_rows(path, ("text", "label"))[1] == {"text": "Profit fell", "label": "down"}


def test_an_error_of_a_formula_is_named(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", Data=[*ROWS, [SECRET, "#N/A"]])
    with pytest.raises(DataError, match='row 4, column "label" holds an error of a formula') as caught:
        read_rows(path, ("text", "label"))
    assert SECRET not in str(caught.value)


def test_a_missing_column_lists_the_columns_but_no_row(tmp_path: Path) -> None:
    with pytest.raises(DataError, match='column "body" is missing: the file has label, text'):
        read_rows(workbook(tmp_path / "a.xlsx", Data=ROWS), ("body", "label"))
    headless = workbook(tmp_path / "b.xlsx", Data=[[SECRET, "up"], ["Profit rose", "up"], ["Sales fell", "down"]])
    with pytest.raises(DataError, match='column "text" is missing') as caught:
        read_rows(headless, ("text", "label"))
    assert SECRET not in str(caught.value)


def test_hidden_sheets_and_a_repeated_column_are_not_read(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", Data=ROWS, Old=ROWS)
    book = openpyxl.load_workbook(path)
    book["Old"].sheet_state = "hidden"
    book.save(path)
    assert read_rows(path, ("text", "label")) == READ
    with pytest.raises(DataError, match="repeated column name"):
        read_rows(workbook(tmp_path / "b.xlsx", Data=[["text", "label", "text"], ["a", "b", "c"]]), ("text", "label"))


@pytest.mark.parametrize("content", [b"secret", b"PK\x03\x04secret", b"\xd0\xcf\x11\xe0" + b"\0" * 600])
def test_another_file_of_that_name_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.xlsx").write_bytes(content)
    with pytest.raises(DataError, match=r"not a readable \.xlsx workbook: save it again") as caught:
        read_rows(tmp_path / "a.xlsx")
    assert "secret" not in str(caught.value)


def test_a_workbook_that_expands_beyond_reason_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressed, "_ALWAYS_ALLOWED", 2**20)
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", b"0" * 50_000_000)
    (tmp_path / "a.xlsx").write_bytes(target.getvalue())
    with pytest.raises(DataError, match=r"it expands to more than \d MiB"):
        read_rows(tmp_path / "a.xlsx")


def sheet_of(path: Path, rows: str, shared: str = "") -> Path:
    """A workbook whose only sheet has a header "text", "label" and these rows, in the format's XML."""
    workbook(path, a=[["text", "label"], ["x", "up"]])
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name).decode() for name in archive.namelist()}
    sheet, kinds = "xl/worksheets/sheet1.xml", "[Content_Types].xml"
    parts[sheet] = parts[sheet].replace("</sheetData>", f"{rows}</sheetData>")
    namespace = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    parts["xl/sharedStrings.xml"] = f'<sst xmlns="{namespace}"><si><t>{shared}</t></si></sst>'
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml.sharedStrings+xml"
    named = f'<Override PartName="/xl/sharedStrings.xml" ContentType="{kind}"/></Types>'
    parts[kinds] = parts[kinds].replace("</Types>", named)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


def test_a_text_that_many_cells_share_is_counted_for_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressed, "_ALWAYS_ALLOWED", 8 * 2**20)
    shares_it = "".join(f'<row r="{n}"><c r="A{n}" t="s"><v>0</v></c></row>' for n in range(3, 1003))
    path = sheet_of(tmp_path / "a.xlsx", shares_it, shared="x" * 10_000)
    with pytest.raises(DataError, match="it expands to more than 8 MiB"):
        read_rows(path)


def test_rows_that_reach_far_to_the_right_are_counted_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressed, "_ALWAYS_ALLOWED", 8 * 2**20)
    far = "".join(f'<row r="{n}"><c r="A{n}"><v>1</v></c><c r="XFD{n}"><v>1</v></c></row>' for n in range(3, 103))
    with pytest.raises(DataError, match="it expands to more than 8 MiB"):
        read_rows(sheet_of(tmp_path / "a.xlsx", far))


def test_a_row_with_an_endless_number_does_not_hang(tmp_path: Path) -> None:
    path = sheet_of(tmp_path / "a.xlsx", '<row r="1000000000000"><c r="A1000000000000"><v>1</v></c></row>')
    assert len(read_rows(path)) == 1
