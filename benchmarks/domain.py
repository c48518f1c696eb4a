"""Section classification of annual reports for companies never seen, from the base model to domain adaptation.

    FEDFIN_DATA=... python -m benchmarks.domain --out runs/domain

Companies are split by the hash of their name, never by row. Every arm is trained on the same rows and measured on the
same test rows. A bag of words is fitted on the same rows, and on all rows of the training companies. The stages before
the target task (pretraining on the training companies' text, an intermediate task) run once. A seed draws the labelled
rows, their order and the initial adapter. Settings were chosen with --companies validation, which splits the training
companies again and never uses the test companies.
"""

import argparse
import gzip
import hashlib
import json
import os
import random
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from client.finetune.job import AdapterOptions, FineTuningJob, TaskData, TrainingOptions
from client.finetune.result import FineTuningResult
from client.finetune.strategies import continual_pretraining, distillation, single_task
from client.finetune.strategies.continual_pretraining import AdaptationJob
from client.finetune.strategies.distillation import DistillationJob
from client.finetune.strategies.domain_terms import TermList, curated, mine
from client.finetune.strategies.stages import PUBLISHED
from common.adapters.restore import load_adapter
from common.base_models.extend import write_merged_base
from common.base_models.pretrained import load_tokenizer
from common.data.datasets import Dataset, Example
from common.evaluation.metrics import ConfusionMatrix
from common.files import write_json
from common.tasks import task

SECTIONS = Path("edgar_10k", "section_paragraphs.jsonl.gz")
TOPICS = Path("beige_book", "beige_book_sections_2017_2020.jsonl.gz")
KIND = task("document_classification")
Row = dict[str, Any]


def rows_of(path: Path) -> list[Row]:
    """Return the rows of a gzipped JSON-lines file."""
    with gzip.open(path, "rt") as file:
        return [json.loads(line) for line in file]


def by_group(rows: Sequence[Row], column: str, share: float) -> tuple[list[Row], list[Row]]:
    """Split rows by group into training rows and test rows. About `share` of the groups are test groups."""
    sides: tuple[list[Row], list[Row]] = ([], [])
    for row in rows:
        draw = int.from_bytes(hashlib.sha256(str(row[column]).encode()).digest()[:4])
        sides[draw < share * 2**32].append(row)
    return sides


def dataset(rows: Sequence[Row], labels: tuple[str, ...], name: str) -> Dataset:
    """Convert rows to labelled texts."""
    return Dataset(tuple(Example(row["text"], labels.index(row["label"])) for row in rows), labels, name)


def some(rows: Sequence[Row], count: int, seed: int) -> list[Row]:
    """Draw `count` rows with different texts by `seed`."""
    unique = list({row["text"]: row for row in rows}.values())
    random.Random(seed).shuffle(unique)  # noqa: S311 - an order, not a secret
    return unique[:count]


def bag_of_words(train: Dataset, test: Dataset) -> dict[str, float]:
    """Measure TF-IDF (words and pairs) with logistic regression."""
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2), LogisticRegression(C=10.0, max_iter=500)
    )
    model.fit([e.text for e in train.examples], [e.label for e in train.examples])
    predicted = [int(label) for label in model.predict([e.text for e in test.examples])]
    counts = ConfusionMatrix.of([e.label for e in test.examples], predicted, len(test.labels))
    return {"accuracy": counts.accuracy, "macro_f1": counts.macro_f1}


