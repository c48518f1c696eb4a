"""Compare the training speed with Hugging Face `Trainer` + PEFT: `python -m benchmarks.throughput`.

All sides have the same encoder, adapter, optimiser, rows and number of examples a step, no dropout, one process and
one thread. fedfin trains with differential privacy and without, the Trainer without. The Trainer pads each shuffled
batch to its longest row and takes at most `MICRO` rows at once, as a user would set it. fedfin sorts the rows of each
step by length and packs them under a limit of padded tokens. With privacy it puts them into blocks of fixed shape. Its
check before a private training is not counted.
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
from client.dp.mechanism import DpSettings
from client.dp.noise import SystemNoise
from client.dp.plan import DpTrainingPlan
from client.dp.training import train, verify_training
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
AIMS = (3, 4, 6)  # private examples/s over those of the Trainer, by case


def ours(case: Case, private: bool) -> Callable[[], float]:
    """Return examples per CPU second of fedfin's loop, including the first computation of the frozen blocks."""
    model, data = prepared(case)
    dp = DpSettings(1.0, 1.0, sampling_probability=1.0, steps=STEPS, expected_batch_size=case.rows) if private else None
    plan = DpTrainingPlan(STEPS, 1.0, RATE, RATE, "adamw", 2048, dp, 0)

    def run() -> float:
        verify_training(model, plan)
        started = time.process_time()
        train(model, data, plan, SystemNoise() if private else None, FeatureCache())
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
    for case, aim in zip(CASES, AIMS, strict=True):
        sides = {"private": ours(case, True), "fedfin": ours(case, False), "Trainer": trainer(case)}
        found: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(repeats + 1):
            for name, run in sides.items():
                found[name].append(run())
        private, mine, theirs = (statistics.median(each[1:]) for each in found.values())
        lengths = [len(text.split()) + 2 for text in headlines(case)[0]]
        print(f"{case.name} ({case.rows} rows a step, lengths {min(lengths)} to {max(lengths)})")
        print(f"  examples/s  private {private:.1f}  fedfin {mine:.1f}  Trainer + PEFT {theirs:.1f}")
        print(f"  over the Trainer  private {private / theirs:.2f} (aim: {aim})  without privacy {mine / theirs:.2f}")


if __name__ == "__main__":
    main()
