"""Make the optimiser of a training: a group for the adapter, one for the head, and one constant for weight decay."""

import importlib
from collections.abc import Callable, Iterable
from typing import Any

import torch

from common.adapters.adapted_model import AdaptedModel

__all__ = ["OPTIMIZERS", "WEIGHT_DECAY", "NoiseCorrectedAdam", "make_optimizer", "parameter_groups"]

Groups = Iterable[dict[str, Any]]

WEIGHT_DECAY = 0.01
"""Share of a weight, times the learning rate, that AdamW takes off in each step. PyTorch's default for AdamW."""

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}
"""Every optimiser that a run may name."""

_PAGED = "paged_adamw_32bit"

_MIN_SHARE = 0.25
"""Lower bound of the second moment without its noise, as a share of the noise's variance. The estimate is itself noisy:
after t steps its standard deviation is about sqrt(2 / t) of that variance. If the gradient is small, the difference
would be near 0 or below it, and the step would have no bound."""
_MIN_SECOND_MOMENT = 1e-16  # Adam's own epsilon, 1e-8, squared: the bound if there is no noise


def parameter_groups(model: AdaptedModel, learning_rate: float, head_learning_rate: float) -> list[dict[str, Any]]:
    """Return the trained parameters of `model` as one or two groups, each with a learning rate.

    Args:
        learning_rate: Of the adapter.
        head_learning_rate: Of the task head, whose last layer starts at zero.
    """
    heads, trained = model.head_names(), model.trainable()
    groups: list[dict[str, Any]] = [
        {"params": [p for name, p in trained.items() if name not in heads], "lr": learning_rate},
        {"params": [p for name, p in trained.items() if name in heads], "lr": head_learning_rate},
    ]
    return [group for group in groups if group["params"]]


def make_optimizer(
    name: str, groups: Groups, *, device: str = "cpu", noise_variance: float | None = None
) -> torch.optim.Optimizer:
    """Return the optimiser `name` over `groups`.

    Args:
        name: A key of `OPTIMIZERS`, or "paged_adamw_32bit": AdamW whose state can leave a full GPU's memory. Without a
            GPU there is nothing to page, and it is plain AdamW.
        groups: From `parameter_groups`.
        device: Of the parameters.
        noise_variance: Variance of the privacy noise in each coordinate of the gradient. If given, "adam" and "adamw"
            are `NoiseCorrectedAdam`.
    """
    decay = WEIGHT_DECAY if name in ("adamw", _PAGED) else 0.0
    if noise_variance is not None:
        return NoiseCorrectedAdam(groups, noise_variance, decay)
    if name == _PAGED and torch.device(device).type == "cuda":
        optim: Any = importlib.import_module("bitsandbytes.optim")
        paged: torch.optim.Optimizer = optim.PagedAdamW32bit(groups, weight_decay=decay)
        return paged
    return OPTIMIZERS["adamw" if name == _PAGED else name](groups, weight_decay=decay)


class NoiseCorrectedAdam(torch.optim.Optimizer):
    """Adam (AdamW if `weight_decay` is above 0) with the second moment of the gradient without its noise.

    Under differential privacy the noise's variance dominates Adam's second moment, and every coordinate moves alike.
    The variance is known, so it is subtracted: m / sqrt(max(v - noise_variance, noise_variance / 4)). The moments m and
    v have Adam's usual correction for their start at zero. DP-AdamBC: Tang, Shpilevskiy and Lecuyer, arXiv 2312.14334.
    This is post-processing and costs no privacy.

    Args:
        noise_variance: Of each coordinate of the gradient: (sigma C / expected batch size) squared.
    """

    def __init__(
        self,
        params: Groups,
        noise_variance: float,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        super().__init__(params, {"lr": 1e-3})
        self._noise_variance = noise_variance
        self._weight_decay = weight_decay
        self._betas = betas

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]  # noqa: ARG002
        """Move every parameter that has a gradient."""
        first, second = self._betas
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state.update(step=0, mean=torch.zeros_like(parameter), square=torch.zeros_like(parameter))
                state["step"] += 1
                state["mean"].lerp_(parameter.grad, 1 - first)
                state["square"].mul_(second).addcmul_(parameter.grad, parameter.grad, value=1 - second)
                mean = state["mean"] / (1 - first ** state["step"])
                square = state["square"] / (1 - second ** state["step"]) - self._noise_variance
                square.clamp_(min=max(_MIN_SHARE * self._noise_variance, _MIN_SECOND_MOMENT))
                parameter.mul_(1 - group["lr"] * self._weight_decay)
                parameter.addcdiv_(mean, square.sqrt_(), value=-group["lr"])
