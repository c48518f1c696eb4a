"""The data sets of `benchmarks.finetune`: training and test rows, the same in every run."""

import os
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from common.data.datasets import Dataset, Example
from common.data.reading import read_labelled
from common.data.tables import read_rows
from common.tasks import task

__all__ = ["CASES", "DATA", "Case", "read"]

DATA = Path(os.environ.get("FEDFIN_DATA", "../shared/data"))


@dataclass(frozen=True)
class Case:
    """A data set, its number of training rows and epochs, and the length in tokens at which texts are cut."""

    name: str
    task: str
    rows: int
    epochs: int
    max_tokens: int
    score: str


CASES = (
    Case("banking77", "document_classification", rows=1000, epochs=3, max_tokens=64, score="weighted_f1"),
    Case("cfpb_complaints", "document_classification", rows=240, epochs=6, max_tokens=128, score="weighted_f1"),
    Case("fin_ner_alvarado", "financial_ner", rows=300, epochs=6, max_tokens=128, score="entity_f1"),
    Case("sentfin", "sentiment_analysis", rows=800, epochs=3, max_tokens=64, score="weighted_f1"),
)


def read(case: Case, test_rows: int = 300) -> tuple[Dataset, Dataset]:
    """Return training and test rows. If there are more than the case takes, the first of a fixed shuffle."""
    folder = DATA / case.name
    if case.name == "fin_ner_alvarado":
        train = read_labelled(folder / "FIN5.txt", case.task)
        test = read_labelled(folder / "FIN3.txt", case.task, labels=train.labels)
        return _first(train, case.rows), _first(test, test_rows)
    if case.name == "banking77":
        train = read_labelled(folder / "train.csv", case.task, "text", "category")
        test = read_labelled(folder / "test.csv", case.task, "text", "category", train.labels)
        return _first(train, case.rows), _first(test, test_rows)
    if case.name == "sentfin":
        rows = read_rows(folder / "desks.csv", ("text", "label", "split"))
        parts = [[r for r in rows if r["split"] == split] for split in ("train", "test")]
        labels = task(case.task).labels
        found = [Dataset(tuple(Example(r["text"], labels.index(r["label"])) for r in p), labels, "") for p in parts]
        return _first(found[0], case.rows), _first(found[1], test_rows)
    file = folder / "cfpb_product_narratives.csv.gz"
    whole = read_labelled(file, case.task, "Consumer complaint narrative", "Product")
    seen = {e.text: e for e in whole.examples if isinstance(e, Example)}
    late = {text for text in seen if _order(text) % 5 == 0}
    train_rows = tuple(e for text, e in seen.items() if text not in late)
    tested = tuple(seen[text] for text in late)
    return _first(replace(whole, examples=train_rows), case.rows), _first(replace(whole, examples=tested), test_rows)


def _order(text: str) -> int:
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big")


def _first(dataset: Dataset, count: int) -> Dataset:
    def key(example: Any) -> int:
        return _order(getattr(example, "text", None) or " ".join(example.words))

    return replace(dataset, examples=tuple(sorted(dataset.examples, key=key)[:count]))
