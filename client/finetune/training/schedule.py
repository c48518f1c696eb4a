"""Learning-rate schedule and compute precision of the training loop without privacy."""

import math

import torch

__all__ = ["compute_precision", "device_kind", "rate_factor"]


def rate_factor(step: int, steps: int, warmup: float, schedule: str) -> float:
    """Return the factor of the learning rate at `step`: it rises during the warm-up, then falls to zero.

    Args:
        step: Counted from 0.
        steps: Steps of the whole training.
        warmup: Share of the steps in which the factor rises.
        schedule: "cosine" or "linear".
    """
    warm = max(1, round(warmup * steps))
    if step < warm:
        return (step + 1) / warm
    done = (step - warm) / max(1, steps - warm)
    return 0.5 * (1 + math.cos(math.pi * done)) if schedule == "cosine" else 1 - done


def compute_precision(precision: str, device: str) -> tuple[torch.dtype | None, bool]:
    """Return the type to autocast to (None if none), and whether gradients must be scaled.

    Args:
        precision: "auto", "float32", "bfloat16" or "float16". "auto" is the best 16-bit type on a GPU, else float32.
        device: Such as "cpu" or "cuda:1".
    """
    if precision == "auto":
        if device_kind(device) != "cuda":
            return None, False
        precision = "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    if precision == "float32":
        return None, False
    return (torch.bfloat16, False) if precision == "bfloat16" else (torch.float16, True)


def device_kind(device: str) -> str:
    """Return the kind of a device, "cpu" or "cuda", without its number."""
    return torch.device(device).type
