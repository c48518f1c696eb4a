"""The DP step on small plain networks: clipped, noised, divided and forgotten as the guarantee says."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from client.dp.gradient_check import verify_per_example_gradients
from client.dp.grid import Grid
from client.dp.mechanism import DpSettings, make_private
from client.dp.noise import FixedNoise, SystemNoise
from common.errors import ConfigurationError, ModelError
from tests.reference.per_example import clipped_sum, customers_clipped_sum, relative_error


class Net(nn.Module):
    """A frozen layer, a trained one over "tokens", a mean over them, and a head."""

    def __init__(self, width=16):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.frozen = nn.Linear(6, width).requires_grad_(False)
        self.middle = nn.Linear(width, width, bias=False)
        self.head = nn.Linear(width, 3)
        for p in self.parameters():
            p.data = torch.randn(p.shape, generator=generator) * 0.4

    def forward(self, x):
        return self.head(torch.tanh(self.middle(torch.tanh(self.frozen(x)))).mean(1))


def settings(noise=0.0, clip=1.0, expected=10.0, **changes):
    return DpSettings(noise, clip, sampling_probability=0.5, steps=1, expected_batch_size=expected, **changes)


def sgd(model, lr=1.0):
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr)


def losses(model, x, y):
    return nn.functional.cross_entropy(model(x), y, reduction="none")


def batch(n, seed=0, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 5, 6, generator=generator) * scale * torch.rand(n, 1, 1, generator=generator)
    return x, torch.randint(0, 3, (n,), generator=generator)


def one_step(model, x, y, dp, noise=None, splits=1, lr=1.0, owners=None):
    """One logical step in `splits` physical batches. Returns how far each trained parameter moved, per lr."""
    before = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    with make_private(model, sgd(model, lr), dp, noise or SystemNoise()) as optimizer:
        for part in torch.arange(len(x)).tensor_split(splits) if len(x) else []:
            whose = None if owners is None else owners[part]
            optimizer.accumulate(losses(model, x[part], y[part]), owners=whose)
        optimizer.step()
    return {name: (before[name] - p.detach()) / lr for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("clip", [0.05, 1.0, 100.0])
@pytest.mark.parametrize("splits", [1, 3])
def test_a_noiseless_step_is_the_slow_loop_over_the_expected_batch_size(clip, splits):
    model, (x, y) = Net(), batch(12)
    moved = one_step(model, x, y, settings(clip=clip, expected=7.5), splits=splits)
    exact = Net().double()
    trained = {name: p for name, p in exact.named_parameters() if p.requires_grad}
    alone = [lambda i=i: losses(exact, x[i : i + 1].double(), y[i : i + 1])[0] for i in range(len(x))]
    expected, norms = clipped_sum(trained, alone, clip)
    assert clip > 50 or max(norms) > clip, "the case must clip something"
    assert relative_error(moved, {name: total / 7.5 for name, total in expected.items()}) < 1e-5


def test_the_step_does_not_depend_on_how_many_examples_were_drawn():
    x, y = batch(1)
    one = one_step(Net(), x, y, settings(clip=0.1))
    twice = one_step(Net(), x.repeat(2, 1, 1), y.repeat(2), settings(clip=0.1))
    for name in one:
        torch.testing.assert_close(twice[name], 2 * one[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("clip", [0.03, 0.5])
@pytest.mark.parametrize("seed", range(5))
def test_adding_one_example_moves_the_sum_by_at_most_the_clipping_norm(clip, seed):
    x, y = batch(9, seed, scale=50.0)
    with_it = one_step(Net(), x, y, settings(clip=clip, expected=1.0))
    without = one_step(Net(), x[:-1], y[:-1], settings(clip=clip, expected=1.0))
    distance = math.sqrt(sum(float(((with_it[n] - without[n]).double() ** 2).sum()) for n in with_it))
    assert distance <= clip * (1 + 1e-5)


OWNERS = torch.tensor([4, 4, 4, 0, 7, 7, 7, 7, 7, 2, 2, 9])  # as the loop hands them on: one customer after another


@pytest.mark.parametrize("clip", [0.05, 4.0, 20.0])
@pytest.mark.parametrize("splits", [1, 3, 12])
def test_a_customers_gradients_are_added_up_and_then_clipped(clip, splits):
    model, (x, y) = Net(), batch(12)
    dp = settings(clip=clip, expected=3.0, unit="customer")
    moved = one_step(model, x, y, dp, splits=splits, owners=OWNERS)
    exact = Net().double()
    trained = {name: p for name, p in exact.named_parameters() if p.requires_grad}
    alone = [lambda i=i: losses(exact, x[i : i + 1].double(), y[i : i + 1])[0] for i in range(len(x))]
    expected, norms = customers_clipped_sum(trained, alone, OWNERS.tolist(), clip)
    assert clip > 10 or max(norms) > clip, "the case must clip something"
    assert relative_error(moved, {name: total / 3.0 for name, total in expected.items()}) < 1e-5


@pytest.mark.parametrize("owner", [4, 0, 7, 2, 9])
def test_adding_one_customer_moves_the_sum_by_at_most_the_clipping_norm(owner):
    x, y = batch(12, seed=owner, scale=50.0)
    dp, keep = settings(clip=0.5, expected=1.0, unit="customer"), owner != OWNERS
    with_it = one_step(Net(), x, y, dp, owners=OWNERS, splits=5)
    without = one_step(Net(), x[keep], y[keep], dp, owners=OWNERS[keep], splits=2)
    distance = math.sqrt(sum(float(((with_it[n] - without[n]).double() ** 2).sum()) for n in with_it))
    assert 0.1 < distance <= 0.5 * (1 + 1e-5)


def test_a_customers_examples_may_be_apart_until_its_batch_is_closed_and_never_after():
    x, y = batch(4)
    for owners, splits in ([1, 2, 1, 3], 1), ([1, 2, 2, 1], 2), ([1, 2, 1, 1], 4):
        dp = settings(clip=0.05, unit="customer")
        apart = one_step(Net(), x, y, dp, owners=torch.tensor(owners), splits=splits)
        order = torch.argsort(torch.tensor(owners), stable=True)
        together = one_step(Net(), x[order], y[order], dp, owners=torch.tensor(owners)[order])
        for name in apart:
            torch.testing.assert_close(apart[name], together[name], rtol=0, atol=1e-6)
    model = Net()
    with make_private(model, sgd(model), settings(unit="customer"), SystemNoise()) as optimizer:
        optimizer.accumulate(losses(model, x[:2], y[:2]), owners=torch.tensor([1, 2]))
        optimizer.close_units()
        with pytest.raises(RuntimeError, match="clipped twice"):
            optimizer.accumulate(losses(model, x[2:], y[2:]), owners=torch.tensor([2, 3]))


def test_the_gradients_of_dummies_are_dropped():
    x, y = batch(6)
    model, other = Net(), Net()
    with make_private(model, sgd(model), settings(), SystemNoise()) as optimizer:
        optimizer.accumulate(losses(model, x, y), 4)
        kept = optimizer.sum.value()
    with make_private(other, sgd(other), settings(), SystemNoise()) as optimizer:
        optimizer.accumulate(losses(other, x[:4], y[:4]))
        assert torch.equal(kept, optimizer.sum.value())


def test_a_customer_may_come_again_in_the_next_logical_batch():
    model, (x, y), owners = Net(), batch(2), torch.tensor([3, 5])
    with make_private(model, sgd(model), settings(unit="customer"), SystemNoise()) as optimizer:
        for _ in range(2):
            optimizer.accumulate(losses(model, x, y), owners=owners)
            optimizer.step()


@pytest.mark.parametrize(("unit", "owners"), [("record", torch.tensor([0, 1])), ("customer", None)])
def test_the_unit_that_is_accounted_is_the_one_that_is_clipped(unit, owners):
    x, y = batch(2)
    with pytest.raises(RuntimeError, match="if the unit is the customer"):
        one_step(Net(), x, y, settings(unit=unit), owners=owners)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_an_example_whose_gradient_overflows_contributes_nothing(bad):
    def linear():
        model = Net()
        model.forward = lambda x: model.head(model.middle(model.frozen(x)).mean(1))  # type: ignore[method-assign]
        return model

    x, y = batch(4)
    spoiled = x.clone()
    spoiled[2] = bad
    moved = one_step(linear(), spoiled, y, settings(clip=0.5))
    keep = torch.tensor([0, 1, 3])
    expected = one_step(linear(), x[keep], y[keep], settings(clip=0.5))
    for name in moved:
        torch.testing.assert_close(moved[name], expected[name], rtol=1e-5, atol=1e-6)


def test_an_example_whose_norm_float32_cannot_hold_still_counts_for_the_clip_and_no_more():
    generator = torch.Generator().manual_seed(0)
    gradients = torch.randn(3, 339, generator=generator)
    long = gradients.clone()
    long[1] *= 1e37  # finite numbers, but their squares overflow
    model = Net()
    with make_private(model, sgd(model), settings(clip=0.5), SystemNoise()) as optimizer:
        optimizer.add_units(long[:, : optimizer.size])
        whole = optimizer.sum.take()
        optimizer.add_units(long[[0, 2], : optimizer.size])
        moved = (whole - optimizer.sum.take()).double() * optimizer.grid.step
    assert 0.4999 < float(moved.norm()) <= 0.5


def noise_in(sigma, clip, examples, repeats=30):
    """The noise that steps really add, in units of the promised noise. Width 40 gives 1,723 values a step."""
    x, y = batch(examples) if examples else (torch.empty(0, 5, 6), torch.empty(0, dtype=torch.long))
    silent = one_step(Net(40), x, y, settings(0.0, clip, expected=1.0))
    values = []
    for _ in range(repeats):
        noisy = one_step(Net(40), x, y, settings(sigma, clip, expected=1.0))
        values += [((noisy[name] - silent[name]) / (0.8 * 0.5)).flatten().double().numpy() for name in noisy]
    return np.concatenate(values)


def looks_right(values):
    critical = math.sqrt(-0.5 * math.log(1e-6 / 2) / len(values))
    return stats.kstest(values, "norm").statistic < critical


@pytest.mark.parametrize("examples", [0, 5])
def test_the_added_noise_has_standard_deviation_sigma_times_clip(examples):
    assert looks_right(noise_in(0.8, 0.5, examples))


@pytest.mark.parametrize("wrong", [2 / 3, 3 / 2])
def test_the_noise_test_rejects_two_thirds_and_three_halves(wrong):
    assert not looks_right(noise_in(0.8 * wrong, 0.5, 5))
    assert not looks_right(noise_in(0.8, 0.5 * wrong, 5))


def test_noise_is_added_once_however_the_batch_was_split():
    x, y = batch(8)
    silent = one_step(Net(), x, y, settings(0.0))
    for splits in (1, 4):
        noisy = one_step(Net(), x, y, settings(2.0), noise=FixedNoise(b"a"), splits=splits)
        step = Grid(1.0).step
        drawn = torch.from_numpy(FixedNoise(b"a").rounded_normal(sum(v.numel() for v in noisy.values()), 2.0 / step))
        found = torch.cat([(noisy[n] - silent[n]).flatten() for n in noisy])
        torch.testing.assert_close(found.double(), drawn.double() * step / 10.0, rtol=1e-4, atol=1e-5)


def test_an_empty_batch_takes_a_step_of_noise_alone():
    moved = one_step(Net(), torch.empty(0, 5, 6), torch.empty(0, dtype=torch.long), settings(1.0))
    assert all(float(v.abs().sum()) > 0 for v in moved.values())


def test_nothing_of_opacus_stays_behind_even_after_a_failure():
    model, (x, y) = Net(), batch(3)
    clean = {name: set(vars(m)) for name, m in model.named_modules()}
    one_step(model, x, y, settings())

    def fail():
        with make_private(model, sgd(model), settings(), SystemNoise()):
            losses(model, x, y)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    for name, module in model.named_modules():
        assert set(vars(module)) == clean[name]
        assert not module._forward_hooks
        assert not module._backward_hooks
    for parameter in model.parameters():
        assert parameter.grad is None
        assert not vars(parameter)
    before = losses(model, x, y).sum()
    before.backward()
    assert model.head.weight.grad is not None
    one_step(Net(), x, y, settings())  # and another training may begin


def test_a_gradient_is_used_for_one_step_only():
    model, (x, y) = Net(), batch(3)
    with make_private(model, sgd(model), settings(), SystemNoise()) as optimizer:
        optimizer.accumulate(losses(model, x, y))
        optimizer.step()
        after = {name: p.detach().clone() for name, p in model.named_parameters()}
        optimizer.step()
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, after[name])


def test_a_gradient_that_was_not_clipped_stops_the_step():
    model, (x, y) = Net(), batch(3)
    with make_private(model, sgd(model), settings(), SystemNoise()) as optimizer:
        losses(model, x, y).sum().backward()
        with pytest.raises(RuntimeError, match="not clipped"):
            optimizer.step()


def test_a_backward_pass_that_the_hooks_missed_is_an_error_and_not_a_silent_empty_batch():
    model, (x, y) = Net(), batch(3)
    with make_private(model, sgd(model), settings(), SystemNoise()) as optimizer:
        model.eval()
        with pytest.raises((ValueError, RuntimeError)):
            optimizer.accumulate(losses(model, x, y))


class Scaled(Net):
    """With a parameter that no Opacus rule covers."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(16))

    def forward(self, x):
        return self.head(self.scale * torch.tanh(self.frozen(x)).mean(1))


