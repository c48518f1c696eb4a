"""Settings of an adapter: the values of its method, and a record that earlier releases wrote is read."""

import pytest

from common.adapters.settings import AdapterSettings
from common.config.run import AdapterConfig
from common.errors import ConfigurationError

LORA = AdapterConfig(
    rank=4, alpha=8.0, dropout=0.1, target_modules=("query", "value"), layers="last:2", trained_factors="B"
)
EARLIER = {"rank": 4, "alpha": 8.0, "dropout": 0.1, "target_modules": ["query", "value"], "layers": "last:2"}


@pytest.mark.parametrize(
    "settings",
    [
        AdapterSettings(method="lora", lora=LORA),
        AdapterSettings(method="qlora", lora=LORA),
        AdapterSettings(method="p_tuning", virtual_tokens=8),
        AdapterSettings(method="prefix_tuning", virtual_tokens=20),
    ],
    ids=lambda settings: settings.method,
)
def test_a_record_gives_the_same_settings_again(settings: AdapterSettings) -> None:
    assert AdapterSettings.from_record(settings.to_record()) == settings


def test_a_record_holds_no_value_that_the_method_does_not_have() -> None:
    assert AdapterSettings(method="p_tuning", virtual_tokens=8).to_record() == {
        "method": "p_tuning",
        "virtual_tokens": 8,
    }
    assert "virtual_tokens" not in AdapterSettings(method="lora", lora=LORA).to_record()


@pytest.mark.parametrize("key", ["train", "trained_factors"])
def test_a_record_of_an_earlier_release_is_read(key: str) -> None:
    """It had values of every method, and another name for the factors."""
    record = EARLIER | {key: "B", "virtual_tokens": 8}
    assert AdapterSettings.from_record({"method": "lora", **record}) == AdapterSettings(method="lora", lora=LORA)
    prompt = AdapterSettings.from_record({"method": "p_tuning", **record})
    assert prompt == AdapterSettings(method="p_tuning", virtual_tokens=8)


@pytest.mark.parametrize(
    ("method", "lora", "virtual_tokens", "words"),
    [
        ("lora", None, 0, "needs LoRA settings and no virtual tokens"),
        ("lora", LORA, 4, "needs LoRA settings and no virtual tokens"),
        ("p_tuning", LORA, 4, "needs virtual tokens and no LoRA settings"),
        ("p_tuning", None, 0, "needs virtual tokens and no LoRA settings"),
        ("ia3", LORA, 0, "adapter method 'ia3' is unknown"),
    ],
)
def test_values_of_another_method_are_refused(
    method: str, lora: AdapterConfig | None, virtual_tokens: int, words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        AdapterSettings(method=method, lora=lora, virtual_tokens=virtual_tokens)
