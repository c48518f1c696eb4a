"""Estimate the memory of a training before anything is loaded, and limit it while the training runs."""

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil
import torch
import transformers
from torch import nn

from client.finetune.options.defaults import ResolvedSettings
from common.adapters.target_modules import parse_layers, target_names
from common.base_models.architecture import generator_class, hidden_size, is_decoder
from common.base_models.transformers_logging import quiet
from common.config.adapter import PromptConfig
from common.errors import ModelError
from common.report.formatting import format_bytes
from common.tasks import Task

__all__ = ["MemoryEstimate", "estimate_memory", "memory_limit", "refuse_beyond"]

_NF4_BYTES = 0.5 + (1 + 4 / 256) / 64
"""Bytes a parameter: four bits, one byte for each 64 parameters, and four for each 256 such bytes (NF4, double)."""


_TRAINED_BYTES = 16
"""Bytes a trained parameter with AdamW in float32: the parameter, its gradient and two moments."""


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes, estimated from the model's real shapes.

    Attributes:
        program: Bytes that the process uses before the model is loaded.
        weights: Of the base model, in the precision in which it is kept.
        trained: Of the trained parameters, their gradients and the optimiser's state.
        activations: Of one physical batch, kept for the backward pass.
        parameters, trainable: Numbers of parameters, and of trained parameters.
    """

    program: int
    weights: int
    trained: int
    activations: int
    parameters: int
    trainable: int

    @property
    def total(self) -> int:
        """Sum of all parts, in bytes."""
        return self.program + self.weights + self.trained + self.activations

    def __str__(self) -> str:
        return (
            f"about {format_bytes(self.total)} (base model {format_bytes(self.weights)}, trained "
            f"{format_bytes(self.trained)}, "
            f"batch {format_bytes(self.activations)}, program {format_bytes(self.program)})"
        )


def estimate_memory(name: str, config: Any, task: Task, settings: ResolvedSettings) -> MemoryEstimate:
    """Return the memory that a training needs.

    Weights and trained parameters are counted on the model's shapes. Activations are an estimate: its rule was measured
    on MiniLM and SmolLM2 (see docs/finetuning.md).

    Args:
        name: Of the base model, for messages.
        config: Of the base model, from `common.base_models.architecture.read_config`.
        task: If a training has several tasks, the one to estimate.

    Raises:
        ModelError: The model cannot do the task, or lacks the modules.
    """
    family, adapter = str(config.model_type), settings.adapter
    model = _shapes(name, config, task)
    linear = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    parameters = sum(p.numel() for p in model.parameters())
    quantised = sum(module.weight.numel() for name, module in linear.items() if name != "lm_head")
    hidden, depth = hidden_size(config), int(config.num_hidden_layers)
    if isinstance(adapter, PromptConfig):
        copies = 2 * depth if adapter.method == "prefix_tuning" else 1
        trainable, adapted = adapter.virtual_tokens * hidden * copies, depth
    else:
        modules = target_names(model, family, adapter.target_modules, task.target_modules, adapter.layers)
        trainable = sum(adapter.rank * (linear[n].in_features + linear[n].out_features) for n in modules)
        last = parse_layers(adapter.layers)
        adapted = depth if last is None else min(depth, last)
    qlora = adapter.method == "qlora"
    weights = _NF4_BYTES * quantised + 2 * (parameters - quantised) if qlora else 4 * parameters
    tokens = min(settings.max_batch_tokens, settings.batch_size * settings.max_tokens)
    words = int(config.vocab_size) if task.head.generates else 0
    kept = _per_token(config) * (3 if qlora else 4)
    again = settings.gradient_checkpointing and getattr(model, "supports_gradient_checkpointing", False)
    activations = kept + hidden * 4 * adapted if again else kept * adapted
    return MemoryEstimate(
        program=psutil.Process().memory_info().rss,
        weights=int(weights),
        trained=_TRAINED_BYTES * trainable,
        activations=int(tokens * (activations + 8 * words)),
        parameters=parameters,
        trainable=trainable,
    )


def _per_token(config: Any) -> int:
    """Return how many numbers a block keeps for one token until the backward pass, by the measured rule."""
    names = ("intermediate_size", "d_ff", "hidden_dim", "encoder_ffn_dim")
    inner = next((int(getattr(config, name)) for name in names if hasattr(config, name)), 4 * hidden_size(config))
    return 12 * hidden_size(config) + (6 if is_decoder(config) else 4) * inner


def _shapes(name: str, config: Any, task: Task) -> nn.Module:
    """Return the model with the shapes of its weights, without their values."""
    kind = generator_class(name, config) if task.head.generates else transformers.AutoModel
    try:
        with quiet(), torch.device("meta"):
            model: nn.Module = kind.from_config(config, trust_remote_code=False)
    except (ValueError, KeyError) as error:
        raise ModelError(f"base model {name} ({config.model_type}): transformers has no such model") from error
    return model


def refuse_beyond(need: MemoryEstimate, limit_gb: float) -> None:
    """Refuse a training that will not fit, before anything is loaded.

    Raises:
        ModelError: The estimate is above the limit. The message names the settings that need less.
    """
    limit = int(limit_gb * 1e9)
    if need.total <= limit:
        return
    parts = {"weights": need.weights, "trained": need.trained, "activations": need.activations}
    largest = max(parts, key=parts.__getitem__)
    advice = {
        "weights": "choose --adapter qlora or a smaller base model",
        "trained": "choose a smaller --rank or fewer modules",
        "activations": "choose a smaller --batch-size or --max-tokens, or --gradient-checkpointing",
    }[largest if need.program < limit else "weights"]
    raise ModelError(f"max_memory_gb is {limit_gb:g}: this training needs {need}: {advice}, or allow more")


@contextmanager
def memory_limit(limit_gb: float | None, device: str) -> Iterator[None]:
    """Limit memory use within the block to `limit_gb`: GPU memory if `device` is a GPU, otherwise main memory.

    On Linux the operating system refuses more memory. On other systems only the estimate protects.

    Args:
        limit_gb: In units of 10^9 bytes. None sets no limit.
        device: "auto", "cpu", "cuda" or "cuda:1".

    Raises:
        ModelError: The limit was reached.
    """
    if limit_gb is None:
        yield
        return
    limit = int(limit_gb * 1e9)
    before = _lower(limit, device)
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        raise ModelError(
            f"max_memory_gb is {limit_gb:g}: the training reached it and was stopped: choose a smaller --batch-size "
            "or --max-tokens, or --gradient-checkpointing, or allow more"
        ) from None
    finally:
        if before is not None:
            resource.setrlimit(resource.RLIMIT_DATA, before)


def _lower(limit: int, device: str) -> tuple[int, int] | None:
    """Set the limit. Return the earlier limit of the process's own memory, if it was changed."""
    if device.startswith("cuda") or (device == "auto" and torch.cuda.is_available()):
        whole = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit / whole))
        return None
    if not sys.platform.startswith("linux"):
        return None
    before = resource.getrlimit(resource.RLIMIT_DATA)
    taken = psutil.Process().memory_info()
    # The system counts memory that was requested, not memory that was used. The limit is on the growth.
    allowed = int(taken.data + max(0, limit - taken.rss))
    ceiling = allowed if before[1] == resource.RLIM_INFINITY else min(allowed, before[1])
    resource.setrlimit(resource.RLIMIT_DATA, (ceiling, before[1]))
    return before


def _out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
