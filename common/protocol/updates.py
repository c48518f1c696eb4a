"""The update of one institution as bytes: its adapter in float32, or the change of it in bfloat16.

bfloat16 has 8 significant bits, so rounding moves a number by up to 1/256 of itself. If the weights themselves were
rounded, the error would be up to 1/256 of each weight. Most changes of a round are smaller, and would be lost. So the
change is rounded. Its error is at most 1/256 of the change, however small the change is beside the weight. The hub
adds the change to the adapter that it sent, in float32. From there on a round is the same for both types of numbers.

Rounding is a function of the noised adapter and of the global adapter, which the hub knows. It is post-processing and
costs no epsilon.
"""

import numpy as np

from common.config.aggregation import NumberType
from common.errors import AdapterRefused
from common.protocol.adapter_codec import Spec, Tensors, decode, encode

__all__ = ["decode_update", "encode_update"]


def encode_update(adapter: Tensors, sent: Tensors, numbers: NumberType) -> bytes:
    """Return the bytes of an update.

    Args:
        adapter: The trained tensors that travel.
        sent: The same tensors of the global adapter, as the hub sent them.
        numbers: `aggregation.update_dtype` of the run.
    """
    if numbers == "float32":
        return encode(adapter)
    with np.errstate(over="ignore", invalid="ignore"):  # the hub refuses infinity and NaN
        return encode({name: value - sent[name] for name, value in adapter.items()}, numbers)


def decode_update(data: bytes, spec: Spec, sent: Tensors, numbers: NumberType) -> Tensors:
    """Return the adapter that the update makes of the global one.

    Args:
        data: The bytes of the update.
        spec: The tensors that travel.
        sent: The global adapter that the update belongs to.
        numbers: `aggregation.update_dtype` of the run.

    Raises:
        AdapterRefused: As `adapter_codec.decode`. "non_finite" also if the sum exceeds the range of float32.
    """
    update = decode(data, spec, numbers=numbers)
    if numbers == "float32":
        return update
    for name, change in update.items():
        with np.errstate(over="ignore"):
            change += sent[name]
        if not np.isfinite(change).all():
            raise AdapterRefused("non_finite", f"adapter tensor {name}: beyond float32: training diverged")
    return update
