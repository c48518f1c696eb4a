"""Soft prompts: the same as PEFT's own, also saved, started from words, or of one example."""

from pathlib import Path

import peft
import pytest
import torch

from common.adapters.soft_prompts import PromptedModel, adapt_prompt
from common.adapters.tensors import PROMPT, seeded
from common.base_models.load import load_base, load_classifier
from common.config.adapter import PROMPT_TEXT, PromptConfig
from common.config.training import ModelConfig
from common.errors import ModelError
from common.tasks import TASKS
from common.tokenization.batches import Batch
from tests.tiny_models import save_tiny_model

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")

TEXTS = ["profit rises", "net loss of the bank widens in the quarter", "sales flat"]
CASES = [
    ("bert", "sentiment_analysis", "mean"),
    ("roberta", "sentiment_analysis", "native"),
    ("bert", "financial_ner", "native"),
    ("llama", "sentiment_analysis", "mean"),
    ("llama", "financial_ner", "native"),
    ("t5", "document_summarization", "native"),
    ("bart", "document_summarization", "native"),
]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def prompted(path: Path, family: str, task: str, pooling: str, method: str) -> PromptedModel:
    directory = path / family
    if not directory.exists():
        save_tiny_model(directory, family)
    base = load_base(ModelConfig(max_tokens=64, base=str(directory), pooling=pooling), TASKS[task], 3)
    model = adapt_prompt(base, PromptConfig(method=method, virtual_tokens=4), seed=3)
    model.load({n: start + 0.2 * seeded(9, n, start.shape) for n, start in model.initial().items()})
    return model


def batch_of(model: PromptedModel) -> Batch:
    batch = model.encode(TEXTS).batch([0, 1, 2])
    labels = batch.input_ids if model.base.head.writes_text else None
    return Batch(batch.input_ids, batch.attention_mask, labels)


def answer(module: object, batch: Batch) -> torch.Tensor:
    """PEFT's own forward pass. Logits of virtual tokens are left out."""
    given = {} if batch.labels is None else {"labels": batch.labels}
    logits = module(input_ids=batch.input_ids, attention_mask=batch.attention_mask, **given).logits
    result: torch.Tensor = logits
    return result[:, -batch.input_ids.shape[1] :] if result.ndim == 3 else result


@pytest.mark.parametrize("method", ["prefix_tuning", "p_tuning"])
@pytest.mark.parametrize(("family", "task", "pooling"), CASES)
def test_a_prompt_gives_what_peft_gives_here_and_after_it_was_saved_and_loaded_by_peft_alone(
    path: Path, tmp_path: Path, family: str, task: str, pooling: str, method: str
) -> None:
    model = prompted(path, family, task, pooling, method)
    batch = batch_of(model)
    with torch.no_grad():
        ours = model.logits(batch)
        torch.testing.assert_close(ours, answer(model.module, batch), rtol=1e-5, atol=1e-6)
        model.save_pretrained(tmp_path / "adapter")
        head = TASKS[task].head
        base = load_classifier(str(path / family), 3, pooling, head)
        loaded = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
        torch.testing.assert_close(answer(loaded, batch), ours, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", ["prefix_tuning", "p_tuning"])
@pytest.mark.parametrize(("family", "task", "pooling"), CASES[:5])
def test_an_examples_logits_depend_neither_on_its_neighbours_nor_on_padding(
    path: Path, family: str, task: str, pooling: str, method: str
) -> None:
    model = prompted(path, family, task, pooling, method)
    with torch.no_grad():
        together = model.logits(batch_of(model))[0]
        alone = model.logits(model.encode(TEXTS[:1]).batch([0]))[0]
    length = len(alone)
    torch.testing.assert_close(together[:length], alone, rtol=1e-4, atol=1e-5)


def test_p_tuning_starts_from_the_words_of_its_sentence_repeated(path: Path) -> None:
    model = prompted(path, "bert", "sentiment_analysis", "mean", "p_tuning")
    ids = model.base.tokenizer(PROMPT_TEXT, add_special_tokens=False)["input_ids"]
    words = model.base.model.get_submodule("encoder.embeddings.word_embeddings").weight
    start = model.initial()[PROMPT]
    for row in range(4):
        assert (start[row] == words[ids[row % len(ids)]].detach().numpy()).all()


def test_a_prompt_is_not_a_head_and_starts_the_same_from_the_same_seed(path: Path) -> None:
    for method in ("prefix_tuning", "p_tuning"):
        one, two = (prompted(path, "bert", "sentiment_analysis", "mean", method) for _ in range(2))
        assert PROMPT not in one.head_names()
        assert (one.initial()[PROMPT] == two.initial()[PROMPT]).all()


def test_a_model_on_which_a_prefix_has_no_effect_is_refused(path: Path) -> None:
    with pytest.raises(ModelError, match="does not take prefix_tuning: use p_tuning or lora"):
        prompted(path, "mpnet", "sentiment_analysis", "mean", "prefix_tuning")
