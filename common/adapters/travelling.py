"""The part of the trained tensors that travels between hub and institutions."""

from common.adapters.adapted_model import AdaptedModel
from common.config.run import RunConfig
from common.protocol.adapter_codec import Spec, Tensors

__all__ = ["complete", "travelling", "travelling_spec"]


def travelling_spec(model: AdaptedModel, config: RunConfig) -> Spec:
    """Return names and shapes of the tensors that travel: all trained ones, or all but the head if it stays.

    Args:
        model: The run's model.
        config: The run.
    """
    stays = _staying(model, config)
    return Spec(tuple(entry for entry in model.spec.tensors if entry[0] not in stays))


def travelling(tensors: Tensors, model: AdaptedModel, config: RunConfig) -> Tensors:
    """Return those of `tensors` that travel."""
    stays = _staying(model, config)
    return {name: value for name, value in tensors.items() if name not in stays}


def complete(travelled: Tensors, model: AdaptedModel) -> Tensors:
    """Return all trained tensors: those that travelled, and for each other one its initial value."""
    if len(travelled) == len(model.spec.tensors):
        return travelled
    return {**model.initial(), **travelled}


def _staying(model: AdaptedModel, config: RunConfig) -> frozenset[str]:
    return model.head_names() if config.personalisation.method == "head" else frozenset()
