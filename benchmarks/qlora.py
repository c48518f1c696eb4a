"""Run QLoRA of a small language model on a CPU: `python -m benchmarks.qlora`.

It first prints the memory of SmolLM2-135M's tensors in NF4 (double quantisation), bf16 and fp32. Then it runs
`finetune --adapter qlora` on summaries of the Federal Reserve's Beige Book: rank 64, alpha 128, all seven projections,
cosine schedule, paged 32-bit AdamW. Paging needs a GPU, so on a CPU this is plain 32-bit AdamW. It prints the loss by
step and on held-out rows. Nothing here was run on a GPU.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from common.data.datasets import Dataset, ResponseExample
from common.data.reading import read_labelled

DATA = Path(os.environ.get("FEDFIN_DATA", "../shared/data")) / "beige_book"
PRECISIONS = ("fp32", "bf16", "nf4")


def weights(precision: str) -> float:
    """Return the memory of the model's tensors in MB."""
    from common.base_models.load import load_base
    from common.config.training import ModelConfig
    from common.tasks import task

    dtype: Any = "float32" if precision == "fp32" else "bfloat16"
    kind = task("document_summarization")
    base = load_base(ModelConfig(base="smollm2", max_tokens=192, dtype=dtype), kind, 0, quantize4bit=precision == "nf4")
    model: Any = base.model
    return float(model.get_memory_footprint()) / 1e6


def rows(count: int, start: int) -> Dataset:
    """Return shortened sections of reports with the first sentences of their summaries."""
    file = DATA / "beige_book_summary_pairs_2017_2020.jsonl.gz"
    found = read_labelled(file, "document_summarization", "document").examples
    pairs = [example for example in found if isinstance(example, ResponseExample)][start : start + count]
    short = (ResponseExample(p.text[:800], ". ".join(p.response.split(". ")[:2])) for p in pairs)
    return Dataset(tuple(short), (), "beige_book")


def training(count: int, epochs: int) -> dict[str, Any]:
    """Return losses by step, losses on held-out rows by epoch, time and memory."""
    from client.finetune import AdapterOptions, FineTuningJob, TaskData, TrainingOptions, finetune
    from client.finetune.options.memory import estimate_memory
    from client.finetune.options.resolve import resolve_settings
    from common.events import EpochEvent, StepEvent
    from common.tasks import task

    class Losses:
        def __init__(self) -> None:
            self.steps: list[float] = []
            self.held: list[float] = []

        def on_step(self, event: StepEvent) -> None:
            self.steps.append(event.loss)
            print(f"  step {event.step} of {event.steps}: loss {event.loss:.3f}", file=sys.stderr, flush=True)

        def on_epoch(self, event: EpochEvent) -> None:
            self.held.append(event.metrics["loss"])

    losses = Losses()
    kind = task("document_summarization")
    with tempfile.TemporaryDirectory() as out:
        job = FineTuningJob(
            data=(TaskData(kind, rows(count, 0), rows(4, count)),),
            out=Path(out) / "run",
            base_model="smollm2",
            max_tokens=192,
            adapter=AdapterOptions(method="qlora"),
            training=TrainingOptions(epochs=epochs, batch_size=8, validation=0.25, max_batch_tokens=1024),
            device="cpu",
            observers=(losses,),
        )
        resolved = resolve_settings(job, count)
        need = estimate_memory("smollm2", resolved.base_config, kind, resolved.settings)
        outcome = finetune(job)
    return {
        "steps": losses.steps,
        "held": losses.held,
        "rouge_l": outcome.measured["rouge_l"],
        "trainable": outcome.trainable_parameters,
        "total": outcome.total_parameters,
        "peak": outcome.peak_memory_bytes / 1e9,
        "expected": need.total / 1e9,
        "seconds": outcome.train_metrics["training_seconds"],
    }


def _child(*arguments: str) -> dict[str, Any]:
    environment = {"OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-m", "benchmarks.qlora", *arguments]
    done = subprocess.run(command, env=environment | os.environ, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def main() -> None:
    """Print memory by precision, then the losses."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=96, help="reports to train on and choose by")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--train", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.train:
        print(json.dumps(training(given.rows, given.epochs)))
        return
    for precision in PRECISIONS:
        print(f"{precision}: {weights(precision):.0f} MB", flush=True)
    if not DATA.is_dir():
        print(f"training skipped: {DATA} is absent (set FEDFIN_DATA)")
        return
    found = _child("--train", "--rows", str(given.rows), "--epochs", str(given.epochs))
    quarter = max(1, len(found["steps"]) // 4)
    first, last = (statistics.fmean(part) for part in (found["steps"][:quarter], found["steps"][-quarter:]))
    print(f"trained {found['trainable']:,} of {found['total']:,} parameters in {found['seconds']:.0f} s")
    print(f"loss: first quarter of the steps {first:.3f}, last quarter {last:.3f}")
    print(f"loss on held-out rows after each epoch: {', '.join(f'{value:.3f}' for value in found['held'])}")
    print(f"ROUGE-L of four test summaries: {found['rouge_l']:.3f}")
    print(f"peak memory {found['peak']:.2f} GB, estimated before loading {found['expected']:.2f} GB")


if __name__ == "__main__":
    main()
