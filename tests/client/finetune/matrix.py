"""List every combination that fine-tuning supports. The tests run each one, and `docs/matrix.md` is made from it.

python -m tests.client.finetune.matrix > docs/matrix.md
"""

import json
import sys
from dataclasses import dataclass
from typing import Any

from common.tasks import MULTI_TASK, TASKS
from tests.client.finetune.families import FAMILIES as MODELS
from tests.client.finetune.families import RESULTS, WORKS
from tests.tiny_models import TOKENIZER_OF

METHODS = ("lora", "qlora", "prefix_tuning", "p_tuning")
TASK_NAMES = tuple(name for name, task in TASKS.items() if not task.head.is_language_modelling and name != MULTI_TASK)
SHARED = tuple(name for name in TASK_NAMES if not TASKS[name].head.writes_text)
FAMILIES = ("bert", "roberta", "distilbert", "mpnet", "llama", "t5", "bart")
HEADS: tuple[tuple[str, str, Any], ...] = (
    ("text, mean pooling", "sentiment_analysis", "mean"),
    ("text, the model's own head", "sentiment_analysis", "native"),
    ("words", "financial_ner", "native"),
    ("summary", "document_summarization", "native"),
)

# Combinations that PEFT or the model's own code does not support, with the method that the error message suggests. The
# text is empty if the architecture has no such head at all.
_LORA_OR_P, _LORA = "p_tuning or lora", "lora"
REFUSED: dict[tuple[str, str, str], str] = {
    **{(family, head, "prefix_tuning"): _LORA_OR_P for family in ("distilbert", "mpnet") for head, _, _ in HEADS[:3]},
    **{("t5", head, "prefix_tuning"): _LORA_OR_P for head, _, _ in HEADS[:3]},
    ("bart", HEADS[1][0], "prefix_tuning"): _LORA_OR_P,
    ("llama", HEADS[1][0], "p_tuning"): "prefix_tuning or lora",
    **{(family, HEADS[1][0], "p_tuning"): _LORA for family in ("t5", "bart")},
    **{("bart", HEADS[2][0], method): "" for method in METHODS},
    **{
        (family, HEADS[3][0], method): "" for family in ("bert", "roberta", "distilbert", "mpnet") for method in METHODS
    },
}


_TOKENIZERS = {"wordpiece": "WordPiece", "byte_level_bpe": "byte-level BPE", "unigram": "SentencePiece unigram"}


@dataclass(frozen=True)
class Cell:
    """One training: a task (or all tasks that share an encoder), a method and a strategy."""

    task: str
    method: str
    strategy: str

    def __str__(self) -> str:
        return f"{self.strategy}-{self.task}-{self.method}"


def cells() -> list[Cell]:
    """Return every supported training without privacy."""
    found = [Cell(task, method, "single_task") for task in TASK_NAMES for method in METHODS]
    found += [Cell(task, method, "incremental") for task in TASK_NAMES for method in METHODS]
    return found + [Cell("+".join(SHARED), method, "multi_task") for method in METHODS]


def quick_cells() -> list[Cell]:
    """Return the trainings of `make test`: at least one for each task, method and strategy. `make matrix` runs all."""
    # The first of the methods again for tasks that write text, which takes the longest in four bits.
    quick = ["lora" if TASKS[task].head.writes_text else METHODS[n % len(METHODS)] for n, task in enumerate(TASK_NAMES)]
    alone = [Cell(task, method, "single_task") for task, method in zip(TASK_NAMES, quick, strict=True)]
    continued = [Cell(SHARED[place % len(SHARED)], method, "incremental") for place, method in enumerate(METHODS, 1)]
    return [*alone, *continued, Cell("+".join(SHARED), "lora", "multi_task")]


PRIVATE = {
    (head, method): 1e-3 if method == "qlora" else 1e-5
    for head in ("bert text", "bert words", "llama text", "t5 summary")
    for method in METHODS
} | {("t5 summary", "qlora"): 3e-2}
"""Model, head and method -> largest relative error of the clipped sum, compared with a loop over single examples. Both
sides compute in float32 (T5 in float64). With a 4-bit base they compute in bfloat16, where the order of additions
matters, most of all in a random T5, which does not scale its attention scores."""


QUICK_PRIVATE = (("bert text", "lora"), ("bert words", "p_tuning"), ("llama text", "prefix_tuning"))
"""Entries of `PRIVATE` that `make test` checks."""


def grid() -> list[tuple[str, str, str]]:
    """Return every base model, head and method on the page, except decoders for summaries, which use instructions."""
    found = [(family, head, method) for head, _, _ in HEADS for family in FAMILIES for method in METHODS]
    return [(family, head, method) for family, head, method in found if (family, head) != ("llama", HEADS[3][0])]


