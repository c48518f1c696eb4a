"""The files of the Financial PhraseBank are read as rows."""

from pathlib import Path

import pytest

from common.data.marked_lines import open_marked_lines
from common.data.tables import read_rows
from common.errors import DataError


def test_lines_of_text_and_label_are_rows(tmp_path: Path) -> None:
    lines = "Sales of Säästöpankki rose , to EUR 13.1 mn .@positive\r\nWrite to ir@example.com .@neutral\r\n"
    (tmp_path / "Sentences_AllAgree.txt").write_bytes(lines.encode("latin-1"))
    assert read_rows(tmp_path / "Sentences_AllAgree.txt", ("text", "label")) == [
        {"text": "Sales of Säästöpankki rose , to EUR 13.1 mn .", "label": "positive"},
        {"text": "Write to ir@example.com .", "label": "neutral"},
    ]


@pytest.mark.parametrize("line", ["zxq secret", "zxq secret@", "zxq secret@ not a label", "@positive"])
def test_another_line_is_named_and_not_shown(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.txt").write_text(f"Sales rose@positive\n{line}\n")
    with pytest.raises(DataError, match="row 2 is no text, the sign @ and a label") as caught:
        open_marked_lines(tmp_path / "a.txt", None)
    assert "secret" not in str(caught.value)
