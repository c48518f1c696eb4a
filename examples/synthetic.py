"""Write small invented data sets, so that each example runs without any data of yours.

Their sentences come from a few templates. A model that is right on them has shown nothing about real text.
"""

import csv
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["write_documents", "write_entities", "write_filings", "write_risk", "write_sentiment"]

RISK = {
    "very_low": ("cash covers all debt", "the rating was raised again", "no loan is overdue"),
    "low": ("margins stay stable", "the order book is full", "debt falls as planned"),
    "medium": ("costs rise faster than sales", "a large contract ends soon", "the outlook was cut"),
    "high": ("a covenant was breached", "auditors doubt the forecast", "refinancing is late"),
    "very_high": ("the company cannot pay its suppliers", "creditors filed for insolvency", "trading was suspended"),
}
SENTIMENT = {
    "negative": ("profit fell", "the dividend was cut", "sales missed every forecast"),
    "neutral": ("the board met on Tuesday", "the annual meeting is in May", "the auditor stays the same"),
    "positive": ("profit rose", "the dividend was raised", "sales beat every forecast"),
}
DOCUMENTS = {
    "contract": ("the parties agree to the following terms", "this agreement ends on notice", "the tenant shall pay"),
    "letter": ("dear shareholders", "thank you for your trust", "yours sincerely"),
    "report": ("revenue by segment is shown below", "the table compares two years", "operating income by quarter"),
}
SECTIONS = {
    "business": ("we design and sell industrial pumps", "our customers are utilities", "we operate three plants"),
    "management_discussion": ("net revenue increased from the prior year", "gross margin declined", "cash flow rose"),
    "risk_factors": ("we may be unable to refinance our debt", "a breach could harm our results", "demand may fall"),
}
COMPANIES = ("Aldor", "Brentis", "Corvane", "Delmora", "Estrava", "Fenwold")
KINDS = ("Corp", "Group", "Holdings")


def write_risk(directory: Path, rows: int = 240) -> Path:
    """Write `train.csv` and `test.csv` of texts with a risk level. Return `directory`."""
    return _write_tables(directory, RISK, rows)


def write_sentiment(directory: Path, rows: int = 240) -> Path:
    """Write `train.csv` and `test.csv` of headlines with a sentiment. Return `directory`."""
    return _write_tables(directory, SENTIMENT, rows)


def write_documents(directory: Path, rows: int = 240) -> Path:
    """Write `train.csv` and `test.csv` of passages with the kind of their document. Return `directory`."""
    return _write_tables(directory, DOCUMENTS, rows)


def write_entities(directory: Path, rows: int = 240) -> Path:
    """Write `train.txt` and `test.txt` in CoNLL format, in which companies are tagged. Return `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    for part, number, seed in (("train", rows, 1), ("test", rows // 4, 2)):
        draw = random.Random(seed)
        lines = []
        for place in range(number):
            company, kind = draw.choice(COMPANIES), draw.choice(KINDS)
            told = draw.choice([each for texts in SENTIMENT.values() for each in texts]).split()
            lines += [f"{company} B-ORG", f"{kind} I-ORG", "said O", *(f"{word} O" for word in told)]
            lines += [f"in O\nweek O\n{part}{place} O", ""]
        (directory / f"{part}.txt").write_text("\n".join(lines) + "\n")
    return directory


def write_filings(directory: Path, rows: int = 240) -> Path:
    """Write `filings/` of plain text, and sections of filings as `train.csv` and `test.csv`. Return `directory`."""
    draw = random.Random(3)
    (directory / "filings").mkdir(parents=True, exist_ok=True)
    for company in COMPANIES:
        paragraphs = [
            f"{company} {draw.choice(KINDS)}: {'. '.join(draw.sample(_all(SECTIONS), 3))}, as amortization of goodwill "
            f"and EBITDA for fiscal {2000 + number} show."
            for number in range(rows // len(COMPANIES))
        ]
        (directory / "filings" / f"{company.lower()}.txt").write_text("\n\n".join(paragraphs) + "\n")
    return _write_tables(directory, SECTIONS, rows)


def _all(sentences: Mapping[str, Sequence[str]]) -> list[str]:
    return [each for texts in sentences.values() for each in texts]


def _write_tables(directory: Path, sentences: Mapping[str, Sequence[str]], rows: int) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for part, number, seed in (("train", rows, 1), ("test", rows // 4, 2)):
        draw = random.Random(seed)
        with (directory / f"{part}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            for place in range(number):
                label = list(sentences)[place % len(sentences)]
                company = f"{draw.choice(COMPANIES)} {draw.choice(KINDS)}"
                writer.writerow([f"{company}, {part} note {place}: {draw.choice(sentences[label])}", label])
    return directory
