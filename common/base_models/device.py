"""Choose the device that a model is placed on."""

import logging

import torch

from common.errors import ConfigurationError

__all__ = ["select_device", "warn_of_slow_bfloat16"]

log = logging.getLogger(__name__)


def select_device(wanted: str, key: str = "device") -> str:
    """Return the device called `wanted`. "auto" is the first GPU, or the processor if there is no GPU.

    Args:
        wanted: "auto", "cpu", "cuda", or "cuda:1".
        key: Name of the option in the message.

    Raises:
        ConfigurationError: This machine has no such device.
    """
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=wanted)
    except (RuntimeError, AssertionError, TypeError):
        raise ConfigurationError(
            f'{key} is "{wanted}", which this machine does not have: use "auto" or "cpu"'
        ) from None
    return wanted


def warn_of_slow_bfloat16(device: str) -> None:
    """Log a line if `device` is an x86 processor that has no instructions for bfloat16, and has to emulate them."""
    found = torch.cpu.get_capabilities()
    if not device.startswith("cpu") or found.get("architecture") != "x86_64":
        return
    if not (found.get("avx512_bf16") or found.get("amx_bf16")):
        log.warning("bfloat16: this processor lacks instructions for it, so float32 is several times as fast")
