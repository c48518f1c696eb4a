"""Compare fine-tuning alone with plain Trainer + PEFT on real data: `python -m benchmarks.finetune`.

Both sides train the same encoder (MiniLM) with the same LoRA modules, rank, learning rates of adapter and head,
schedule, batch size, epochs and head on the same rows. Both evaluate the same held-out rows after each epoch, keep the
best epoch, and score the same test rows by the same metric. Words beyond the token limit count as outside every entity
on both sides.

The sides differ in four points. LoRA and head have each side's own initial values. Trainer has dropout inside the
frozen base. Trainer weighs all tokens equally, and fedfin weighs a token as a part of its sentence. Trainer shuffles
its batches and pads them to their longest row, as its users do, and `client.finetune.finetune` puts rows of similar
length together and pads little.

A seed draws the held-out rows, the initial values and the batches. Training and test rows do not depend on it. Each
training is a separate process with one thread, and the two sides alternate. Time is CPU seconds of training and
evaluation, without loading and tokenising. Memory is the peak of the process. Absent data sets are skipped.
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
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.finetune_cases import CASES, DATA, Case, read
from common.data.datasets import Dataset, TokenExample
from common.evaluation.entities import EntityCounts
from common.evaluation.metrics import AnyCounts, ConfusionMatrix
from common.tasks import Task, task
from common.tokenization.batches import IGNORED

RANK, RATE, BATCH, WARMUP, VALIDATION = 16, 1e-3, 16, 0.06, 0.25


def ours(case: Case, seed: int) -> dict[str, float]:
    """Run `finetune`. Its time is the time of steps, validation and test."""
    from client.finetune import AdapterOptions, FineTuningJob, TaskData, TrainingOptions, finetune
    from common.events import EpochEvent, StepEvent

    class Clock:
        """CPU time at the end of the first step. The time of all steps is extrapolated from the later ones."""

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
            FineTuningJob(
                data=(TaskData(task(case.task), train, test),),
                out=Path(out) / "run",
                max_tokens=case.max_tokens,
                adapter=AdapterOptions(rank=RANK, alpha=2.0 * RANK, dropout=0.05),
                training=TrainingOptions(
                    epochs=case.epochs,
                    batch_size=BATCH,
                    learning_rate=RATE,
                    patience=case.epochs,
                    validation=VALIDATION,
                ),
                seed=seed,
                device="cpu",
                observers=(clock,),
            )
        )
    seconds = time.process_time() - clock.began
    return {"score": outcome.measured[case.score], "seconds": seconds * clock.steps / (clock.steps - 1)}


def plain(case: Case, seed: int) -> dict[str, float]:
    """Run Trainer + PEFT on the same split, modules and settings."""
    import peft
    import torch
    from transformers import (
        DataCollatorForTokenClassification,
        DataCollatorWithPadding,
        PrinterCallback,
        Trainer,
        TrainingArguments,
    )

    from common.adapters.target_modules import target_names
    from common.base_models.load import load_base
    from common.config.training import ModelConfig
    from common.data.splits import hold_out, remove_test_rows
    from common.evaluation.task_metrics import task_metrics
    from common.tokenization.batches import tokenize_dataset

    kind: Task = task(case.task)
    train, test = read(case)
    train, _ = remove_test_rows(train, test)
    train, held = hold_out(train, VALIDATION, seed)
    assert held is not None  # noqa: S101 - the sizes above are fixed
    torch.manual_seed(seed)
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

    def score(rows: Dataset, output: Any) -> dict[str, float]:
        best = output.predictions.argmax(-1)
        return task_metrics(kind, rows.labels, counts(rows, output.label_ids, best))

    collate = DataCollatorForTokenClassification if kind.head.labels_words else DataCollatorWithPadding
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
            seed=seed,
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
            compute_metrics=partial(score, held),
            optimizers=(optimizer, None),
        )
        trainer.remove_callback(PrinterCallback)
        started = time.process_time()
        trainer.train()
        trainer.compute_metrics = partial(score, test)
        result = trainer.evaluate(sets[2])
        seconds = time.process_time() - started
    return {"score": float(result[f"eval_{case.score}"]), "seconds": seconds}


def _head_rate(kind: Task) -> float:
    """Return the learning rate that `finetune` takes for the head. It does not depend on the number of rows."""
    from client.finetune.job import AdapterOptions, TrainingOptions
    from client.finetune.options.defaults import BaseFacts, fill_in

    training = TrainingOptions(learning_rate=RATE)
    return fill_in(AdapterOptions(), training, (kind,), BaseFacts(384, 512), rows=1).head_learning_rate


def counts(rows: Dataset, truth: Any, given: Any) -> AnyCounts:
    """Count true and predicted token labels in the same way as `common.evaluation.evaluate`."""
    sentences = [e.labels for e in rows.examples if isinstance(e, TokenExample)]
    if not sentences:
        return ConfusionMatrix.of(truth, given, len(rows.labels))
    outside = rows.labels.index("O")
    guesses = [row[tags != IGNORED].tolist() for tags, row in zip(truth, given, strict=True)]
    # The whole sentence is scored, not only the part that the model read.
    guesses = [row + [outside] * (len(real) - len(row)) for row, real in zip(guesses, sentences, strict=True)]
    return EntityCounts.of(*([[rows.labels[tag] for tag in row] for row in part] for part in (sentences, guesses)))


SIDES = {"fedfin": ours, "Trainer + PEFT": plain}


def _child(case: Case, side: str, seed: int) -> dict[str, float]:
    """Run one training in a separate process."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
    }
    command = [sys.executable, "-m", "benchmarks.finetune", "--case", case.name, "--side", side, "--seed", str(seed)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{case.name}, {side}: {done.stderr.strip().splitlines()[-1]}")
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def main() -> None:
    """Print score (mean and deviation over the seeds), CPU seconds and peak memory of both sides."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=[case.name for case in CASES], help="one data set alone")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="trainings of each side and data set")
    parser.add_argument("--seed", type=int, default=0, help="the first of them")
    parser.add_argument("--side", choices=list(SIDES), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.seeds < 1:
        parser.error(f"--seeds is {given.seeds}: use 1 or more")
    chosen = [case for case in CASES if given.case in (None, case.name)]
    if given.side:
        import resource

        found = SIDES[given.side](chosen[0], given.seed)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(json.dumps({**found, "gib": peak}))
        return
    for case in chosen:
        if not (DATA / case.name).is_dir():
            print(f"{case.name:18} skipped: {DATA / case.name} is absent (set FEDFIN_DATA)")
            continue
        print(f"{case.name}: {case.rows} rows, {case.epochs} epochs, {case.score} on test rows")
        runs: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
        for seed in range(given.seed, given.seed + given.seeds):
            for side in SIDES:
                runs[side].append(_child(case, side, seed))
                print(f"  seed {seed}  {side:15} {_row([runs[side][-1]])}", flush=True)
        for side, repeats in runs.items():
            print(f"  mean    {side:15} {_row(repeats)}")
        seconds = {side: sum(run["seconds"] for run in repeats) for side, repeats in runs.items()}
        print(f"  time of fedfin / of Trainer + PEFT: {seconds['fedfin'] / seconds['Trainer + PEFT']:.2f}", flush=True)


def _row(runs: Sequence[dict[str, float]]) -> str:
    """Format the means, and for several runs the standard deviation of the scores."""
    score, seconds, gib = (statistics.mean(run[key] for run in runs) for key in ("score", "seconds", "gib"))
    spread = f" ± {statistics.stdev(run['score'] for run in runs):.3f}" if len(runs) > 1 else ""
    return f"{score:.3f}{spread}  {seconds:6.1f} s  {gib:.2f} GiB"


if __name__ == "__main__":
    main()