class Unused(Net):
    """With a trainable layer that the forward pass leaves out."""

    def __init__(self):
        super().__init__()
        self.spare = nn.Linear(4, 4)


class Mixing(Net):
    """Each example sees the mean of the batch."""

    def forward(self, x):
        hidden = torch.tanh(self.middle(torch.tanh(self.frozen(x)))).mean(1)
        return self.head(hidden - 0.5 * hidden.mean(0))


def enter(model, held=None):
    optimizer = torch.optim.SGD(held or [p for p in model.parameters() if p.requires_grad], lr=1.0)
    x, y = batch(2)
    with make_private(model, optimizer, settings(), SystemNoise()):
        verify_per_example_gradients(model, lambda rows: losses(model, x[rows], y[rows]))


def test_a_parameter_without_a_per_example_rule_stops_the_training_at_its_start():
    with pytest.raises(ModelError, match=r"scale: Scaled has no per-example gradient rule"):
        enter(Scaled())


def test_a_layer_norm_without_a_bias_stops_the_training_at_its_start_in_one_line():
    model = Net()
    model.norm = nn.LayerNorm(4, bias=False)  # ModernBERT's head for words has one
    with pytest.raises(ModelError, match=r"norm\.weight: LayerNorm without a bias has no per-example gradient rule"):
        enter(model)


