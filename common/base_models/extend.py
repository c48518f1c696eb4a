"""A base model whose tokenizer knows more words: saved as a directory, and from then on a base model like any other.

A new token's embedding starts at the mean of the pieces that it replaces, so the model's first outputs are those of
before (Hewitt 2021, and Yao et al. 2021, arXiv 2106.13474).
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from common.base_models.pretrained import load_pretrained
from common.base_models.provenance import Provenance, read_provenance, write_provenance
from common.base_models.transformers_logging import quiet
from common.files import replace_directory

__all__ = [
    "extend",
    "holds_blanks",
    "save_base",
    "tokens_per_word",
    "write_extended_base",
    "write_merged_base",
]


def extend(model: Any, tokenizer: Any, terms: Iterable[str]) -> list[str]:
    """Add `terms` to a tokenizer and its model, in place. Return those that were more than one piece before.

    Each new row of the input embeddings (and of untied output embeddings) is the mean of its pieces' rows. A term is
    matched as a whole word, in the tokenizer's own casing. If the tokenizer's tokens hold the blank before a word, it
    is matched as the beginning of a word after a blank.

    Args:
        model: a transformers model, changed in place.
        tokenizer: its tokenizer, changed in place.
        terms: words or phrases. Blanks around them are ignored.
    """
    wanted: dict[str, list[int]] = {}
    blank = holds_blanks(tokenizer)
    for term in terms:
        if not (plain := term.strip()):
            continue
        plain = f" {plain}" if blank else plain
        if plain not in wanted:
            wanted[plain] = tokenizer(plain, add_special_tokens=False)["input_ids"]
    split = {
        term: pieces for term, pieces in wanted.items() if len(pieces) > 1 and tokenizer.unk_token_id not in pieces
    }
    before = len(tokenizer)
    tokenizer.add_tokens([transformers.AddedToken(term, single_word=not blank, normalized=True) for term in split])
    added = [term for term in split if (tokenizer.convert_tokens_to_ids(term) or 0) >= before]
    tables = [model.get_input_embeddings().weight]
    if model.get_output_embeddings() is not None:
        tables.append(model.get_output_embeddings().weight)
    means = [torch.stack([table[split[term]].mean(0) for term in added]) if added else table[:0] for table in tables]
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    grown = [model.get_input_embeddings().weight]
    if model.get_output_embeddings() is not None:
        grown.append(model.get_output_embeddings().weight)
    with torch.no_grad():
        for table, mean in zip(grown, means, strict=True):
            table[before : before + len(added)] = mean
    return added


def holds_blanks(tokenizer: Any) -> bool:
    """Whether a word's first token holds the blank before it, as in a decoder's byte-level vocabulary."""
    inside: list[str] = tokenizer.tokenize(" a")
    return len(inside) == 1 and inside != tokenizer.tokenize("a")


def tokens_per_word(tokenizer: Any, texts: Sequence[str]) -> float:
    """Return the mean number of tokens of a word (text between blanks) in `texts`, without special tokens."""
    words = sum(len(text.split()) for text in texts)
    return sum(len(ids) for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]) / max(1, words)


def write_extended_base(base: str, terms: Sequence[str], out: Path, private: bool) -> list[str]:
    """Write a base model with more terms in its vocabulary, and return the terms that were new.

    Args:
        base: Name of the base model to start from.
        terms: Words or word sequences to add.
        out: Directory of the new base model. It is replaced whole.
        private: Whether the terms were learned from private text without differential privacy.
    """
    model, tokenizer = load_pretrained(base)
    added = extend(model, tokenizer, terms)
    before = read_provenance(base)
    save_base(model, tokenizer, out, Provenance(base, len(added), private or before.private_text))
    return added


def write_merged_base(adapted: Any, base: str, out: Path, private: bool) -> None:
    """Write a base model with an adapter folded into its weights. Task heads are left out.

    Args:
        adapted: An `AdaptedModel` on `base`. It cannot be used afterwards.
        base: Name of the base model, whose architecture stays.
        out: Directory of the new base model. It is replaced whole.
        private: Whether the adapter was trained on private text without differential privacy.
    """
    model, tokenizer = load_pretrained(base)
    origin = read_provenance(base)
    trained = adapted.merge().model
    body = trained.encoder if hasattr(trained, "encoder") else trained.base_model
    model.base_model.load_state_dict(body.state_dict(), strict=False)
    if hasattr(trained, "lm_head"):  # rows of new words, if the scores have a table of their own
        model.lm_head.load_state_dict(trained.lm_head.state_dict())
    save_base(model, tokenizer, out, Provenance(base, origin.new_tokens, private or origin.private_text))


def save_base(model: Any, tokenizer: Any, out: Path, origin: Provenance) -> None:
    """Write a base model's directory whole or not at all. It replaces an older one.

    Args:
        model: The model, as transformers saves it.
        tokenizer: Its tokenizer.
        out: The directory.
        origin: The record of its origin, written beside the weights.
    """
    with replace_directory(out) as draft:
        with quiet():
            model.save_pretrained(draft)
            tokenizer.save_pretrained(draft)
        write_provenance(draft, origin)
