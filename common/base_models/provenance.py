"""The origin of a base model's directory: which base model it was made from, and whether private text went into it.

Starts without torch.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from common.base_models.resolve import resolve_base
from common.errors import ConfigurationError, ModelError
from common.files import write_atomic

__all__ = ["Provenance", "read_provenance", "refuse_private_base", "write_provenance"]

_PROVENANCE = "provenance.json"


@dataclass(frozen=True)
class Provenance:
    """The origin of a base model's directory.

    Attributes:
        base_model: The base model that it was made from.
        new_tokens: Number of tokens that were added at the end of the vocabulary.
        private_text: Whether its words or weights were learned from private text without differential privacy.
    """

    base_model: str
    new_tokens: int
    private_text: bool


def write_provenance(directory: Path, origin: Provenance) -> None:
    """Write the origin of a model into its directory."""
    write_atomic(directory / _PROVENANCE, (json.dumps(asdict(origin), indent=2) + "\n").encode())


def read_provenance(base: str) -> Provenance:
    """Return the origin of a base model. A directory without a record has no new tokens and no private text."""
    path = Path(resolve_base(base)) / _PROVENANCE
    if not path.exists():
        return Provenance(base, 0, False)
    try:
        return Provenance(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        raise ModelError(f"{path}: damaged: make the directory again") from None


def refuse_private_base(base: str) -> None:
    """Refuse a base model with private text for a federation, because the hub and all institutions must hold it.

    Raises:
        ConfigurationError: its vocabulary or weights were learned from private text without differential privacy.
    """
    if read_provenance(base).private_text:
        raise ConfigurationError(
            f"model.base {base}: its vocabulary or weights were learned from private text, and a federation's base "
            "model is given to all: use one that was made from public text"
        )
