"""Lines of a text, the sign @ and a label, as the Financial PhraseBank writes them."""

import re
from collections.abc import Collection
from pathlib import Path

from common.data.raw_text import read_text
from common.data.table import Table
from common.errors import DataError

__all__ = ["open_marked_lines"]

_LABEL = re.compile(r"[\w+-]+")


def open_marked_lines(path: Path, _columns: Collection[str] | None, /) -> Table:
    """Open a `.txt` file with a text and its label, "text@label", on each line. Its columns are `text` and `label`.

    Raises:
        DataError: A line has no label. See also `Opener`.
    """
    rows: list[tuple[int, dict[str, object]]] = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        text, _, label = line.rpartition("@")
        if not text.strip() or not _LABEL.fullmatch(label.strip()):
            raise DataError(f"{path}: row {number} is no text, the sign @ and a label: write rows so, or as a table")
        rows.append((number, {"text": text.strip(), "label": label.strip()}))
    return Table(("text", "label"), rows)
