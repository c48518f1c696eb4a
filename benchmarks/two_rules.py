"""Relabel two desks by another rule: a gain counts as positive only if the headline calls it strong.

At the desks `commodities` and `banks` a positive headline without a strong word becomes neutral, in the training rows
and in the test rows. All other rows keep their labels. So two institutions of six label mild gains as neutral.

FEDFIN_DATA=... python -m benchmarks.two_rules runs/desks_two_rules.csv
"""

import argparse
import csv
import io
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from common.data.tables import read_rows
from common.errors import FedfinError
from common.files import write_atomic
from simulation.config import load_simulation

__all__ = ["DESKS", "relabel"]

DESKS = ("commodities", "banks")
"""Desks with the other rule."""
COLUMNS = ("text", "label", "desk", "split")
_STRONG = re.compile(r"\b(rall|surg|jump|soar|record|strong|zoom|spurt|skyrocket|high|double|boom|bull)", re.IGNORECASE)
"""Beginnings of the words that make a gain a strong one."""


def relabel(row: Mapping[str, str]) -> dict[str, str]:
    """Return a row with the label of its desk's rule.

    >>> relabel({"text": "Gold edges up", "label": "positive", "desk": "commodities"})["label"]
    'neutral'
    >>> relabel({"text": "Gold surges", "label": "positive", "desk": "commodities"})["label"]
    'positive'
    >>> relabel({"text": "Shares edge up", "label": "positive", "desk": "corporates"})["label"]
    'positive'
    """
    mild = row["desk"] in DESKS and row["label"] == "positive" and not _STRONG.search(row["text"])
    return {**row, "label": "neutral" if mild else row["label"]}


def main() -> int:
    """Write the file that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="the file to write")
    file: Path = parser.parse_args().file
    try:
        data = load_simulation(Path("benchmarks/sentfin_desks.toml")).data
        rows = list(read_rows((data.train if data else None) or Path(), COLUMNS))
    except FedfinError as error:
        print(f"two_rules: {error}", file=sys.stderr)
        return error.exit_code
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(relabel({key: row[key] for key in COLUMNS}) for row in rows)
    write_atomic(file, text.getvalue().encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
