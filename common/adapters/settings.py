"""The settings of an adapter, with nothing left open. Saved adapters and trainings alone both hold this value."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, get_args

from common.config.run import AdapterConfig
from common.errors import ConfigurationError

__all__ = ["PROMPT_METHODS", "AdapterSettings", "Method"]

Method = Literal["lora", "qlora", "prefix_tuning", "p_tuning"]
PROMPT_METHODS = ("prefix_tuning", "p_tuning")
"""Methods that train virtual tokens and no LoRA factors."""


@dataclass(frozen=True, kw_only=True)
class AdapterSettings:
    """A method with the values that it has, and no others.

    Attributes:
        method: "lora", "qlora" (LoRA on weights of four bits), "prefix_tuning" or "p_tuning".
        lora: Of lora and qlora, otherwise None.
        virtual_tokens: Of prefix_tuning and p_tuning, otherwise 0.

    Raises:
        ConfigurationError: The values are not those of the method.
    """

    method: Method
    lora: AdapterConfig | None = None
    virtual_tokens: int = 0

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise ConfigurationError(f"adapter method {self.method!r} is unknown: use {', '.join(get_args(Method))}")
        if (self.lora is None) != self.is_prompt or (self.virtual_tokens > 0) != self.is_prompt:
            wanted = "virtual tokens and no LoRA settings" if self.is_prompt else "LoRA settings and no virtual tokens"
            raise ConfigurationError(f"adapter method {self.method} needs {wanted}: give these")

    @property
    def is_prompt(self) -> bool:
        """Whether the method trains virtual tokens."""
        return self.method in PROMPT_METHODS

    def to_record(self) -> dict[str, Any]:
        """Return method and values in one flat record, for a file or a report."""
        values = {"virtual_tokens": self.virtual_tokens} if self.lora is None else asdict(self.lora)
        return {"method": self.method} | values

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Return the settings of a record. Values that the method does not have are left out.

        Raises:
            KeyError, TypeError: A value is absent.
            ConfigurationError: A value is out of range.
        """
        if record["method"] in PROMPT_METHODS:
            return cls(method=record["method"], virtual_tokens=record["virtual_tokens"])
        if "train" in record:  # the name of this field up to release 0.1
            record = {**record, "trained_factors": record["train"]}
        own = {name: record[name] for name in AdapterConfig.__dataclass_fields__ if name in record}
        return cls(method=record["method"], lora=AdapterConfig(**own))
