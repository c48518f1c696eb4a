"""The check of a base model before anything is trained, charged or written. A fault is one line with its remedy.

It reads the files, the configuration and the tokenizer, but no weights. `common.base_models.load` calls the same
functions again, so a model that was never checked is refused when it is loaded.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers

from common.base_models.architecture import generator_class, max_positions, read_config
from common.base_models.files import check_sizes, refuse_long_texts, refuse_small_embeddings
from common.base_models.resolve import resolve_base
from common.base_models.transformers_logging import quiet
from common.errors import ModelError
from common.tasks import Head

__all__ = ["CheckedBase", "check_base_model", "check_configuration", "checked_tokenizer"]

_PLAIN_TEXT = "net profit of the bank rose 1.5 % in 2024"


@dataclass(frozen=True)
class CheckedBase:
    """A base model whose files passed the check.

    name: as the configuration calls it.
    path: its directory.
    config: transformers' configuration.
    tokenizer: with a padding token.
    max_positions: the number of tokens of the longest text that it reads.
    """

    name: str
    path: Path
    config: Any
    tokenizer: Any
    max_positions: int


def check_base_model(name: str, head: Head = Head.SEQUENCE, max_tokens: int | None = None) -> CheckedBase:
    """Check base model `name` for tasks of kind `head`.

    Args:
        max_tokens: the length at which texts will be cut, if it is known.

    Raises:
        ModelError: one line that names the missing or wrong part and its remedy.
    """
    path, config = check_configuration(name, head)
    tokenizer = checked_tokenizer(name, path, config, head)
    positions = max_positions(config)
    if max_tokens is not None:
        refuse_long_texts(name, max_tokens, positions)
    return CheckedBase(name, path, config, tokenizer, positions)


def check_configuration(name: str, head: Head = Head.SEQUENCE) -> tuple[Path, Any]:
    """Make the part of the check that loads nothing, and return the model's directory and configuration.

    Raises:
        ModelError: files are missing, or of different sizes, or the architecture cannot do tasks of kind `head`.
    """
    path = Path(resolve_base(name))
    check_sizes(name, path)
    config = read_config(name, path)
    if head.writes_text:
        generator_class(name, config)
    return path, config


def checked_tokenizer(name: str, path: str | Path, config: Any, head: Head = Head.SEQUENCE) -> Any:
    """Load a base model's tokenizer. If it has no padding token, its end token pads.

    Raises:
        ModelError: the tokenizer is damaged, knows no word, has more tokens than the model, or lacks a special token
            that tasks of kind `head` need.
    """
    try:
        with quiet():
            tokenizer = transformers.AutoTokenizer.from_pretrained(path, trust_remote_code=False)
            pieces, encoded = set(tokenizer.tokenize(_PLAIN_TEXT)), tokenizer(_PLAIN_TEXT)["input_ids"]
    except MemoryError:
        raise
    except Exception as error:  # the readers of its file kinds each raise their own
        raise ModelError(f"base model {name}: its tokenizer could not be loaded: copy its files there again") from error
    pieces.discard(tokenizer.unk_token)
    if not any(piece.strip("\u2581\u0120 ") for piece in pieces):  # the marks of a space in SentencePiece and in BPE
        raise ModelError(
            f"base model {name}: its tokenizer knows no word of a plain sentence: copy the model's own tokenizer there"
        )
    special = set(tokenizer.all_special_ids) | {
        token for token, added in getattr(tokenizer, "added_tokens_decoder", {}).items() if added.special
    }
    # A special token may stand above the embeddings, if it is in no text of a batch.
    padding = () if tokenizer.pad_token_id is None else (tokenizer.pad_token_id,)
    plain = (token for token in tokenizer.get_vocab().values() if token not in special)
    highest = max((*plain, *encoded, *padding), default=-1)
    refuse_small_embeddings(name, highest, _embedding_rows(config))
    if head is Head.MASKED and tokenizer.mask_token_id is None:
        raise ModelError(f"base model {name}: its tokenizer has no mask token: choose an encoder, such as minilm")
    if head.labels_words and not tokenizer.is_fast:
        raise ModelError(
            f"base model {name}: its tokenizer cannot tell the word of a token: save a tokenizer.json there, or choose "
            "a task that labels texts"
        )
    if head.writes_text and not config.is_encoder_decoder and tokenizer.eos_token_id is None:
        raise ModelError(
            f"base model {name}: its tokenizer names no end token, which ends a text that it writes: set "
            "tokenizer.eos_token and save it there again"
        )
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise ModelError(
                f"base model {name}: its tokenizer names neither a padding nor an end token: set tokenizer.pad_token "
                "and save it there again"
            )
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _embedding_rows(config: Any) -> int:
    rows = getattr(config, "vocab_size", None)
    return int(rows) if isinstance(rows, int) else 2**63
