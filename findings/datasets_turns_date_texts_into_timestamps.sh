#!/usr/bin/env bash
# datasets reads a JSON column of ISO dates as timestamps, depending on the other rows, and writes it back as milliseconds.
#
# Packages: datasets 5.2.0, pyarrow 26.0.1, pandas 3.1.1.
# Behaviour: {"target": "2025-03-31"} in JSON Lines is a string. load_dataset("json") makes it a datetime, because pyarrow
#   guesses timestamps from strings. One row of another form ("March 2025") anywhere in the file keeps the column a string.
#   to_json then writes 1743379200000 in place of "2025-03-31", and str() of a value gives "2025-03-31 00:00:00". The guess is
#   also made inside nested fields, such as the messages of a chat.
# Why it matters: questions about filings often have a date as the whole answer (period end, maturity). Two institutions with
#   the same schema get different types from their rows, and a fine-tuning target that was "2025-03-31" becomes an integer
#   in the exchanged file. Give features= with Value("string") when loading.
# Seen: type timestamp[s], value 2025-03-31 00:00:00, written back {"target":1743379200000}. With one other row: string. Chat
#   message {"content": "2025-03-31"}: datetime.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HF_HUB_OFFLINE=1 HF_HOME="$work/hf"
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check datasets==5.2.0 pyarrow==26.0.1 pandas==3.1.1
cat > "$work/check.py" <<'PY'
import datetime
import json
import sys
from pathlib import Path

import datasets
from datasets import load_dataset

datasets.disable_progress_bars()


def load(name: str, rows: list[dict]):
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_dataset("json", data_files=name, split="train")


dates = load("dates.jsonl", [{"target": "2025-03-31"}, {"target": "2025-06-30"}])
mixed = load("mixed.jsonl", [{"target": "2025-03-31"}, {"target": "March 2025"}])
chats = load("chats.jsonl", [{"messages": [{"content": "2025-03-31"}]}, {"messages": [{"content": "2025-06-30"}]}])
dates.to_json("written.jsonl")
written = Path("written.jsonl").read_text().splitlines()[0]
nested = chats[0]["messages"][0]["content"]
print("all rows are dates:", dates.features["target"], "value", dates[0]["target"])
print("one row is not:    ", mixed.features["target"], "value", mixed[0]["target"])
print("written back:      ", written)
print("in a chat message: ", repr(nested))
if not (
    dates[0]["target"] == datetime.datetime(2025, 3, 31)
    and mixed[0]["target"] == "2025-03-31"
    and json.loads(written) == {"target": 1743379200000}
    and isinstance(nested, datetime.datetime)
):
    sys.exit("changed: datasets keeps date texts of a JSON file as texts")
PY
cd "$work" && "$work/venv/bin/python" "$work/check.py"
