"""transformers' `from_pretrained` for base models: no warnings, and each fault of the files in one line."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import transformers
from safetensors import SafetensorError

from common.base_models.check import check_base_model
from common.base_models.transformers_logging import quiet
from common.errors import ModelError

__all__ = ["load_pretrained", "load_tokenizer", "one_line_errors", "refuse_missing"]


@contextmanager
def one_line_errors(base: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
        raise ModelError(f"base model {base}: could not be loaded: {reason}") from error


def refuse_missing(base: str, info: Mapping[str, Any], untrained: Sequence[str], advice: str) -> None:
    """Refuse absent weights. transformers fills them with random numbers, others at every institution."""
    absent = sorted(key for key in info["missing_keys"] if key.split(".")[0] not in untrained)
    if absent:
        raise ModelError(f"base model {base}: its files lack {absent[0]}: {advice}")


def load_pretrained(base: str) -> tuple[Any, Any]:
    """Model and tokenizer of a base model, in the architecture that its files name.

    Raises:
        ModelError: absent or damaged.
    """
    checked = check_base_model(base)
    architecture = getattr(transformers, (checked.config.architectures or [""])[0], transformers.AutoModel)
    with quiet(), one_line_errors(base):
        return architecture.from_pretrained(checked.path, trust_remote_code=False), checked.tokenizer


def load_tokenizer(base: str) -> Any:
    """The tokenizer of a base model.

    Raises:
        ModelError: absent or damaged.
    """
    return check_base_model(base).tokenizer
