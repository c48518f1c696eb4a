"""Sums of clipped gradients that were made apart are one sum."""

import torch
from torch import nn

from client.dp.clipped_sum import ClippedSum
from client.dp.per_example import gradient_samples


def clipped(model: nn.Linear) -> ClippedSum:
    return ClippedSum(list(model.parameters()), 0.5, "record")


def test_what_another_sum_holds_is_added_once_with_its_counts() -> None:
    gradients = torch.randn(9, 8, generator=torch.Generator().manual_seed(0)) * torch.logspace(-3, 1, 9)[:, None]
    together, first, second = (clipped(nn.Linear(7, 1)) for _ in range(3))
    together.add_units(gradients)
    first.add_units(gradients[:4])
    second.add_units(gradients[4:])
    first.absorb(second)
    assert torch.equal(first.sum.value(), together.sum.value())
    first.absorb(second)
    assert torch.equal(first.sum.value(), together.sum.value())
    assert 0 < first.take_clip_fraction() == together.take_clip_fraction() < 1


def test_an_open_customer_of_another_sum_is_closed_and_counted() -> None:
    model = nn.Linear(7, 1)
    first, second = (ClippedSum(list(model.parameters()), 0.5, "customer") for _ in range(2))
    with gradient_samples(model):
        second.accumulate(model(torch.ones(2, 7))[:, 0], owners=torch.tensor([3, 3]))
        first.absorb(second)
    assert 0.49 < float(first.sum.value().double().norm() * first.grid.step) <= 0.5


def test_gradients_that_were_taken_are_not_overwritten_by_the_next_batch() -> None:
    model = nn.Linear(7, 1)
    total = clipped(model)
    with gradient_samples(model):
        model(torch.ones(4, 7)).sum().backward()
        taken = total.take_samples()
        kept = taken.clone()
        for rows in (2, 4, 3):  # smaller and larger than the space so far
            total.accumulate(model(torch.full((rows, 7), 5.0))[:, 0])
    assert torch.equal(taken, kept)
    reference = clipped(model)
    reference.add_units(torch.cat([torch.full((9, 7), 5.0), torch.ones(9, 1)], dim=1))
    assert torch.equal(total.sum.value(), reference.sum.value())
