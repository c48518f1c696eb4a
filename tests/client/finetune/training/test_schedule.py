"""The learning rate rises during the warm-up and then falls to zero, and 16-bit types are a matter of the device."""

import pytest
import torch

from client.finetune.training.schedule import compute_precision, device_kind, rate_factor


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5, 1.0])
def test_the_rate_rises_to_its_full_value_and_then_only_falls(schedule: str, warmup: float) -> None:
    rates = [rate_factor(step, 100, warmup, schedule) for step in range(100)]
    warm = max(1, round(warmup * 100))
    assert rates[warm - 1] == 1.0
    assert max(rates) == 1.0
    assert rates[:warm] == sorted(rates[:warm])
    assert rates[warm:] == sorted(rates[warm:], reverse=True)
    assert min(rates) > 0


def test_half_way_both_schedules_are_at_half_the_rate() -> None:
    assert rate_factor(55, 100, 0.1, "cosine") == pytest.approx(0.5)
    assert rate_factor(55, 100, 0.1, "linear") == pytest.approx(0.5)
    assert rate_factor(30, 100, 0.1, "cosine") > rate_factor(30, 100, 0.1, "linear")


def test_a_training_of_one_step_takes_it_at_the_full_rate() -> None:
    assert rate_factor(0, 1, 0.0, "linear") == 1.0


def test_only_float16_needs_scaled_gradients() -> None:
    assert compute_precision("float32", "cpu") == (None, False)
    assert compute_precision("auto", "cpu") == (None, False)
    assert compute_precision("bfloat16", "cpu") == (torch.bfloat16, False)
    assert compute_precision("float16", "cuda:1") == (torch.float16, True)


@pytest.mark.parametrize(("bf16", "expected"), [(True, (torch.bfloat16, False)), (False, (torch.float16, True))])
def test_auto_takes_the_best_16_bit_type_of_the_gpu(
    monkeypatch: pytest.MonkeyPatch, bf16: bool, expected: tuple[torch.dtype, bool]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: bf16)
    assert compute_precision("auto", "cuda:0") == expected


def test_the_kind_of_a_device_has_no_number() -> None:
    assert [device_kind(device) for device in ("cpu", "cuda", "cuda:3")] == ["cpu", "cuda", "cuda"]
