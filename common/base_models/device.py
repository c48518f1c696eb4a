"""Choose the device that a model is placed on."""

import torch

from common.errors import ConfigurationError

__all__ = ["select_device"]


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
