"""A device is chosen, or refused in one line that names the option."""

import pytest
import torch

from common.base_models.device import select_device
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
