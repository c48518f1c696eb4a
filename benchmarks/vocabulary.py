"""The effect of each list of words: tokens a word, and with --train the loss a word after reading some text.

`python -m benchmarks.vocabulary [--train] [--texts N]`. Each list is measured on public text of a kind near its domain:
filings and prospectuses on paragraphs of annual reports, analyst reports on headlines about shares, earnings calls on
the Beige Book. With --train, MiniLM reads `--texts` texts twice: with the new words, and without. The loss a word on
held-out text compares the two, because it counts all tokens of a word. Long texts are read in pieces, so annual reports
take most of the time. `$FEDFIN_DATA` names the data.
"""

import argparse
import csv
import gzip
import json
import random
import tempfile
from collections.abc import Mapping
from pathlib import Path

from benchmarks.finetune_cases import DATA
from client.finetune import AdapterOptions, TrainingOptions
from client.finetune.domain import adapt_to_domain
from client.finetune.strategies.domain_terms import DOMAINS, curated
from common.base_models.extend import tokens_per_word, write_extended_base
from common.base_models.pretrained import load_tokenizer
from common.data.datasets import Dataset

__all__ = ["main", "texts_of"]

_MEASURED, _HELD_OUT = 300, 60
"""Texts whose tokens are counted, and the first of them, on which the loss is measured."""
_TEXTS: Mapping[str, str] = {
    "sec_filings": "edgar_10k/section_paragraphs.jsonl.gz",
    "analyst_reports": "sentfin/desks.csv",
    "earnings_calls": "beige_book/beige_book_sections_2017_2020.jsonl.gz",
    "prospectuses": "edgar_10k/section_paragraphs.jsonl.gz",
}


def texts_of(domain: str, count: int) -> list[str]:
    """Return `count` texts near a domain, drawn by a fixed seed."""
    path = DATA / _TEXTS[domain]
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            texts = [row["text"] for row in csv.DictReader(file)]
    else:
        with gzip.open(path, "rt") as file:
            texts = [json.loads(line)["text"] for line in file]
    random.Random(0).shuffle(texts)  # noqa: S311 - an order, not a secret
    return texts[:count]


def main() -> None:
    """Measure every list, and print one line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", action="store_true", help="also read text with and without the words")
    parser.add_argument("--texts", type=int, default=120, help="texts that are read (default: 120)")
    given = parser.parse_args()
    if not DATA.is_dir():
        raise SystemExit(f"{DATA}: no such directory: set FEDFIN_DATA")
    with tempfile.TemporaryDirectory() as directory:
        for domain in DOMAINS:
            print(json.dumps(_measure(domain, Path(directory), given.texts if given.train else 0)), flush=True)


def _measure(domain: str, directory: Path, read: int) -> dict[str, object]:
    terms, texts = curated(domain), texts_of(domain, _MEASURED + read)
    measured, reading = texts[:_MEASURED], texts[_MEASURED:]
    added = write_extended_base("minilm", terms.words, directory / domain, private=False)
    before, after = (tokens_per_word(load_tokenizer(base), measured) for base in ("minilm", str(directory / domain)))
    found: dict[str, object] = {
        "domain": domain,
        "words": len(terms.words),
        "new_tokens": len(added),
        "tokens_per_word_before": round(before, 4),
        "tokens_per_word_after": round(after, 4),
    }
    if read:
        for name, new_words in (("without", False), ("with", True)):
            adapted = adapt_to_domain(
                domain,
                Dataset.of(reading),
                directory / f"{domain} {name}",
                public=True,
                held_out=Dataset.of(measured[:_HELD_OUT]),
                max_mined_terms=0,
                new_words=new_words,
                max_tokens=48,
                adapter=AdapterOptions(layers="last:2"),
                training=TrainingOptions(epochs=1, validation=0.0),
            )
            found[f"loss_per_word_{name}"] = round(adapted.after.loss_per_word, 3)
            found["loss_per_word_before"] = round(adapted.before.loss_per_word, 3)
    return found


if __name__ == "__main__":
    main()
