"""Measure the private step on a GPU, without a network: `python -m benchmarks.gpu`, or `--toy` on a CPU.

A Llama of 1.1 billion random parameters and the packaged encoder learn random headlines in float32 (the encoder),
bfloat16 and 4 bits (if bitsandbytes is there), by the private step and by the plain one in turn. Each line has the
ratio of their seconds on the clock, the examples a second of the private step, the peak memory of each, and the result
of the check that compares an example's gradient bit for bit in different company (`client.dp.gradient_check`). If the
check fails, private training is refused on that device, and the line says so. No measurement starts after `LIMIT_S`.

With `--toy` a small Llama and few rows run on the CPU, to show that the program works. Its figures say nothing of a
GPU.
"""

import argparse
import importlib.util
import resource
import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from benchmarks.encoder import LABELS, Case, headlines
from client.dp.mechanism import DpSettings
from client.dp.noise import SystemNoise
from client.dp.plan import DpTrainingPlan
from client.dp.training import train, verify_training
from common.adapters.adapted_model import AdaptedModel, adapt
from common.adapters.feature_cache import FeatureCache
from common.base_models.load import load_base
from common.base_models.resolve import resolve_base
from common.config.adapter import AdapterConfig
from common.config.training import ModelConfig
from common.errors import ModelError
from common.tasks import task
from common.tokenization.batches import TokenizedSet

LIMIT_S = 140  # on the clock, so that the last measurement ends within three minutes
ROWS = Case("headlines of 8 to 60 tokens", 256, 24, "all", "AB", spread=0.4)
STEPS, REPEATS, TOKENS = 2, 3, 64

Precision = Literal["float32", "bfloat16", "4 bits"]


@dataclass(frozen=True)
class Setting:
    """One line of the output: a base model, its precision and its device."""

    name: str
    base: str
    precision: Precision
    device: str


def write_llama(directory: Path, toy: bool, device: str) -> int:
    """Write a Llama of random weights with the packaged encoder's tokenizer, and return its number of parameters."""
    tokenizer = AutoTokenizer.from_pretrained(resolve_base("minilm"))
    width, layers, heads, groups = (64, 2, 4, 2) if toy else (2048, 22, 32, 4)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=width * 11 // 4,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=groups,
        max_position_embeddings=256,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=None,
    )
    torch.manual_seed(0)
    with torch.device(device):
        model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return sum(parameter.numel() for parameter in model.parameters())


def prepared(setting: Setting, rows: int) -> tuple[AdaptedModel, TokenizedSet]:
    """Return the model with LoRA of rank 8 on all linear layers, and its examples."""
    kind, four_bits = task("sentiment_analysis"), setting.precision == "4 bits"
    dtype: Literal["float32", "bfloat16"] = "float32" if setting.precision == "float32" else "bfloat16"
    model = ModelConfig(base=setting.base, max_tokens=TOKENS, dtype=dtype)
    base = load_base(model, kind, LABELS, setting.device, quantize4bit=four_bits)
    config = AdapterConfig(
        rank=8, alpha=16, dropout=0.0, target_modules="all-linear", layers="all", trained_factors="AB"
    )
    adapted = adapt(base, config, kind, seed=0)
    return adapted, adapted.encode(*headlines(replace(ROWS, rows=rows)))


def plan(private: bool) -> DpTrainingPlan:
    """Plan steps over every row, so that both sides do the same work whatever Poisson sampling would draw."""
    dp = DpSettings(1.0, 1.0, sampling_probability=1.0, steps=STEPS, expected_batch_size=8) if private else None
    return DpTrainingPlan(STEPS, 1.0, 1e-3, 1e-3, "sgd", 2048, dp, 0)


def step(model: AdaptedModel, data: TokenizedSet, private: bool) -> tuple[float, float]:
    """Return the seconds of a step, and the peak memory of the GPU in MiB, or of the process so far on a CPU."""
    on_gpu = model.base.device.startswith("cuda")
    if private:
        verify_training(model, plan(True))  # once a training, and printed by itself
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    train(model, data, plan(private), SystemNoise() if private else None, FeatureCache())
    if on_gpu:
        torch.cuda.synchronize()
    seconds = (time.perf_counter() - started) / STEPS
    peak = (
        torch.cuda.max_memory_allocated() / 2**20
        if on_gpu
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    )
    return seconds, peak


def line(setting: Setting, rows: int, until: float) -> str:
    """Return the line of a setting. Its measurements end after the one that is running at the time `until`."""
    model, data = prepared(setting, rows)
    check = "each example's gradient has the same bits in different company"
    kinds = [True, False]
    try:
        verify_training(model, plan(True))
    except ModelError as error:
        check, kinds = f"private training is refused: {error}", [False]
    found = dict[bool, list[tuple[float, float]]]((kind, []) for kind in kinds)
    for _ in range(REPEATS + 1):  # the first of each is a warm-up
        for kind in kinds:
            if time.monotonic() < until or len(found[kind]) < 2:
                found[kind].append(step(model, data, kind))
    seconds = {kind: statistics.median(each for each, _ in values[1:]) for kind, values in found.items()}
    peaks = {kind: max(peak for _, peak in values) for kind, values in found.items()}
    if True not in found:
        return f"{setting.name}: plain {rows / seconds[False]:.1f} examples/s, {peaks[False]:.0f} MiB; {check}"
    return (
        f"{setting.name}: private over plain {seconds[True] / seconds[False]:.2f}, private {rows / seconds[True]:.1f} "
        f"examples/s, peak memory private {peaks[True]:.0f} MiB, plain {peaks[False]:.0f} MiB; {check}"
    )


def main() -> None:
    """Print a line for each base model and precision."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--toy", action="store_true", help="a small Llama and few rows on the CPU")
    toy = parser.parse_args().toy
    if not toy and not torch.cuda.is_available():
        parser.error("there is no GPU: give --toy to try the program on the CPU")
    until, device, rows = time.monotonic() + LIMIT_S, "cpu" if toy else "cuda", 16 if toy else ROWS.rows
    if toy:
        torch.set_num_threads(1)
        print("These figures were not taken on a GPU: they show that the program works, and nothing else.")
    else:
        print(torch.cuda.get_device_name())
    with tempfile.TemporaryDirectory(prefix="gpu-") as directory:
        name = f"Llama of {write_llama(Path(directory), toy, device) / 1e6:.1f} million parameters"
        precisions: list[Precision] = ["bfloat16"]
        if importlib.util.find_spec("bitsandbytes") is not None:
            precisions.append("4 bits")
        settings = [Setting(f"encoder, {each}", "minilm", each, device) for each in ("float32", *precisions)]
        settings += [Setting(f"{name}, {each}", directory, each, device) for each in precisions]
        for setting in settings:
            if time.monotonic() > until:
                print(f"{setting.name}: not measured, the time was up")
                continue
            print(line(setting, rows, until), flush=True)


if __name__ == "__main__":
    main()