class Arms:
    """The arms of one seed. Each arm keeps its directory, so an interrupted benchmark continues."""

    def __init__(self, given: argparse.Namespace, seed: int) -> None:
        self.given, self.seed = given, seed
        self.out = given.out / f"seed{seed}"
        data = Path(os.environ.get("FEDFIN_DATA", "../shared/data"))
        train, test = by_group(rows_of(data / SECTIONS), "company", 0.35)
        if given.companies == "validation":
            parted = [{**row, "drawn": f"validation {row['company']}"} for row in train]
            train, test = by_group(parted, "drawn", 0.25)
        labels = tuple(sorted({row["label"] for row in train}))
        test = [row for row in test if row["label"] in labels]
        self.all_train = dataset(some(train, 10**9, seed), labels, "all rows of the training companies")
        self.target = TaskData(
            KIND,
            dataset(some(train, given.rows, seed), labels, "train"),
            dataset(some(test, given.test_rows, 0), labels, "test"),
        )
        texts = ([row["text"] for row in some(train, given.corpus, 100)], [row["text"] for row in some(test, 400, 1)])
        corpus = (Dataset(tuple(Example(text, 0) for text in side), (), "corpus") for side in texts)
        self.corpus = TaskData(task("masked_language_modelling"), *corpus)
        topics, later = by_group(rows_of(data / TOPICS), "district", 0.2)
        kinds = tuple(sorted({row["label"] for row in topics}))
        self.topics = TaskData(
            KIND,
            dataset(some(topics, given.rows, 0), kinds, "topics"),
            dataset(some(later, 300, 0), kinds, "topics test"),
        )

    def finetune(self, name: str, base: str, layers: str = "", rate: float | None = None) -> FineTuningResult:
        """Train LoRA (or the head alone) on the rows of the target task."""
        common = self._common(base, layers or self.given.layers, rate)
        return single_task.run(FineTuningJob(data=(self.target,), out=self.out / name, **common))

    def _common(self, base: str, layers: str, rate: float | None = None, epochs: int | None = None) -> dict[str, Any]:
        given = self.given
        training = TrainingOptions(
            epochs=epochs or given.epochs, batch_size=16, learning_rate=rate, validation=0.0, precision=given.precision
        )
        return {
            "base_model": base,
            "max_tokens": given.tokens,
            "adapter": AdapterOptions(rank=16, layers=layers),
            "training": training,
            "seed": self.seed,
        }

    def adapt(self) -> FineTuningResult:
        """Add words and pretrain on the training companies' paragraphs, once for all seeds."""
        texts = [example.text for example in self.corpus.train.examples if isinstance(example, Example)]
        mined = mine(texts, load_tokenizer("minilm"), 150, "public")
        words = tuple(dict.fromkeys((*curated("sec_filings").words, *mined.words)))
        common = self._common("minilm", "all", epochs=self.given.pretraining_epochs) | {"seed": 0}
        job = AdaptationJob(
            **common, data=(self.corpus,), out=self.given.out / "adapt", strategy="continual_pretraining", public=True,
            terms=TermList(words, "public", "benchmark"),
        )  # fmt: skip
        return continual_pretraining.run(job)

    def intermediate(self, base: str) -> str:
        """Train a base model on the Beige Book's topics as an intermediate task, once for all seeds."""
        place = (self.given.out / "intermediate").resolve()
        common = self._common(base, self.given.layers) | {"seed": 0}
        outcome = single_task.run(FineTuningJob(data=(self.topics,), out=place / "training", **common))
        if not (place / "base").is_dir():
            write_merged_base(load_adapter(outcome.adapter)[0], base, place / "base", private=False)
        return str(place / "base")

    def distil(self, base: str, teacher: FineTuningResult) -> FineTuningResult:
        """Distil the teacher into three of its six blocks."""
        job = DistillationJob(
            **self._common(base, "all"), data=(self.target,), out=self.out / "distilled", strategy="distillation",
            teacher=teacher.adapter, student_blocks=3,
        )  # fmt: skip
        return distillation.run(job)

    def run(self) -> dict[str, Any]:
        """Run every arm and return the metrics on the test rows."""
        found: dict[str, Any] = {
            "bag of words, all rows": bag_of_words(self.all_train, self.target.test),
            "bag of words, same rows": bag_of_words(self.target.train, self.target.test),
        }
        self._note(found, "base, head alone", self.finetune("head", "minilm", layers="none"))
        self._note(found, "+ LoRA", self.finetune("lora", "minilm"))
        if self.given.published:
            rate = PUBLISHED["target_task"].learning_rate
            self._note(found, "+ LoRA at the published rate", self.finetune("published", "minilm", rate=rate))
        adapted = self.adapt()
        found["adaptation"] = {**adapted.measured, "warnings": adapted.warnings}
        self._note(found, "+ vocabulary and pretraining", self.finetune("adapted", adapted.base_model))
        base = self.intermediate(adapted.base_model)
        teacher = self.finetune("stages", base)
        self._note(found, "+ stages (intermediate task)", teacher)
        self._note(found, "+ distillation (3 blocks)", self.distil(base, teacher))
        return found

    def _note(self, found: dict[str, Any], name: str, outcome: FineTuningResult) -> None:
        figures = {key: outcome.measured[key] for key in ("accuracy", "macro_f1")}
        found[name] = figures | {"seconds": outcome.seconds, "parameters": outcome.total_parameters}
        print(
            f"seed {self.seed}: {name}: accuracy {figures['accuracy']:.3f}, macro F1 {figures['macro_f1']:.3f}",
            flush=True,
        )


def main() -> int:
    """Run the arms for each seed, and print the means."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/domain"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--companies", choices=("test", "validation"), default="test", help="which are measured on")
    parser.add_argument("--rows", type=int, default=2000, help="labelled rows of each task")
    parser.add_argument("--test-rows", type=int, default=1000)
    parser.add_argument("--corpus", type=int, default=2500, help="unlabelled paragraphs")
    parser.add_argument("--tokens", type=int, default=64, help="at which paragraphs are cut (their mean is 100)")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--pretraining-epochs", type=int, default=1)
    parser.add_argument("--layers", default="last:2", help="adapted by LoRA in the labelled arms")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="bfloat16", help="computed in")
    parser.add_argument("--published", action="store_true", help="LoRA at the published rate of the target task too")
    given = parser.parse_args()
    if not (Path(os.environ.get("FEDFIN_DATA", "../shared/data")) / SECTIONS).is_file():
        print("domain: skipped: set FEDFIN_DATA to a directory with edgar_10k and beige_book")
        return 0
    results = {seed: Arms(given, seed).run() for seed in given.seeds}
    write_json(given.out / "result.json", results)
    for name in next(iter(results.values())):
        if name == "adaptation":
            continue
        for figure in ("accuracy", "macro_f1"):
            values = [result[name][figure] for result in results.values()]
            spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
            print(f"{name}: {figure} {statistics.mean(values):.3f}{spread} ({len(values)} seeds)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