def quick_grid() -> list[tuple[str, str, str]]:
    """Return the part of the grid in `make test`: each head with BERT or T5, and each refused combination."""
    first = {head: "t5" if TASKS[task].head.writes_text else "bert" for head, task, _ in HEADS}
    return [
        cell for cell in grid() if cell in REFUSED or cell[0] == first[cell[1]] or cell[1:] == (HEADS[0][0], "lora")
    ]


def matrix() -> str:
    """Return the text of the page."""
    lines = [
        "# Supported combinations",
        "",
        "Written by `python -m tests.client.finetune.matrix` from the lists that the tests use. A test compares the",
        "page with them. Each combination is tested on a tiny random model: all of them by `make matrix`, and at least",
        "one for each task, method and strategy by `make test`.",
        "",
        "## Strategies for each task and method",
        "",
        "Each strategy in a cell is tested from rows to a saved adapter that loads again.",
        "",
        "| task | " + " | ".join(f"`{method}`" for method in METHODS) + " |",
        "|---|" + "---|" * len(METHODS),
    ]
    known = set(cells())
    for task in TASK_NAMES:
        row = []
        for method in METHODS:
            alone = [s for s in ("single_task", "incremental") if Cell(task, method, s) in known]
            shared = ["multi_task"] if task in SHARED and Cell("+".join(SHARED), method, "multi_task") in known else []
            row.append(", ".join(alone + shared))
        lines.append(f"| {task} | " + " | ".join(row) + " |")
    lines += [
        "",
        "`multi_task` trains " + ", ".join(SHARED) + " together. A task that writes text cannot share an encoder.",
        "",
        "## Methods for each head and base model",
        "",
        '"yes": every parameter that the method trains gets a gradient. A dash: an error before training. Its message',
        'names the methods in brackets. "no head": transformers has no such head for this architecture, or the',
        "architecture cannot write text. `qlora` works with the same heads and base models as `lora`.",
        "",
        "Each base model has the kind of tokenizer of its published models. The ids of labelled words are those of",
        "their sentence, for every kind.",
        "",
        "| head | base model | tokenizer | " + " | ".join(f"`{method}`" for method in METHODS) + " |",
        "|---|---|---|" + "---|" * len(METHODS),
    ]
    for head, _, _ in HEADS:
        for family in dict.fromkeys(family for family, at, _ in grid() if at == head):
            row = [_said(family, head, method) for method in METHODS]
            lines.append(f"| {head} | {family} | {_TOKENIZERS[TOKENIZER_OF[family]]} | " + " | ".join(row) + " |")
    lines += [
        "",
        "A decoder (llama) writes summaries by instruction. See `tests/client/finetune/training/test_sft.py`.",
        "Responses to prompts (`instruction_tuning`) have the head of summaries, on decoders and encoder-decoders. See",
        "`tests/client/finetune/test_instruction_tuning.py`.",
        "",
        "## With differential privacy (`single_task` and `incremental`)",
        "",
        "Each cell is the largest relative error that the tests allow between the clipped sum of per-example gradients",
        "and the same sum from a loop over single examples. A 4-bit base computes in bfloat16.",
        "",
        "| model and head | " + " | ".join(f"`{method}`" for method in METHODS) + " |",
        "|---|" + "---|" * len(METHODS),
    ]
    for head in dict.fromkeys(head for head, _ in PRIVATE):
        row = [f"{PRIVATE[head, method]:g}" for method in METHODS]
        lines.append(f"| {head} | " + " | ".join(row) + " |")
    return "\n".join([*lines, *_families()]) + "\n"


def _families() -> list[str]:
    outcomes: dict[str, dict[str, str]] = json.loads(RESULTS.read_text())
    columns = list(next(iter(outcomes.values())))
    refusals = list(dict.fromkeys(each for row in outcomes.values() for each in row.values() if each != WORKS))
    lines = [
        "",
        "## Families of base models",
        "",
        "Outcomes of `python -m tests.client.finetune.families` with `lora`, on a tiny random model of each family.",
        f'"{WORKS}": it trains and predicts, it is merged, and transformers loads the merged model, whose outputs are',
        "those of the adapter. A number: it is refused with the line below the table.",
        "",
        "| family | tokenizer | " + " | ".join(columns) + " |",
        "|---|---|" + "---|" * len(columns),
    ]
    for family, row in outcomes.items():
        cells = [WORKS if each == WORKS else str(1 + refusals.index(each)) for each in row.values()]
        lines.append(f"| {family} | {_TOKENIZERS[MODELS[family][0]]} | " + " | ".join(cells) + " |")
    return [*lines, "", *(f"{number}. {each}" for number, each in enumerate(refusals, start=1))]


def _said(family: str, head: str, method: str) -> str:
    other = REFUSED.get((family, head, method))
    return "yes" if other is None else f"- ({other})" if other else "no head"


if __name__ == "__main__":
    sys.stdout.write(matrix())
