"""A CSV file is read whatever separates its fields, and its rows are in no message."""

from pathlib import Path

import pytest

from common.data.delimited_files import open_delimited
from common.data.tables import read_rows
from common.errors import DataError

SECRET = "Norvik Shipping missed forecasts"


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_is_told_from_the_header(tmp_path: Path, separator: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f'text{separator}label\n"a, b; c"{separator}up\nd{separator}down\n')
    assert read_rows(path) == [{"text": "a, b; c", "label": "up"}, {"text": "d", "label": "down"}]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_spreadsheets_export_is_read(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text("sep=;\ntext;label\nGewinn fällt;down\n", encoding=encoding)
    assert read_rows(path) == [{"text": "Gewinn fällt", "label": "down"}]


@pytest.mark.parametrize(
    "content",
    [
        f"negative,{SECRET} on Monday in Oslo\npositive,Tarn Retail beat forecasts\n",
        f"{SECRET} on Monday in Oslo,negative\nTarn Retail beat forecasts,positive\n",
        "negative,Norvik fell\npositive,Norvik rose\nnegative,Tarn fell\n",
        f"{SECRET}.,x\nTarn Retail rose.,y\n",
        f"1,{SECRET}\n2,Tarn Retail\n",
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_a_file_without_header_does_not_show_its_first_row(tmp_path: Path, content: str, name: str) -> None:
    path = tmp_path / name
    path.write_text(content.replace(",", "\t") if name == "a.tsv" else content)
    with pytest.raises(DataError, match="first line does not look like a header") as caught:
        read_rows(path, ("text", "label"))
    assert "Norvik" not in str(caught.value)


@pytest.mark.parametrize(
    "header", ["sentence,sentiment", "Consumer complaint narrative,Product", "Überschrift,Étiquette", "标题,标签"]
)
def test_the_names_of_a_header_are_listed(tmp_path: Path, header: str) -> None:
    (tmp_path / "a.csv").write_text(f"{header}\nNorvik fell,down\n")
    with pytest.raises(DataError, match=f"the file has {', '.join(sorted(header.split(',')))}"):
        read_rows(tmp_path / "a.csv", ("text", "label"))


@pytest.mark.parametrize(
    "content",
    [
        b"PK\x03\x04\x1b[31mred" + bytes(range(32)),
        b"%PDF-1.7 \x1b[31m",
        b"text,label\n\x00\x01,up\n",
        b"\x1f\x8b\x08\x00secret",
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl"])
def test_a_binary_file_is_refused_and_not_echoed(tmp_path: Path, content: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match="it is not a text file") as caught:
        read_rows(tmp_path / name, ("text", "label"))
    assert str(caught.value).isprintable()


def test_a_value_in_the_place_of_a_columns_name_is_not_shown_with_a_row(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(f"{SECRET} again,x\nok,y\n".encode() + b"\xff,z\n")
    with pytest.raises(DataError, match="row 2, column without a usable name is not UTF-8") as caught:
        read_rows(tmp_path / "a.csv")
    assert SECRET not in str(caught.value)


def test_a_first_row_that_returns_in_its_column_is_no_header(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("up,Norvik rose\ndown,Norvik fell\nup,Tarn rose\n")
    assert not open_delimited(tmp_path / "a.csv", None).has_header
    (tmp_path / "a.csv").write_text("label,text\nup,Norvik rose\n")
    assert open_delimited(tmp_path / "a.csv", None).has_header


@pytest.mark.parametrize("sign", ["^", '"', " "])
def test_an_unknown_sign_between_fields_is_one_line(tmp_path: Path, sign: str) -> None:
    (tmp_path / "a.csv").write_text(f"sep={sign}\ntext{sign}label\n{SECRET}{sign}down\n")
    with pytest.raises(DataError, match="names an unknown sign: separate fields by commas, semicolons, tabs or bars"):
        read_rows(tmp_path / "a.csv")


def test_a_tab_may_be_declared_as_the_sign_between_fields(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("sep=\t\r\ntext\tlabel\r\na, b\tup\r\n")
    assert read_rows(tmp_path / "a.csv") == [{"text": "a, b", "label": "up"}]


@pytest.mark.parametrize(
    "rows",
    [
        "Norvik beats forecast\nTarn cuts its dividend\nOstra holds its meeting\n",
        "Norvik,C10234\nTarn,C10777\n",
        "Norvik wins order,0.4\nTarn loses its largest customer,-0.3\nOstra names auditor,0.0\n",
    ],
)
def test_a_first_row_without_repeated_values_is_not_shown(tmp_path: Path, rows: str) -> None:
    (tmp_path / "a.csv").write_text(rows)
    with pytest.raises(DataError, match="its first line does not look like a header") as caught:
        read_rows(tmp_path / "a.csv", ("text",))
    assert "Norvik" not in str(caught.value)
