#!/usr/bin/env bash
# datasets gives every Parquet file the label names of the first one, so a test file in another order is read wrongly.
#
# Packages: datasets 5.2.0, pyarrow 26.0.1, pandas 3.1.1.
# Behaviour: to_parquet stores the names of a ClassLabel beside the whole numbers. If two files list the names in different
#   orders, load_dataset("parquet") takes the names of the first file for all files, also for another split, also when
#   streaming, and keeps the numbers of each file. "good" (positive) becomes "negative". Dataset.cast and cast_column do the
#   same. concatenate_datasets on the two data sets, loaded one by one, refuses them with a clear error, so the library
#   knows that they do not fit. Only align_labels_with_mapping translates the numbers.
# Why it matters: institutions and splits get their names from order of appearance or from another tool. An accuracy of
#   1.000 becomes .000 here, or a classifier learns that good news is bad, and the loss looks healthy.
# Seen: own names: good=positive, bad=negative, flat=neutral. As second split, in a list, streamed, and cast: good=negative,
#   bad=neutral, flat=positive. concatenate_datasets: ValueError.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HF_HUB_OFFLINE=1 HF_HOME="$work/hf"
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check datasets==5.2.0 pyarrow==26.0.1 pandas==3.1.1
cat > "$work/check.py" <<'PY'
import sys

import datasets
from datasets import ClassLabel, Dataset, Features, Value, concatenate_datasets, load_dataset

datasets.disable_progress_bars()


def write(path: str, texts: list[str], names: list[str]) -> Dataset:
    features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
    data = Dataset.from_dict({"text": texts, "label": [0, 1, 2]}, features=features)
    data.to_parquet(path)
    return data


def meaning(data) -> dict[str, str]:
    label = data.features["label"]
    return {row["text"]: label.int2str(row["label"]) for row in data if row["text"] in ("good", "bad", "flat")}


train = write("train.parquet", ["loss", "unchanged", "gain"], ["negative", "neutral", "positive"])
test = write("test.parquet", ["good", "bad", "flat"], ["positive", "negative", "neutral"])
files = {"train": "train.parquet", "test": "test.parquet"}
alone = meaning(load_dataset("parquet", data_files="test.parquet", split="train"))
read = {
    "as second split": meaning(load_dataset("parquet", data_files=files, split="test")),
    "in a list": meaning(load_dataset("parquet", data_files=list(files.values()), split="train")),
    "streamed": meaning(load_dataset("parquet", data_files=files, split="test", streaming=True)),
    "cast": meaning(test.cast(train.features)),
    "cast_column": meaning(test.cast_column("label", train.features["label"])),
}
print("alone          ", alone)
for name, labels in read.items():
    print(f"{name:15}", labels)
try:
    concatenate_datasets([train, test])
    refused = False
except ValueError as error:
    refused = "can't be aligned" in str(error)
print("concatenate_datasets refuses the pair:", refused)
aligned = meaning(test.align_labels_with_mapping({"negative": 0, "neutral": 1, "positive": 2}, "label"))
right = {"good": "positive", "bad": "negative", "flat": "neutral"}
wrong = {"good": "negative", "bad": "neutral", "flat": "positive"}
if not (alone == aligned == right and refused and all(labels == wrong for labels in read.values())):
    sys.exit("changed: datasets no longer reads a file with the label names of another file")
PY
cd "$work" && "$work/venv/bin/python" "$work/check.py"
