"""Section [metrics] of hub.toml and institution.toml."""

from dataclasses import dataclass
from typing import Annotated

from common.config.sections import Range, Section

__all__ = ["MetricsSettings"]


@dataclass(frozen=True, kw_only=True)
class MetricsSettings(Section):
    """Section [metrics]: the port of loopback for Prometheus. None serves no figures."""

    section = "metrics"
    port: Annotated[int | None, Range(1, 65_535)] = None