def test_a_parameter_that_the_forward_pass_does_not_use_stops_the_training_at_its_start():
    with pytest.raises(ModelError, match=r"spare\.weight"):
        enter(Unused())


def test_examples_that_depend_on_each_other_stop_the_training_at_its_start():
    with pytest.raises(ModelError, match="depends on the rest of the batch"):
        enter(Mixing())


def test_a_trainable_parameter_outside_the_optimiser_stops_the_training_at_its_start():
    model = Net()
    with pytest.raises(ModelError, match=r"head\.weight: not held"):
        enter(model, held=[model.middle.weight])


def test_the_probe_leaves_the_weights_as_they_were():
    model = Net()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    enter(model)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name])


@pytest.mark.parametrize(
    "wrong",
    [
        {"noise_multiplier": -0.1},
        {"noise_multiplier": math.nan},
        {"clipping_norm": 0.0},
        {"clipping_norm": math.inf},
        {"clipping_norm": 1e-7},
        {"clipping_norm": 1.6e-43},
        {"clipping_norm": 1e7},
        {"noise_multiplier": 1e7},
        {"sampling_probability": 0.0},
        {"sampling_probability": 1.1},
        {"steps": 0},
        {"expected_batch_size": 0.0},
        {"expected_batch_size": math.inf},
        {"unit": "person"},
    ],
)
def test_settings_without_a_defined_mechanism_are_refused(wrong):
    good = {
        "noise_multiplier": 1.0,
        "clipping_norm": 1.0,
        "sampling_probability": 0.1,
        "steps": 3,
        "expected_batch_size": 5,
    }
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        DpSettings(**(good | wrong))
