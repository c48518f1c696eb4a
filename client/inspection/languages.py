"""Languages of texts, by py3langid's model, which needs no network."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from client.inspection.samples import evenly_spaced

__all__ = ["UNCERTAIN", "languages"]

UNCERTAIN = "uncertain"
"""Texts whose language has a probability below 0.9. Names and short texts are of no language."""

_KNOWN = "ar bg cs da de el en es et fi fr he hi hr hu id it ja ko lt lv nl no pl pt ro ru sk sl sr sv th tr uk vi zh"
_SURE = 0.9
_MOST_TEXTS = 5000
_MOST_CHARACTERS = 300
_TEXTS_AT_ONCE = 200


def languages(texts: Sequence[str], tick: Callable[[], None] = lambda: None) -> tuple[dict[str, int], int]:
    """Return how many texts are in each language, most frequent first, and how many texts were looked at.

    At most 5,000 texts are looked at, evenly spaced. `tick` is called after every few texts.
    """
    looked_at = evenly_spaced(texts, _MOST_TEXTS)
    found: Counter[str] = Counter()
    for start in range(0, len(looked_at), _TEXTS_AT_ONCE):
        found.update(_language(text[:_MOST_CHARACTERS]) for text in looked_at[start : start + _TEXTS_AT_ONCE])
        tick()
    return dict(found.most_common()), len(looked_at)


def _language(text: str) -> str:
    name, probability = _identifier().classify(text)
    return str(name) if probability >= _SURE else UNCERTAIN


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # its model takes seconds to load

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(_KNOWN.split())
    return identifier
