"""The optimisers by name, and Adam for gradients whose noise has a known variance."""

from collections.abc import Callable, Iterable
from typing import Any

import torch

__all__ = ["OPTIMIZERS", "NoiseCorrectedAdam", "make_optimizer"]

Groups = Iterable[dict[str, Any]]
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}

_LEAST_SHARE = 0.25
"""What is left of the second moment is at least this share of the noise's variance. The estimate is itself noisy (after
t steps its standard deviation is about sqrt(2 / t) of that variance), and where the gradient is small the difference
would be near 0, or below, and the step without bound."""
_LEAST = 1e-16  # as Adam's own epsilon, 1e-8, where there is no noise


def make_optimizer(name: str, groups: Groups, noise_variance: float | None = None) -> torch.optim.Optimizer:
    """The optimiser `name`; with `noise_variance`, "adam" and "adamw" in the form that takes it out again."""
    if noise_variance is None:
        return OPTIMIZERS[name](groups)
    return NoiseCorrectedAdam(groups, noise_variance, weight_decay=0.01 if name == "adamw" else 0.0)


class NoiseCorrectedAdam(torch.optim.Optimizer):
    """Adam, or with `weight_decay` AdamW, whose second moment is that of the gradient without its noise.

    Under DP the noise's variance dominates Adam's second moment, and every coordinate moves alike. It is known, so it
    is subtracted: m / sqrt(max(v - noise_variance, noise_variance / 4)), m and v with Adam's usual correction for their
    start at zero. DP-AdamBC, Tang, Shpilevskiy and Lecuyer, arXiv 2312.14334. Post-processing: it costs no privacy.

    Args:
        noise_variance: of each coordinate of the gradient as it arrives: (sigma C / expected batch size) squared.
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
                square.clamp_(min=max(_LEAST_SHARE * self._noise_variance, _LEAST))
                parameter.mul_(1 - group["lr"] * self._weight_decay)
                parameter.addcdiv_(mean, square.sqrt_(), value=-group["lr"])
