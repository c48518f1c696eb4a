"""The tensors of an adapter: their selection among the parameters, their names on the wire, their first values."""

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft.utils import ModulesToSaveWrapper
from torch import Tensor, nn

from common.base_models.load import LoadedBase

__all__ = [
    "NEW_ROWS",
    "PROMPT",
    "array",
    "initial_tensors",
    "is_ours",
    "last_head_layers",
    "numbers",
    "read_rows_exactly",
    "seeded",
    "wire_name",
    "write",
]

PROMPT = "prompt_embeddings"
"""Wire name of a soft prompt, as PEFT saves it."""

NEW_ROWS = "trainable_tokens_delta"
"""PEFT's name for trained rows of the embeddings."""


def is_ours(name: str) -> bool:
    """Whether a parameter of that name, as PEFT's module gives it, belongs to the adapter or the head."""
    return any(part in name for part in (".lora_A.", ".lora_B.", ".modules_to_save.", "prompt_encoder.", NEW_ROWS))


def wire_name(name: str) -> str:
    """PEFT's name of a saved tensor, from the parameter's own."""
    if name.startswith("prompt_encoder."):
        return PROMPT
    return name.replace(".modules_to_save.default.", ".").replace(".default.", ".").removesuffix(".default")


def last_head_layers(base: LoadedBase, parameters: Mapping[str, nn.Parameter]) -> frozenset[str]:
    """Wire names of each head's last linear layer, whose outputs are the labels. Empty without a head."""
    ours: set[int] = set()
    for name in base.output_names:
        head = getattr(base.model, name)
        inner = head.modules_to_save["default"] if isinstance(head, ModulesToSaveWrapper) else head
        last = [module for module in inner.modules() if isinstance(module, nn.Linear)][-1]
        ours |= {id(parameter) for parameter in last.parameters()}
    return frozenset(name for name, parameter in parameters.items() if id(parameter) in ours)


def initial_tensors(seed: int, name: str, shape: tuple[int, ...], *, zero: bool) -> NDArray[np.float32]:
    """Return the values of a tensor before training.

    They are zeros for LoRA's B and if `zero` is set, 0 for biases, 1 for the scales of a normalisation, and otherwise
    come from `seeded`.

    Args:
        seed: Seed of the run.
        name: Name of the tensor on the wire.
        shape: Its shape.
        zero: Whether it begins as zeros, like the last layer of a head.
    """
    if zero or ".lora_B." in name:
        return np.zeros(shape, np.float32)
    if len(shape) == 1:  # biases, and the scales of a head's normalisation
        return np.full(shape, 1.0 if name.endswith(".weight") else 0.0, np.float32)
    return seeded(seed, name, shape)


def seeded(seed: int, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return uniform numbers of variance 1 / fan-in, with the same bits on every machine.

    They are not normal numbers, because these need a logarithm, whose last bit differs between machines.

    Args:
        seed: Seed of the run.
        name: Name of the tensor on the wire. Each name has numbers of its own.
        shape: (out, in) of the matrix.
    """
    key = hashlib.sha256(f"fedfin start|{seed}|{name}".encode()).digest()
    words = np.random.Philox(key=np.frombuffer(key[:16], dtype="<u8").astype(np.uint64)).random_raw(math.prod(shape))
    # 53 bits to [0, 1), then to (-1, 1): every step exact or correctly rounded by IEEE 754.
    unit = ((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-52 - 1.0
    return (unit * math.sqrt(3.0 / shape[-1])).astype(np.float32).reshape(shape)


def numbers(parameter: nn.Parameter) -> int:
    """Return the number of values in a parameter. Those of 4 bits are packed, two in a byte."""
    packed = getattr(parameter, "quant_state", None)
    return parameter.numel() if packed is None else math.prod(packed.shape)


def array(parameter: Tensor) -> NDArray[np.float32]:
    """Return a copy in float32, on the CPU."""
    copy: NDArray[np.float32] = parameter.detach().to("cpu", torch.float32).numpy().copy()
    return copy


def read_rows_exactly(layer: Any) -> None:
    """Let PEFT's layer of trained embedding rows look them up in float32.

    PEFT copies them into the frozen table first. With a table in bfloat16 on a CPU, torch then adds the gradients of
    all uses of a token in bfloat16, and a sum of ones stops at 256.

    Args:
        layer: PEFT's `TrainableTokensLayer` on an embedding. Its trained rows are the last ones of the table.
    """
    frozen, first = layer.get_base_layer(), int(layer.token_indices["default"][0])

    def forward(ids: Tensor, *_: Any, **__: Any) -> Tensor:
        rows = nn.functional.embedding((ids - first).clamp(min=0), layer.trainable_tokens_delta["default"])
        known: Tensor = frozen(ids)
        return torch.where((ids >= first).unsqueeze(-1), rows.to(known.dtype), known)

    layer.forward = forward


def write(into: Mapping[str, nn.Parameter], tensors: Mapping[str, NDArray[np.float32]]) -> None:
    """Copy each tensor into the parameter of its name."""
    with torch.no_grad():
        for name, parameter in into.items():
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(tensors[name], dtype=np.float32)))
