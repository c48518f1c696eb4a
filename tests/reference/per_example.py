"""The clipped sum of DP-SGD as the paper writes it: one backward pass per example, in float64, and nothing clever."""

import torch


def clipped_sum(parameters, example_losses, clipping_norm):
    """Sum over examples of g * min(1, C / ||g||), the norm taken over all parameters together.

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
            total[name] += factor * gradient
        norms.append(float(norm))
    return total, norms


def relative_error(found, expected):
    """Norm of the difference over the norm of what was expected, over all tensors together."""
    off = sum(float(((found[name].double() - expected[name]) ** 2).sum()) for name in expected)
    size = sum(float((expected[name] ** 2).sum()) for name in expected)
    return (off / size) ** 0.5
