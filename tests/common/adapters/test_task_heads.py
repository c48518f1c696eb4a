from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import LlamaForCausalLM, T5ForConditionalGeneration

from common.adapters.task_heads import TaskHead, task_head
from common.base_models.load import load_base
from common.config.training import ModelConfig
from common.data.datasets import Dataset, Example, ResponseExample
from common.errors import ModelError
from common.tasks import TASKS
from common.tokenization.batches import IGNORED, Batch
from tests.tiny_models import save_tiny_model, tiny_config, tiny_tokenizer


def head_of(path: Path, family: str, task: str, labels: Any = 3, pooling: Any = "mean") -> TaskHead:
    save_tiny_model(path / family, family)
    if family in ("llama", "t5"):
        writer = {"llama": LlamaForCausalLM, "t5": T5ForConditionalGeneration}[family]
        writer(tiny_config(family, 2, 32)).save_pretrained(path / family)
        tokenizer = tiny_tokenizer()
        tokenizer.eos_token = "[SEP]"
        tokenizer.save_pretrained(path / family)
    return task_head(
        load_base(ModelConfig(base=str(path / family), pooling=pooling, max_tokens=64), TASKS[task], labels)
    )


@pytest.mark.parametrize(
    ("family", "task", "pooling", "expected"),
    [
        ("bert", "sentiment_analysis", "mean", None),
        ("bert", "sentiment_analysis", "native", peft.TaskType.SEQ_CLS),
        ("bert", "financial_ner", "mean", peft.TaskType.TOKEN_CLS),
        ("bert", "masked_language_modelling", "mean", peft.TaskType.SEQ_CLS),
        ("llama", "causal_language_modelling", "mean", peft.TaskType.CAUSAL_LM),
        ("llama", "document_summarization", "mean", peft.TaskType.CAUSAL_LM),
        ("t5", "document_summarization", "mean", peft.TaskType.SEQ_2_SEQ_LM),
    ],
)
def test_peft_is_told_the_kind_of_output(tmp_path: Path, family: str, task: str, pooling: Any, expected: Any) -> None:
    assert head_of(tmp_path, family, task, pooling=pooling).peft_type == expected


def test_texts_with_an_end_token_inside_are_refused_by_a_head_that_counts_them(tmp_path: Path) -> None:
    texts = ["profit rises", "loss [SEP] secret"]
    with pytest.raises(ModelError, match="its own head reads no text that holds its end token") as caught:
        head_of(tmp_path, "t5", "sentiment_analysis", pooling="native").encode(texts)
    assert "secret" not in str(caught.value)
    assert len(head_of(tmp_path, "t5", "sentiment_analysis").encode(texts)) == 2


def test_a_masked_language_model_scores_the_masked_tokens_alone_and_a_decoder_each_next_token(tmp_path: Path) -> None:
    rows = Dataset((Example("profit rises in the quarter", 0),), ("text",), "t")
    masked = head_of(tmp_path, "bert", "masked_language_modelling")
    tokens = masked.encode_dataset(rows)
    batch = tokens.batch([0])
    chosen = masked.scored_tokens(batch)
    assert chosen is not None
    assert batch.labels is not None
    assert torch.equal(chosen, batch.labels != IGNORED)
    assert 0 < int(chosen.sum()) < batch.input_ids.shape[1]
    causal = head_of(tmp_path, "llama", "causal_language_modelling")
    batch = causal.encode_dataset(rows).batch([0])
    assert causal.scored_tokens(batch) is None
    assert batch.labels is not None
    assert torch.equal(batch.labels[0, :-1], batch.input_ids[0, 1:])
    logits = torch.randn(1, batch.input_ids.shape[1], 7)
    assert torch.equal(causal.select(logits, batch), logits[0, :-1])


def test_an_encoder_decoder_is_given_the_summary_and_a_decoder_is_asked_for_it(tmp_path: Path) -> None:
    rows = Dataset((ResponseExample("profit rises in the quarter", "profit rises"),), (), "t")
    writer = head_of(tmp_path, "t5", "document_summarization")
    batch = writer.encode_dataset(rows).batch([0])
    assert writer.inputs(batch) == {"labels": batch.labels}
    decoder = head_of(tmp_path, "llama", "document_summarization")
    [question] = decoder.encode(["profit rises in the quarter"]).input_ids
    [row] = decoder.encode_dataset(rows).input_ids
    assert row[: question.size].tolist() == question.tolist()
    assert row.size > question.size
    assert decoder.inputs(batch) == {}


def test_of_several_tasks_an_example_is_scored_on_the_labels_of_its_own_task(tmp_path: Path) -> None:
    labels = ("sentiment_analysis/a", "sentiment_analysis/b", "risk_classification/a", "risk_classification/b")
    head = head_of(tmp_path, "bert", "multi_task", labels)
    ids = torch.ones(2, 3, dtype=torch.long)
    selected = head.select(torch.zeros(2, 4), Batch(ids, ids, torch.tensor([1, 2])))
    lowest = torch.finfo(torch.float32).min
    assert selected.tolist() == [[0, 0, lowest, lowest], [lowest, lowest, 0, 0]]
    assert head.select(torch.zeros(2, 4), Batch(ids, ids)).tolist() == [[0] * 4] * 2
