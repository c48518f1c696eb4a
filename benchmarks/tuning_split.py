"""Write the desks' training rows with a fifth of them held out, to choose settings without the test rows.

python -m benchmarks.tuning_split desks_tuning.csv
fedfin-simulate run benchmarks/sentfin_desks.toml --set data.train=$PWD/desks_tuning.csv --out runs/tuning
"""

import argparse
import csv
import io
import sys
import zlib
from pathlib import Path

from common.data.tables import read_rows
from common.errors import FedfinError
from common.files import write_atomic
from simulation.config import load_simulation

HELD_OUT = 5  # one text in 5 is held out
COLUMNS = ("text", "label", "desk", "split")


def main() -> int:
    """Write the file that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="the file to write")
    file: Path = parser.parse_args().file
    try:
        data = load_simulation(Path("benchmarks/sentfin_desks.toml")).data
        train = data.train if data is not None else None
        rows = [row for row in read_rows(train or Path(), COLUMNS) if row["split"] == "train"]
    except FedfinError as error:
        print(f"tuning_split: {error}", file=sys.stderr)
        return error.exit_code
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    for row in rows:
        held_out = zlib.crc32(row["text"].encode()) % HELD_OUT == 0
        writer.writerow({key: row[key] for key in COLUMNS} | {"split": "test" if held_out else "train"})
    write_atomic(file, text.getvalue().encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
