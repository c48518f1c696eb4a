"""Compare the training speed with Hugging Face `Trainer` + PEFT: `python -m benchmarks.throughput`.

Both sides have the same encoder, adapter, optimiser, rows and number of examples a step, no privacy, no dropout, one
process and one thread. The Trainer pads each shuffled batch to its longest row and takes at most `MICRO` rows at once,
as a user would set it. fedfin sorts the rows of each step by length and packs them under a limit of padded tokens.
Lengths are log-normal, like those of headlines and complaints. Trainings alternate, and the figures are medians of
examples per CPU second.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import peft
import torch
from transformers import DataCollatorWithPadding, PrinterCallback, Trainer, TrainingArguments

from benchmarks.encoder import LABELS, Case, headlines, prepared
from client.dp.plan import DpTrainingPlan
from client.dp.training import train
from common.adapters.adapted_model import AdaptedModel
from common.adapters.feature_cache import FeatureCache
from common.base_models.load import load_classifier
from common.base_models.resolve import resolve_base

CASES = (
    Case("headlines, whole encoder", rows=192, tokens=20, layers="all", trained_factors="AB", spread=0.4),
    Case("complaints, whole encoder", rows=96, tokens=70, layers="all", trained_factors="AB", spread=0.7),
    Case("headlines, last 2 blocks", rows=192, tokens=20, layers="last:2", trained_factors="AB", spread=0.4),
)
STEPS, MICRO, RATE = 3, 32, 1e-3


def ours(case: Case) -> Callable[[], float]:
    """Return examples per CPU second of fedfin's loop, including the first computation of the frozen blocks."""
    model, data = prepared(case)

    def run() -> float:
        plan = DpTrainingPlan(STEPS, 1.0, RATE, RATE, "adamw", 2048, None, 0)
        started = time.process_time()
        train(model, data, plan, None, FeatureCache())
        return STEPS * case.rows / (time.process_time() - started)

    return run


def trainer(case: Case) -> Callable[[], float]:
    """Return examples per CPU second of the Trainer with the same module names, rank and head."""
    model, rows = _peft_model(case)
    tokenizer = prepared(case)[0].base.tokenizer

    def run() -> float:
        with tempfile.TemporaryDirectory() as directory:
            arguments = TrainingArguments(
                directory,
                max_steps=STEPS,
                per_device_train_batch_size=MICRO,
                gradient_accumulation_steps=case.rows // MICRO,
                learning_rate=RATE,
                max_grad_norm=0.0,
                save_strategy="no",
                logging_strategy="no",
                report_to="none",
                use_cpu=True,
                disable_tqdm=True,
                dataloader_pin_memory=False,
            )
            one = Trainer(model, arguments, train_dataset=rows, data_collator=DataCollatorWithPadding(tokenizer))
            one.remove_callback(PrinterCallback)
            started = time.process_time()
            one.train()
            return STEPS * case.rows / (time.process_time() - started)

    return run


def _peft_model(case: Case) -> tuple[Any, Any]:
    adapted, data = prepared(case)
    model: Any = load_classifier(resolve_base("minilm"), LABELS)
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    config = peft.LoraConfig(
        r=8, lora_alpha=16, lora_dropout=0.0, target_modules=_targets(adapted), modules_to_save=["classifier"]
    )
    rows = [
        {"input_ids": ids.tolist(), "labels": int(label)}
        for ids, label in zip(data.input_ids, data.labels or (), strict=True)
    ]
    return peft.get_peft_model(model, config), rows


def _targets(adapted: AdaptedModel) -> list[str]:
    marks = (".lora_B.weight", "base_model.model.")
    return [name.removesuffix(marks[0]).removeprefix(marks[1]) for name in adapted.trainable() if marks[0] in name]


def main() -> None:
    """Print examples per second for each case, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="trainings of each kind that count")
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    for case in CASES:
        sides = {"fedfin": ours(case), "Trainer": trainer(case)}
        found: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(repeats + 1):
            for name, run in sides.items():
                found[name].append(run())
        mine, theirs = (statistics.median(found[name][1:]) for name in ("fedfin", "Trainer"))
        lengths = [len(text.split()) + 2 for text in headlines(case)[0]]
        print(f"{case.name} ({case.rows} rows a step, lengths {min(lengths)} to {max(lengths)})")
        print(f"  examples/s  fedfin {mine:.1f}  Trainer + PEFT {theirs:.1f}  ratio {mine / theirs:.2f}")


if __name__ == "__main__":
    main()
