"""Adam that knows its noise: the paper's update, written out coordinate by coordinate."""

import math

import numpy as np
import pytest
import torch

from common.adapters.optimizer import WEIGHT_DECAY, make_optimizer, parameter_groups
from tests.tiny_models import tiny_adapted


def update(gradients, lr, variance, decay):
    """The place of a coordinate that starts at 0.5 after these gradients, by algorithm 1 of arXiv 2312.14334."""
    value, m, v = 0.5, 0.0, 0.0
    for t, g in enumerate(gradients, start=1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        corrected = max(v / (1 - 0.999**t) - variance, variance / 4, 1e-16)
        value = value * (1 - lr * decay) - lr * (m / (1 - 0.9**t)) / math.sqrt(corrected)
    return value


def run(name, gradients, lr, variance):
    parameter = torch.nn.Parameter(torch.full((gradients.shape[1],), 0.5, dtype=torch.float64))
    optimizer = make_optimizer(name, [{"params": [parameter], "lr": lr}], noise_variance=variance)
    for gradient in gradients:
        parameter.grad = torch.from_numpy(gradient)
        optimizer.step()
    return parameter.detach().numpy()


@pytest.mark.parametrize(("name", "decay"), [("adam", 0.0), ("adamw", 0.01)])
@pytest.mark.parametrize("variance", [0.0, 0.04, 1.0])
def test_each_coordinate_moves_as_the_paper_says(name, decay, variance):
    gradients = np.random.default_rng(0).normal(size=(30, 5))
    expected = [update(column, 0.05, variance, decay) for column in gradients.T]
    np.testing.assert_allclose(run(name, gradients, 0.05, variance), expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_without_noise_it_is_torchs_own(name):
    gradients = np.random.default_rng(1).normal(size=(20, 4))
    np.testing.assert_allclose(run(name, gradients, 0.01, 0.0), run(name, gradients, 0.01, None), rtol=1e-6)


def test_a_large_gradient_moves_further_than_a_small_one_although_both_drown_in_noise():
    """The purpose of the correction: plain Adam under this noise moves both coordinates nearly alike."""
    rng, signal = np.random.default_rng(2), np.array([0.05, 1.0])
    gradients = signal + rng.normal(size=(4000, 2)) * 3.0
    corrected = 0.5 - run("adam", gradients, 1e-3, 9.0)
    plain = 0.5 - run("adam", gradients, 1e-3, None)
    assert corrected[1] > 1.5 * plain[1] > 0


def test_adapter_and_head_have_a_learning_rate_each_and_no_parameter_is_left_out(tmp_path):
    model = tiny_adapted(tmp_path)
    adapter, head = parameter_groups(model, 0.1, 0.2)
    assert (adapter["lr"], head["lr"]) == (0.1, 0.2)
    assert {id(p) for p in head["params"]} == {id(model.trainable()[name]) for name in model.head_names()}
    held = sorted(id(p) for group in (adapter, head) for p in group["params"])
    assert held == sorted(id(p) for p in model.trainable().values())


def test_a_model_without_lora_has_one_group(tmp_path):
    [only] = parameter_groups(tiny_adapted(tmp_path, layers="none", trained_factors="AB"), 0.1, 0.2)
    assert only["lr"] == 0.2


@pytest.mark.parametrize(("name", "decay"), [("adamw", WEIGHT_DECAY), ("paged_adamw_32bit", WEIGHT_DECAY), ("adam", 0)])
def test_both_forms_of_adamw_decay_weights_alike_and_adam_does_not(name, decay):
    parameter = torch.nn.Parameter(torch.ones(1))
    assert make_optimizer(name, [{"params": [parameter], "lr": 1.0}]).param_groups[0]["weight_decay"] == decay
