"""The gradient that each example leaves is its own, also of a layer that is used more than once."""

import pytest
import torch
from torch import Tensor, nn

from client.dp.per_example import gradient_samples, has_rule


class Twice(nn.Module):
    """A network that uses its layer twice."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.norm = nn.Linear(5, 5), nn.LayerNorm(5)
        self.frozen = nn.Linear(5, 5).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.layer(torch.tanh(self.frozen(self.layer(x))))).square().sum((1, 2))


def alone(module: nn.Module, x: Tensor, name: str) -> Tensor:
    """(B, ...) autograd's gradients of one example after another."""
    parameter = module.get_parameter(name)
    return torch.stack([torch.autograd.grad(module(x[row : row + 1]).sum(), parameter)[0] for row in range(len(x))])


@pytest.mark.parametrize("name", ["layer.weight", "layer.bias", "norm.weight", "norm.bias"])
def test_a_layer_that_is_used_twice_leaves_the_sum_of_both_uses(name: str) -> None:
    module, x = Twice(), torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(1))
    expected = alone(module, x, name)
    with gradient_samples(module):
        for _ in range(2):  # the second pass begins anew
            module(x).sum().backward()
            found = module.get_parameter(name).grad_sample  # type: ignore[attr-defined]
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
            for parameter in module.parameters():
                parameter.grad_sample = None  # type: ignore[attr-defined]
        assert not hasattr(module.layer, "max_batch_len")
    assert not any(vars(parameter) for parameter in module.parameters())


def test_two_backward_passes_without_a_look_leave_no_tensor_that_could_be_taken_for_one() -> None:
    module, x = Twice(), torch.ones(2, 3, 5)
    with gradient_samples(module):
        for _ in range(2):
            module(x).sum().backward()
        assert not isinstance(getattr(module.layer.weight, "grad_sample", None), Tensor)


def test_layers_without_a_rule_are_known() -> None:
    assert has_rule(nn.Linear(2, 2))
    assert not has_rule(Twice())
