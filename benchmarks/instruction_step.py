"""Compare the training of a decoder on prompts and responses with TRL's, and with privacy.

FEDFIN_DATA=DIRECTORY python -m benchmarks.instruction_step

DIRECTORY holds the rows of `benchmarks.instructions`. SmolLM2-135M with LoRA of rank 16 learns the same rows, in
batches of similar length, with fedfin's loop and with TRL's SFTTrainer on the same PEFT model. Then the federation's
loop takes steps over all rows without and with privacy in turn, whose check before a training is not counted. Times are
processor seconds of one process with one thread, so other work of the machine counts little.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.dp_step import AIM as AIM_PLAIN
from benchmarks.dp_step import seconds as seconds_of_step
from client.finetune.training.loop import fit
from client.finetune.training.plan import LoopPlan, Training, TrainingSet, grouped_minibatches
from client.finetune.training.sft import instruct
from common.adapters.adapted_model import AdaptedModel
from common.adapters.feature_cache import FeatureCache
from common.adapters.manifest import Manifest
from common.adapters.restore import build
from common.config.adapter import AdapterConfig
from common.data.reading import read_labelled
from common.tokenization.batches import TokenizedSet

AIM_TRL = 0.7
ROWS, BATCH, EPOCHS = 32, 16, 2
PLAN = LoopPlan(EPOCHS, 1e-3, 1e-3, "adamw", "linear", 0.0, 3, 8192, "float32", "log_likelihood", 0, "benchmark")


def prepared(layers: str) -> tuple[AdaptedModel, TokenizedSet]:
    """Return SmolLM2 with its adapter, and the rows."""
    lora = AdapterConfig(
        rank=16, alpha=32, dropout=0.0, target_modules="all-linear", layers=layers, trained_factors="AB"
    )
    tasks: dict[str, tuple[str, ...]] = {"instruction_tuning": ()}
    model = build(Manifest(base_model="smollm2", pooling="mean", max_tokens=192, tasks=tasks, adapter=lora, seed=1))
    file = Path(os.environ["FEDFIN_DATA"]) / "instructions_three_banks.jsonl"
    rows = read_labelled(file, "instruction_tuning")
    every = len(rows) // ROWS
    return model, model.encode_dataset(replace(rows, examples=rows.examples[::every][:ROWS]))


def seconds(work: Callable[[], object]) -> float:
    """Return the processor seconds of `work`."""
    started = time.process_time()
    work()
    return time.process_time() - started


def ours_and_trl(layers: str) -> tuple[float, float]:
    """Return the seconds of a step of fedfin's loop, and of one of TRL's SFTTrainer."""
    steps = EPOCHS * ROWS // BATCH
    found = []
    for kind in ("ours", "trl"):
        model, rows = prepared(layers)
        with tempfile.TemporaryDirectory() as out:
            if kind == "ours":
                training = Training(
                    model,
                    [TrainingSet(rows, model.logits)],
                    lambda generator, rows=rows: [  # type: ignore[misc]
                        ((0, batch),) for batch in grouped_minibatches(rows.lengths, BATCH, generator)
                    ],
                    PLAN,
                )
                found.append(seconds(lambda training=training, out=out: fit(training, Path(out) / "state.pt")) / steps)  # type: ignore[misc]
            else:
                asked = (model, rows, None, PLAN, BATCH, Path(out))
                found.append(seconds(lambda asked=asked: instruct(*asked)) / steps)  # type: ignore[misc]
    return found[0], found[1]


def private_and_plain(layers: str, repeats: int = 3) -> tuple[float, float]:
    """Return the median seconds of a private step over all rows, and of the same step without privacy."""
    model, rows = prepared(layers)
    cache, found = FeatureCache(), dict[str, list[float]](exact=[], plain=[])
    for _ in range(repeats + 1):
        for kind, measured in found.items():
            measured.append(seconds_of_step(model, rows, kind, cache))
    private, plain = (statistics.median(measured[1:]) for measured in found.values())
    return private, plain


def main() -> None:
    """Print the ratios."""
    torch.set_num_threads(1)
    for layers in ("all", "last:8"):
        ours, trl = ours_and_trl(layers)
        print(
            f"layers {layers}: {ours:.2f} s a step, TRL {trl:.2f} s, ratio {ours / trl:.2f} (aim {AIM_TRL})", flush=True
        )
        private, plain = private_and_plain(layers)
        both = f"private step {private:.2f} s, plain {plain:.2f} s"
        print(f"  {both}, ratio {private / plain:.2f} (aim {AIM_PLAIN})", flush=True)


if __name__ == "__main__":
    main()
