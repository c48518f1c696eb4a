"""transformers' `from_pretrained` for base models: no warnings, and each fault of the files in one line."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import transformers
from safetensors import SafetensorError

from common.base_models.resolve import resolve_base
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
    """transformers fills what the files lack with random numbers, others at every institution."""
    absent = sorted(key for key in info["missing_keys"] if key.split(".")[0] not in untrained)
    if absent:
        raise ModelError(f"base model {base}: its files lack {absent[0]}: {advice}")


def load_pretrained(base: str) -> tuple[Any, Any]:
    """Model and tokenizer of a base model, in the architecture that its files name.

    Raises:
        ModelError: absent or damaged.
    """
    path = resolve_base(base)
    try:
        with quiet():
            config = transformers.AutoConfig.from_pretrained(path)
            name = (config.architectures or [""])[0]
            kind = getattr(transformers, name, transformers.AutoModel)
            return kind.from_pretrained(path), transformers.AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelError(f"base model {base}: could not be loaded ({type(error).__name__}): check its files") from error


def load_tokenizer(base: str) -> Any:
    """The tokenizer of a base model.

    Raises:
        ModelError: absent or damaged.
    """
    path = resolve_base(base)
    try:
        with quiet():
            return transformers.AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise ModelError(f"base model {base}: its tokenizer could not be loaded: check its files") from error
