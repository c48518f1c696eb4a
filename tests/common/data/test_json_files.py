"""Lines of JSON become rows with their line numbers."""

from pathlib import Path

from common.data.json_files import open_json_lines


def test_rows_keep_the_numbers_of_their_lines_and_columns_are_those_of_all_rows(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n\n{"label": 1, "text": "b\u2028c"}\n')
    table = open_json_lines(tmp_path / "a.jsonl", None)
    assert table.columns == ("text", "label")
    assert list(table.rows) == [(1, {"text": "a"}), (3, {"label": 1, "text": "b\u2028c"})]
