"""The finance setting of Flower's FlowerTune board, with three institutions that each hold one corpus.

python -m benchmarks.flowertune_finance rows DIRECTORY NAME=FILE NAME=FILE NAME=FILE
FEDFIN_DATA=DIRECTORY fedfin-simulate run benchmarks/flowertune_finance.toml --out runs/finance
python -m benchmarks.flowertune_finance score DIRECTORY runs/finance

A corpus has the columns `instruction`, `input` and `output`, and the outputs negative, neutral and positive. `rows`
holds out about every tenth row by the hash of its text. `score` lets the adapter answer these rows and prints, for each
corpus, the accuracy by the matching of the public evaluation and the share of the answers that are a label.
"""

import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from common.data.datasets import ResponseExample
from common.data.reading import read_labelled
from common.errors import ConfigurationError, FedfinError
from common.spelling import plain_answer

__all__ = ["FILE", "LABELS", "main", "public_label", "public_prompt", "rows_of"]

FILE = "flowertune_finance.jsonl"
LABELS = ("negative", "neutral", "positive")


def public_prompt(instruction: str, text: str) -> str:
    """Return the prompt of the public evaluation, without the blank at its end.

    >>> public_prompt("What is the sentiment?", "Profit rose.")
    'Instruction: What is the sentiment?\\nInput: Profit rose.\\nAnswer:'
    """
    lines = [f"Instruction: {instruction}", *([f"Input: {text}"] if text else []), "Answer:"]
    return "\n".join(lines)


def public_label(answer: str) -> str:
    """Return the label that the public evaluation reads from an answer: every text without one is neutral.

    >>> public_label("I think it is Positive."), public_label("It rose.")
    ('positive', 'neutral')
    """
    for label in ("positive", "negative"):
        if label in answer or label.capitalize() in answer:
            return label
    return "neutral"


def rows_of(name: str, file: Path) -> list[dict[str, str]]:
    """Return the rows of one corpus.

    Args:
        name: Name of the institution that holds it.
        file: A file of any format that fedfin reads, with the columns of the public files.

    Raises:
        DataError: The file cannot be used, or an output is no label.
    """
    read = read_labelled(file, "instruction_tuning")
    rows = []
    for example in read.examples:
        if not isinstance(example, ResponseExample):
            continue
        instruction, _, text = example.text.partition("\n\n")
        held_out = hashlib.sha256(text.encode()).digest()[0] % 10 == 0
        rows.append(
            {
                "prompt": public_prompt(instruction, text),
                "completion": example.response,
                "kind": name,
                "institution": name,
                "split": "test" if held_out else "train",
            }
        )
    return rows


def _score(rows: Sequence[dict[str, str]], run: Path) -> None:
    from client.inference.predictor import load_adapter

    model = load_adapter(run, device="cpu")
    held_out = [row for row in rows if row["split"] == "test"]
    for name in sorted({row["kind"] for row in held_out}):
        own = [row for row in held_out if row["kind"] == name]
        answers = model.respond([(("user", row["prompt"]),) for row in own], max_new_tokens=8)
        right = sum(public_label(answer) == row["completion"] for answer, row in zip(answers, own, strict=True))
        valid = sum(plain_answer(answer) in LABELS for answer in answers)
        print(f"{name}: {len(own)} rows, accuracy {right / len(own):.3f}, valid answers {valid / len(own):.3f}")


def main(arguments: Sequence[str]) -> int:
    """Write the rows, or score a run."""
    try:
        match list(arguments):
            case ["rows", directory, *corpora] if len(corpora) == 3 and all("=" in each for each in corpora):
                named = [each.partition("=") for each in corpora]
                rows = [row for name, _, file in named for row in rows_of(name, Path(file))]
                if wrong := next((row for row in rows if row["completion"] not in LABELS), None):
                    raise ConfigurationError(f"{wrong['institution']}: an output is not one of {', '.join(LABELS)}")
                Path(directory).mkdir(parents=True, exist_ok=True)
                (Path(directory) / FILE).write_text("".join(json.dumps(row) + "\n" for row in rows))
                declared = "\n".join(f"{json.dumps(name)} = {json.dumps(LABELS)}" for name, _, _ in named)
                print(f"{len(rows)} rows. For figures of each corpus add to the run:\n[task.answers]\n{declared}")
            case ["score", directory, run]:
                content = (Path(directory) / FILE).read_text()
                _score([json.loads(line) for line in content.splitlines()], Path(run))
            case _:
                print("usage: rows DIRECTORY NAME=FILE NAME=FILE NAME=FILE, or score DIRECTORY RUN", file=sys.stderr)
                return 2
    except (FedfinError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
