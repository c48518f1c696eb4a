"""Tiny tasks that a tiny model can learn, and the tiny models that the tests of fine-tuning train."""

from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from client.finetune import TaskData
from common.data.datasets import AnyExample, Dataset, Example, ResponseExample, TokenExample
from common.tasks import TASKS, Head
from tests.tiny_models import TOKENIZER_OF, VOCABULARY, save_tiny_model, tiny_tokenizer

WORDS = {
    "down": ("loss", "falls", "weak"),
    "flat": ("flat", "unchanged", "market"),
    "up": ("profit", "rises", "strong"),
}
FILLERS = ("bank", "shares", "net", "quarter", "the", "of")
TAGS = ("O", "B-ORG", "I-ORG")


def labels_of(task: str) -> tuple[str, ...]:
    """The label set that the rows of `task` use here."""
    if TASKS[task].head.labels_words:
        return TAGS
    if TASKS[task].head.writes_text:
        return ()
    return TASKS[task].labels or ("contract", "report", "letter")


def dataset(task: str, rows: int, seed: int) -> Dataset:
    """`rows` examples. Those of different seeds share no text."""
    generator = np.random.default_rng(seed)
    kinds = list(WORDS.values())
    labels = labels_of(task)
    examples: list[AnyExample] = []
    for index in range(rows):
        number = f"{seed}{index}"
        fillers = [str(word) for word in generator.choice(FILLERS, int(generator.integers(1, 6)))]
        match TASKS[task].head:
            case Head.TOKEN:
                words = (*fillers, *generator.choice(("company", "bank"), 2), number)
                tags = tuple(1 if word == "bank" else 2 if word == "company" else 0 for word in words)
                examples.append(TokenExample(tuple(str(word) for word in words), tags))
            case Head.SUMMARY | Head.INSTRUCTION:
                told = [str(word) for word in generator.choice(kinds[0] + kinds[2], 3)]
                examples.append(ResponseExample(" ".join([*told, number]), told[0]))
            case _:
                label = int(generator.integers(0, len(labels)))
                told = [str(word) for word in generator.choice(kinds[label % 3], 2)]
                examples.append(Example(" ".join([*told, *fillers, number]), label))
    return Dataset(tuple(examples), labels, f"rows of seed {seed}")


def task_data(task: str, rows: int = 64, test: int = 24, seed: int = 1) -> TaskData:
    """Training and test rows of one task."""
    return TaskData(TASKS[task], dataset(task, rows, seed), dataset(task, test, seed + 1))


def save_tiny_writer(path: Path, tied: bool = True, hidden_size: int = 64) -> None:
    """A random decoder with its language-modelling head, "llama" as a writer of summaries."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=tied,
        pad_token_id=0,
        bos_token_id=3,
        eos_token_id=4,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.model.layers.parameters():
            parameter.mul_(4)  # far from the initial near-zero weights, so that there is something to adapt
    model.save_pretrained(path)
    tokenizer = tiny_tokenizer()
    tokenizer.eos_token = "[SEP]"
    tokenizer.save_pretrained(path)


class TinyModels:
    """Directories of random models of width 64, made when they are first asked for. "writer": see there."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __call__(self, family: str, layers: int = 2) -> str:
        path = self._directory / f"{family}{layers}"
        if not path.exists() and family == "writer":
            save_tiny_writer(path)
        elif not path.exists():
            save_tiny_model(path, family, layers=layers, hidden=64, tokenizer=TOKENIZER_OF[family])
        return str(path)
