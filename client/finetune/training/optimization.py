"""How the loop without privacy steps: its optimiser, its rate over the steps, the precision it computes in."""

import importlib
import math
from typing import Any

import torch

from common.adapters.adapted_model import AdaptedModel

__all__ = ["compute_precision", "device_kind", "make_optimizer", "rate_factor"]

_WEIGHT_DECAY = 0.01


def make_optimizer(
    model: AdaptedModel, name: str, learning_rate: float, head_learning_rate: float
) -> torch.optim.Optimizer:
    """AdamW over what `model` trains, the head at a rate of its own; "paged_adamw_32bit" is paged on a GPU alone."""
    heads, trained = model.head_names(), model.trainable()
    groups: list[dict[str, Any]] = [
        {"params": [p for name, p in trained.items() if name not in heads], "lr": learning_rate},
        {"params": [p for name, p in trained.items() if name in heads], "lr": head_learning_rate},
    ]
    used = [group for group in groups if group["params"]]
    if name == "paged_adamw_32bit" and device_kind(model.base.device) == "cuda":
        optim: Any = importlib.import_module("bitsandbytes.optim")
        paged: torch.optim.Optimizer = optim.PagedAdamW32bit(used, weight_decay=_WEIGHT_DECAY)
        return paged
    return torch.optim.AdamW(used, weight_decay=_WEIGHT_DECAY)


def rate_factor(step: int, steps: int, warmup: float, schedule: str) -> float:
    """What the rate is multiplied by at `step` (from 0): rises over the warm-up's share, then falls to zero."""
    warm = max(1, round(warmup * steps))
    if step < warm:
        return (step + 1) / warm
    done = (step - warm) / max(1, steps - warm)
    return 0.5 * (1 + math.cos(math.pi * done)) if schedule == "cosine" else 1 - done


def compute_precision(precision: str, device: str) -> tuple[torch.dtype | None, bool]:
    """What to autocast to (None: nothing), and whether gradients must be scaled."""
    if precision == "auto":
        if device_kind(device) != "cuda":
            return None, False
        precision = "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    if precision == "float32":
        return None, False
    return (torch.bfloat16, False) if precision == "bfloat16" else (torch.float16, True)


def device_kind(device: str) -> str:
    """`cpu` or `cuda`, without a number."""
    return torch.device(device).type
