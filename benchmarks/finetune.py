"""Fine-tuning alone beside plain Trainer + PEFT, on real data: `python -m benchmarks.finetune`.

Both sides train the same encoder (MiniLM) with the same LoRA modules, rank, rates of adapter and head, schedule, batch,
epochs and head on the same rows, measure the same held-out rows after each epoch and keep the best one, and score the
same test rows. What differs: where LoRA and the head start (each side's own), dropout inside the frozen base (the
Trainer's side alone), and the batches. The Trainer's are shuffled and padded to their longest row, as its users have
them; `client.finetune.finetune` puts rows of like length together and pads little.

Each training is a process of its own with one thread; the two sides alternate. Time is processor seconds of training
and evaluation (loading and tokenising left out), memory the process's peak. Data sets that are absent are skipped.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from common.data import Dataset, Example, read_conll, read_examples, read_rows
from common.tasks import Task, task

DATA = Path(os.environ.get("FEDFIN_DATA", "../shared/data"))
RANK, RATE, BATCH, WARMUP, VALIDATION, SEED = 16, 1e-3, 16, 0.06, 0.25, 0


@dataclass(frozen=True)
class Case:
    """A data set, how many of its rows train, how often, and at which length texts are cut."""

    name: str
    task: str
    rows: int
    epochs: int
    max_tokens: int
    score: str


CASES = (
    Case("banking77", "document_classification", rows=1000, epochs=3, max_tokens=64, score="weighted_f1"),
    Case("cfpb_complaints", "document_classification", rows=240, epochs=4, max_tokens=128, score="weighted_f1"),
    Case("fin_ner_alvarado", "financial_ner", rows=300, epochs=4, max_tokens=128, score="entity_f1"),
    Case("sentfin", "sentiment_analysis", rows=800, epochs=3, max_tokens=64, score="weighted_f1"),
)


def read(case: Case, test_rows: int = 300) -> tuple[Dataset, Dataset]:
    """Training and test rows; the first of a fixed shuffle where there are more than the case takes."""
    folder = DATA / case.name
    if case.name == "fin_ner_alvarado":
        train = read_conll(folder / "FIN5.txt")
        return _first(train, case.rows), _first(read_conll(folder / "FIN3.txt", train.labels), test_rows)
    if case.name == "banking77":
        train = read_examples(folder / "train.csv", "text", "category")
        return _first(train, case.rows), _first(
            read_examples(folder / "test.csv", "text", "category", train.labels), test_rows
        )
    if case.name == "sentfin":
        rows = read_rows(folder / "desks.csv", ("text", "label", "split"))
        parts = [[r for r in rows if r["split"] == split] for split in ("train", "test")]
        labels = task(case.task).labels
        found = [Dataset(tuple(Example(r["text"], labels.index(r["label"])) for r in p), labels, "") for p in parts]
        return _first(found[0], case.rows), _first(found[1], test_rows)
    whole = read_examples(folder / "cfpb_product_narratives.csv.gz", "Consumer complaint narrative", "Product")
    seen = {e.text: e for e in whole.examples if isinstance(e, Example)}
    late = {text for text in seen if _order(text) % 5 == 0}
    train_rows = tuple(e for text, e in seen.items() if text not in late)
    test = tuple(seen[text] for text in late)
    return _first(replace(whole, examples=train_rows), case.rows), _first(replace(whole, examples=test), test_rows)


def _order(text: str) -> int:
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big")


def _first(dataset: Dataset, count: int) -> Dataset:
    def key(example: Any) -> int:
        return _order(getattr(example, "text", None) or " ".join(example.words))

    return replace(dataset, examples=tuple(sorted(dataset.examples, key=key)[:count]))


def ours(case: Case) -> dict[str, float]:
    """`finetune`; its time is that of its steps, its validation and its test."""
    from client.finetune import AdapterChoice, Job, TaskData, TrainingChoice, finetune
    from client.finetune.events import EpochEvent, StepEvent

    class Clock:
        """When training began: at the end of the first step, from which the others are counted up."""

        began = 0.0
        steps = 0

        def on_step(self, event: StepEvent) -> None:
            self.began = self.began or time.process_time()
            self.steps = event.step

        def on_epoch(self, event: EpochEvent) -> None:
            pass

    train, test = read(case)
    clock = Clock()
    with tempfile.TemporaryDirectory() as out:
        outcome = finetune(
            Job(
                data=(TaskData(task(case.task), train, test),),
                out=Path(out) / "run",
                max_tokens=case.max_tokens,
                adapter=AdapterChoice(rank=RANK, alpha=2.0 * RANK, dropout=0.05),
                training=TrainingChoice(
                    epochs=case.epochs,
                    batch_size=BATCH,
                    learning_rate=RATE,
                    patience=case.epochs,
                    validation=VALIDATION,
                ),
                seed=SEED,
                device="cpu",
                observers=(clock,),
            )
        )
    seconds = time.process_time() - clock.began
    return {"score": outcome.metrics[case.score], "seconds": seconds * clock.steps / (clock.steps - 1)}


def plain(case: Case) -> dict[str, float]:
    """Trainer + PEFT on the same split, modules and settings."""
    import peft
    import torch
    from transformers import (
        DataCollatorForTokenClassification,
        DataCollatorWithPadding,
        PrinterCallback,
        Trainer,
        TrainingArguments,
    )

    from client.finetune import rows
    from common.config import ModelConfig
    from common.figures import figures
    from common.model import load_base
    from common.modules import target_names
    from common.tasks import Head
    from common.tokens import IGNORED, tokenize_dataset

    kind: Task = task(case.task)
    train, test = read(case)
    train, _ = rows.without(train, test)
    train, held = rows.hold_out(train, VALIDATION, SEED)
    assert held is not None  # noqa: S101 - the sizes above are fixed
    torch.manual_seed(SEED)
    base = load_base(ModelConfig(max_tokens=case.max_tokens), kind, len(train.labels))
    names = target_names(base.model, base.family, "all-linear", (), head_names=base.head_names)
    model = peft.get_peft_model(
        base.model,
        peft.LoraConfig(
            r=RANK,
            lora_alpha=2 * RANK,
            lora_dropout=0.05,
            target_modules=list(names),
            modules_to_save=list(base.head_names),
        ),
    )
    sets = []
    for part in (train, held, test):
        tokens = tokenize_dataset(base.tokenizer, part, case.max_tokens)
        labels = tokens.labels or ()
        sets.append(
            [{"input_ids": i.tolist(), "labels": n.tolist()} for i, n in zip(tokens.input_ids, labels, strict=True)]
        )

    def score(output: Any) -> dict[str, float]:
        best = output.predictions.argmax(-1)
        return figures(kind, train.labels, _counts(kind, train.labels, output.label_ids, best, IGNORED))

    collate = DataCollatorForTokenClassification if kind.head is Head.TOKEN else DataCollatorWithPadding
    with tempfile.TemporaryDirectory() as directory:
        arguments = TrainingArguments(
            directory,
            num_train_epochs=case.epochs,
            per_device_train_batch_size=BATCH,
            per_device_eval_batch_size=64,
            learning_rate=RATE,
            weight_decay=0.01,
            warmup_steps=WARMUP,
            eval_strategy="epoch",
            save_strategy="epoch",
            load_best_model_at_end=True,
            metric_for_best_model=case.score,
            logging_strategy="no",
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
            dataloader_pin_memory=False,
            label_names=["labels"],
            seed=SEED,
        )
        head = [p for name, p in model.named_parameters() if "modules_to_save" in name and p.requires_grad]
        adapter = [p for name, p in model.named_parameters() if "lora_" in name and p.requires_grad]
        groups = [{"params": adapter, "lr": RATE}, {"params": head, "lr": _head_rate(kind)}]
        optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
        trainer = Trainer(
            model,
            arguments,
            collate(base.tokenizer),
            sets[0],
            sets[1],
            compute_metrics=score,
            optimizers=(optimizer, None),
        )
        trainer.remove_callback(PrinterCallback)
        started = time.process_time()
        trainer.train()
        result = trainer.evaluate(sets[2])
        seconds = time.process_time() - started
    return {"score": float(result[f"eval_{case.score}"]), "seconds": seconds}


def _head_rate(kind: Task) -> float:
    """What `finetune` takes for the head; the number of rows does not matter."""
    from client.finetune.defaults import defaults
    from client.finetune.job import AdapterChoice, TrainingChoice

    return defaults(AdapterChoice(), TrainingChoice(learning_rate=RATE), kind.head, 384, 1).head_learning_rate


def _counts(kind: Task, labels: Sequence[str], truth: Any, given: Any, ignored: int) -> Any:
    from common.metrics import Counts, EntityCounts
    from common.tasks import Head

    if kind.head is not Head.TOKEN:
        return Counts.of(truth, given, len(labels))
    real = [[labels[t] for t in row if t != ignored] for row in truth]
    guess = [
        [labels[g] for t, g in zip(tags, row, strict=True) if t != ignored]
        for tags, row in zip(truth, given, strict=True)
    ]
    return EntityCounts.of(real, guess)


SIDES = {"fedfin": ours, "Trainer + PEFT": plain}


def _child(case: Case, side: str) -> dict[str, float]:
    """One training in a process of its own."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
    }
    command = [sys.executable, "-m", "benchmarks.finetune", "--case", case.name, "--side", side]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{case.name}, {side}: {done.stderr.strip().splitlines()[-1]}")
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def main() -> None:
    """Print score, processor seconds and peak memory of both sides, and the ratio of the seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=[case.name for case in CASES], help="one data set alone")
    parser.add_argument("--repeats", type=int, default=1, help="trainings of each side and data set")
    parser.add_argument("--side", choices=list(SIDES), help=argparse.SUPPRESS)
    given = parser.parse_args()
    chosen = [case for case in CASES if given.case in (None, case.name)]
    if given.side:
        import resource

        found = SIDES[given.side](chosen[0])
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(json.dumps({**found, "gib": peak}))
        return
    print(f"{'data':18} {'side':15} {'score':>22} {'seconds':>8} {'GiB':>5}  time ratio")
    for case in chosen:
        if not (DATA / case.name).is_dir():
            print(f"{case.name:18} skipped: {DATA / case.name} is absent (set FEDFIN_DATA)")
            continue
        runs: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
        for _ in range(given.repeats):
            for side in SIDES:
                runs[side].append(_child(case, side))
        median = {
            side: {key: statistics.median(run[key] for run in found) for key in found[0]}
            for side, found in runs.items()
        }
        ratio = median["fedfin"]["seconds"] / median["Trainer + PEFT"]["seconds"]
        for side, found in median.items():
            score, end = f"{case.score} {found['score']:.3f}", f"{ratio:.2f}" if side == "fedfin" else ""
            print(
                f"{case.name:18} {side:15} {score:>22} {found['seconds']:8.1f} {found['gib']:5.2f}  {end}",
                flush=True,
            )


if __name__ == "__main__":
    main()
