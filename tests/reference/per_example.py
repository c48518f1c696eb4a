"""The clipped sum of DP-SGD as the paper writes it: one backward pass per example, in float64, and nothing clever."""

import math

import torch


def on_grid(gradient, clipping_norm):
    """A clipped gradient as whole multiples of a power of two between C / 2^20 and C / 2^19, the rest cut off.

    Beyond the largest clipping norm that is allowed nothing is clipped, and there is no grid.
    """
    if clipping_norm > 1e6:
        return gradient
    step = 2.0 ** (math.floor(math.log2(clipping_norm)) + 1 - 20)
    return torch.trunc(gradient / step) * step


def clipped_sum(parameters, example_losses, clipping_norm):
    """Sum over examples of g * min(1, C / ||g||) on the grid, the norm taken over all parameters together.

    Args:
        parameters: dict of trainable parameters, already in float64.
        example_losses: iterable of callables, each giving the scalar loss of one example computed alone.

    Returns:
        dict of float64 tensors, and the list of unclipped norms.
    """
    total = {name: torch.zeros_like(p) for name, p in parameters.items()}
    norms = []
    for loss in example_losses:
        gradients = torch.autograd.grad(loss(), list(parameters.values()))
        norm = torch.sqrt(sum((g**2).sum() for g in gradients))
        factor = min(1.0, clipping_norm / float(norm)) if norm > 0 else 1.0
        for name, gradient in zip(parameters, gradients, strict=True):
            total[name] += on_grid(factor * gradient, clipping_norm)
        norms.append(float(norm))
    return total, norms


def customers_clipped_sum(parameters, example_losses, owners, clipping_norm):
    """The same sum if the unit is the customer: each one's gradients are added up first, then clipped together.

    Args:
        owners: the customer of each example, in any order.
    """
    total = {name: torch.zeros_like(p) for name, p in parameters.items()}
    norms = []
    for owner in dict.fromkeys(owners):
        summed = {name: torch.zeros_like(p) for name, p in parameters.items()}
        for loss, whose in zip(example_losses, owners, strict=True):
            if whose == owner:
                for name, gradient in zip(parameters, torch.autograd.grad(loss(), parameters.values()), strict=True):
                    summed[name] += gradient
        norm = float(torch.sqrt(sum((g**2).sum() for g in summed.values())))
        factor = min(1.0, clipping_norm / norm)
        for name, gradient in summed.items():
            total[name] += on_grid(factor * gradient, clipping_norm)
        norms.append(norm)
    return total, norms


def relative_error(found, expected):
    """Norm of the difference over the norm of the expected value, over all tensors together."""
    off = sum(float(((found[name].double() - expected[name]) ** 2).sum()) for name in expected)
    size = sum(float((expected[name] ** 2).sum()) for name in expected)
    return (off / size) ** 0.5
