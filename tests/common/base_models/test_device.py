"""A device is chosen, or refused in one line that names the option."""

import pytest
import torch

from common.base_models.device import select_device, warn_of_slow_bfloat16
from common.errors import ConfigurationError


def test_auto_is_the_processor_if_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert (select_device("auto"), select_device("cpu")) == ("cpu", "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert select_device("auto") == "cuda"


@pytest.mark.parametrize("wanted", ["cuda:77", "abacus", ""])
def test_a_device_that_is_not_there_is_one_line(wanted: str) -> None:
    with pytest.raises(
        ConfigurationError, match=f'model.device is "{wanted}", which this machine does not have: use "auto"'
    ):
        select_device(wanted, "model.device")


@pytest.mark.parametrize(
    ("device", "found", "lines"),
    [
        ("cpu", {"architecture": "x86_64", "avx512_bf16": False, "amx_bf16": False}, 1),
        ("cpu", {"architecture": "x86_64", "avx512_bf16": True, "amx_bf16": False}, 0),
        ("cpu", {"architecture": "x86_64", "avx512_bf16": False, "amx_bf16": True}, 0),
        ("cpu", {"architecture": "aarch64"}, 0),
        ("cuda", {"architecture": "x86_64"}, 0),
    ],
)
def test_bfloat16_on_a_processor_that_emulates_it_is_told(
    device: str,
    found: dict[str, object],
    lines: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    warn_of_slow_bfloat16(device)
    assert [record.getMessage() for record in caplog.records] == [
        "bfloat16: this processor lacks instructions for it, so float32 is several times as fast"
    ] * lines
