"""Three institutions with three kinds of instruction, in one file: the rows of `instructions_three_banks.toml`.

FEDFIN_DATA=... python -m benchmarks.instructions DIRECTORY

writes DIRECTORY/instructions_three_banks.jsonl from SEntFiN (sentiment of headlines), Banking77 (topics of customers'
questions) and the CFPB's complaints (products), and prints the accuracy of TF-IDF with logistic regression on the rows
of each. Then `FEDFIN_DATA=DIRECTORY fedfin-simulate run benchmarks/instructions_three_banks.toml` trains on it.
"""

import argparse
import csv
import gzip
import io
import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

__all__ = ["FILE", "main", "rows_of"]

FILE = "instructions_three_banks.jsonl"
_TRAIN, _TEST = 500, 100
"""Rows of each institution."""
_LABELS = 6
"""Most frequent labels of each kind that are kept."""
_LONGEST = 240
"""Characters at which a text is cut, so that a row has about 100 tokens."""

INSTRUCTIONS = {
    "markets": "What is the sentiment of this headline? Answer {labels}.",
    "branch": "What is this customer's question about? Answer {labels}.",
    "complaints": "Which product is this complaint about? Answer {labels}.",
}

KINDS = {"markets": "sentiment", "branch": "topic", "complaints": "product"}
"""The kind of instruction of each institution, whose answers the run declares."""

Pair = tuple[str, str]


def rows_of(institution: str, train: Sequence[Pair], test: Sequence[Pair]) -> list[dict[str, str]]:
    """Return the rows of one institution: text and label as instruction, input and output.

    Args:
        institution: Its name in `INSTRUCTIONS`.
        train, test: Texts with their labels. Only those of the most frequent labels are kept.

    Returns:
        The rows, drawn with a fixed seed.
    """
    common = sorted(label for label, _ in Counter(label for _, label in train).most_common(_LABELS))
    instruction = INSTRUCTIONS[institution].format(labels=f"{', '.join(common[:-1])} or {common[-1]}")
    rows = []
    for split, pairs, wanted in (("train", train, _TRAIN), ("test", test, _TEST)):
        kept = [pair for pair in dict.fromkeys(pairs) if pair[1] in common]
        for place in np.random.default_rng(1).permutation(len(kept))[:wanted]:
            text, label = kept[int(place)]
            rows.append(
                {
                    "instruction": instruction,
                    "input": text[:_LONGEST],
                    "output": label,
                    "kind": KINDS[institution],
                    "institution": institution,
                    "split": split,
                }
            )
    return rows


def _read(path: Path, text: str, label: str) -> list[dict[str, str]]:
    content = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
    rows = list(csv.DictReader(io.StringIO(content, newline="")))
    return [row | {"text": row[text], "label": row[label].replace("_", " ").lower()} for row in rows]


def _pairs(rows: Iterable[dict[str, str]]) -> list[Pair]:
    return [(row["text"], row["label"]) for row in rows if row["text"].strip()]


def _bag_of_words(rows: Sequence[dict[str, str]]) -> float:
    """Accuracy of TF-IDF (words and pairs) with logistic regression."""
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10))
    train, test = ([row for row in rows if row["split"] == split] for split in ("train", "test"))
    model.fit([row["input"] for row in train], [row["output"] for row in train])
    return float(model.score([row["input"] for row in test], [row["output"] for row in test]))


def main() -> int:
    """Write the file, and print the baseline of each institution."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, help="where to write the file")
    out: Path = parser.parse_args().directory
    if "FEDFIN_DATA" not in os.environ:
        print("instructions: name the directory of the data in FEDFIN_DATA", file=sys.stderr)
        return 2
    data = Path(os.environ["FEDFIN_DATA"])
    headlines = _read(data / "sentfin" / "desks.csv", "text", "label")
    questions = [_read(data / "banking77" / f"{split}.csv", "text", "category") for split in ("train", "test")]
    letters = _read(
        data / "cfpb_complaints" / "cfpb_product_narratives.csv.gz", "Consumer complaint narrative", "Product"
    )
    parts = {
        "markets": [_pairs(row for row in headlines if row["split"] == split) for split in ("train", "test")],
        "branch": [_pairs(part) for part in questions],
        "complaints": [_pairs(letters[: len(letters) * 3 // 4]), _pairs(letters[len(letters) * 3 // 4 :])],
    }
    out.mkdir(parents=True, exist_ok=True)
    rows = {name: rows_of(name, train, test) for name, (train, test) in parts.items()}
    (out / FILE).write_text("".join(json.dumps(row) + "\n" for part in rows.values() for row in part))
    for name, part in rows.items():
        labels = Counter(row["output"] for row in part if row["split"] == "test")
        most = labels.most_common(1)[0][1] / sum(labels.values())
        print(f"{name}: {len(labels)} labels, bag of words {_bag_of_words(part):.3f}, majority {most:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
