"""A layer over few rows gives each of them the bits that it gives it among many."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from common.adapters.few_rows import LEAST_ROWS, FewRows

Linear = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def by_place(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return nn.functional.linear(rows, weight, bias)


def by_name(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return nn.functional.linear(input=rows, weight=weight, bias=bias)


@pytest.mark.parametrize("linear", [by_place, by_name])
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("width", [384, 33])
def test_outputs_and_gradients_of_a_row_are_those_among_many_rows(linear: Linear, biased: bool, width: int) -> None:
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(5, width, generator=generator)
    bias = torch.randn(5, generator=generator) if biased else None
    many = torch.randn(64, width, generator=generator)
    arriving = torch.randn(64, 5, generator=generator)

    def computed(count: int) -> tuple[Tensor, Tensor]:
        rows = many[:count].clone().requires_grad_()
        with FewRows():
            outputs = linear(rows, weight, bias)
        outputs.backward(arriving[:count])
        if rows.grad is None:
            raise AssertionError("no gradient")
        return outputs.detach(), rows.grad

    outputs, gradients = computed(64)
    for count in range(1, 64):
        few, own = computed(count)
        assert few.shape == (count, 5)
        assert torch.equal(few, outputs[:count])
        assert torch.equal(own, gradients[:count])


class Inputs(TorchFunctionMode):
    """Notes the shape that each linear layer computes."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if function is nn.functional.linear:
            self.shapes.append(tuple(args[0].shape))
        return function(*args, **(kwargs or {}))


def test_few_vectors_alone_get_rows_beside_them() -> None:
    layer = nn.Linear(2, 1)
    with Inputs() as inputs, FewRows():
        for shape in ((3, 2), (LEAST_ROWS, 2), (40, 2), (3, 4, 2)):
            assert layer(torch.ones(shape)).shape == (*shape[:-1], 1)
    assert inputs.shapes == [(LEAST_ROWS, 2), (LEAST_ROWS, 2), (40, 2), (3, 4, 2)]
