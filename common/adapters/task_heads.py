"""The torch side of `common.tasks.Head`: how texts become ids, and which logits belong to which label.

One class for each kind of head. `AdaptedModel` asks its own and has no case of a kind itself.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import peft
import torch
from torch import Tensor, nn

from common.base_models.load import LoadedBase
from common.data.datasets import Dataset, ResponseExample, Turn
from common.errors import ModelError
from common.tasks import Head
from common.tokenization.batches import IGNORED, Batch, TokenizedSet, tokenize_dataset, tokenize_texts, with_owners
from common.tokenization.language_modelling import mask_tokens, next_token_labels
from common.tokenization.responses import cut_prompts, prompt_ids, response_rows, settle_template
from common.tokenization.summary_prompt import instruction_prompts, summary_prompts

__all__ = ["TaskHead", "task_head"]


class TaskHead:
    """Label texts or words with a linear head. It is also the base class of the other kinds.

    Args:
        base: the base model that carries the head.
    """

    peft_type: peft.TaskType | None = None
    """PEFT's name for the kind. None for the project's own pooling head, which PEFT does not know."""

    scores_some_tokens = False
    """Whether the forward pass scores the labelled tokens alone, so that their number is part of a shape."""

    def __init__(self, base: LoadedBase) -> None:
        self.base = base
        if base.head.is_linear and base.pooling == "native":
            self.peft_type = peft.TaskType.TOKEN_CLS if base.head.labels_words else peft.TaskType.SEQ_CLS
        names = base.tasks
        self._same_task = torch.tensor([[one == other for other in names] for one in names]) if names else None

    def encode(self, texts: Sequence[str], labels: Sequence[int] | None = None) -> TokenizedSet:
        """Return the ids of `texts`, cut at the model's maximum of tokens."""
        return self._comparable(tokenize_texts(self.base.tokenizer, texts, self.base.max_tokens, labels))

    def encode_dataset(self, dataset: Dataset) -> TokenizedSet:
        """Return the ids and labels of the examples, in their order."""
        return self._comparable(tokenize_dataset(self.base.tokenizer, dataset, self.base.max_tokens))

    def _comparable(self, tokens: TokenizedSet) -> TokenizedSet:
        """Return texts that may share a batch. An encoder-decoder's own head wants as many end tokens in each row.

        Raises:
            ModelError: A text holds more end tokens than others.
        """
        base = self.base
        if base.is_encoder_decoder and base.head.labels_texts and base.pooling == "native":
            config: Any = base.model.config
            if len({int((ids == config.eos_token_id).sum()) for ids in tokens.input_ids}) > 1:
                raise ModelError(
                    f"base model {base.name}: its own head reads no text that holds its end token: leave such texts "
                    "out, or set pooling to mean"
                )
        return tokens

    def encode_prompts(self, prompts: Sequence[Sequence[Turn]], max_tokens: int) -> TokenizedSet:
        """Return the ids of conversations that wait for a response, cut at `max_tokens`."""
        texts = ["\n\n".join(content for _, content in turns) for turns in prompts]
        return tokenize_texts(self.base.tokenizer, texts, min(max_tokens, self.base.max_tokens))

    def with_lm_labels(self, tokens: TokenizedSet, seed: int) -> TokenizedSet:
        """Return `tokens` with masked tokens as labels (BERT). `seed` chooses which tokens are masked."""
        return mask_tokens(tokens, self.base.tokenizer, seed)

    def scored_tokens(self, batch: Batch) -> Tensor | None:
        """Return the (B, T) mask of the tokens that the model scores, or None if it scores all outputs."""
        del batch
        return None

    @contextmanager
    def scoring(self, batch: Batch) -> Iterator[None]:
        """Let the forward pass inside score the tokens that the loss needs, if the model itself cannot be told them."""
        del batch
        yield

    def inputs(self, batch: Batch) -> dict[str, Tensor | None]:
        """Return the arguments of the model's forward pass beside ids and attention mask."""
        scored = self.scored_tokens(batch)
        return {} if scored is None else {"chosen": scored}

    def select(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the logits that the loss compares with `batch.labels`, from those of the forward pass.

        If the labels are of several tasks, the labels of other tasks than an example's own get the lowest score.
        """
        if self._same_task is None or batch.labels is None:
            return logits
        own = self._same_task.to(logits.device)[batch.labels]
        return logits.masked_fill(~own, torch.finfo(logits.dtype).min)


class _WriterHead(TaskHead):
    """Write a text with an encoder-decoder. It scores each token of the text from those before it."""

    peft_type = peft.TaskType.SEQ_2_SEQ_LM

    def inputs(self, batch: Batch) -> dict[str, Tensor | None]:
        return {"labels": batch.labels}


class _ResponseHead(TaskHead):
    """Respond to a prompt with a decoder. It scores the tokens of the response alone."""

    peft_type = peft.TaskType.CAUSAL_LM
    scores_some_tokens = True

    def __init__(self, base: LoadedBase) -> None:
        super().__init__(base)
        settle_template(base.tokenizer)

    @contextmanager
    def scoring(self, batch: Batch) -> Iterator[None]:
        if batch.labels is None:
            yield
            return
        scored = batch.labels != IGNORED if batch.chosen is None else batch.chosen

        def select(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            """Give the scoring layer the (M, H) states of the scored tokens in place of the (B, T, H) of all."""
            return (inputs[0][scored],)

        model: Any = self.base.model
        # The scores of one token over the whole vocabulary cost as much as several blocks.
        handle = model.get_output_embeddings().register_forward_pre_hook(select)
        try:
            yield
        finally:
            handle.remove()

    def encode(self, texts: Sequence[str], labels: Sequence[int] | None = None) -> TokenizedSet:
        del labels
        return self.encode_prompts([(("user", text),) for text in texts], self.base.max_tokens)

    def encode_prompts(self, prompts: Sequence[Sequence[Turn]], max_tokens: int) -> TokenizedSet:
        ids = cut_prompts(prompt_ids(self.base.tokenizer, prompts, self.base.name), max_tokens)
        return TokenizedSet(tuple(ids), None, self.base.tokenizer.pad_token_id)

    def encode_dataset(self, dataset: Dataset) -> TokenizedSet:
        rows = response_rows(self.base.tokenizer, dataset, self.base.max_tokens, self.base.name)
        return with_owners(rows, dataset)


class _AnswerHead(_ResponseHead):
    """Write a summary with a decoder, as the response to an instruction."""

    def encode(self, texts: Sequence[str], labels: Sequence[int] | None = None) -> TokenizedSet:
        del labels
        prompts = summary_prompts(self.base.tokenizer, texts, self.base.max_tokens)
        return TokenizedSet(tuple(prompts), None, self.base.tokenizer.pad_token_id)

    def encode_dataset(self, dataset: Dataset) -> TokenizedSet:
        pairs = [example for example in dataset.examples if isinstance(example, ResponseExample)]
        rows = instruction_prompts(
            self.base.tokenizer, [e.text for e in pairs], [e.response for e in pairs], self.base.max_tokens
        )
        return with_owners(rows, dataset)


class _MaskedHead(TaskHead):
    """Predict masked tokens with an encoder. It scores the masked tokens alone."""

    scores_some_tokens = True
    peft_type = peft.TaskType.SEQ_CLS  # PEFT has no masked models, and only its saved name depends on the kind

    def encode_dataset(self, dataset: Dataset) -> TokenizedSet:
        return self.with_lm_labels(super().encode_dataset(dataset), seed=0)

    def scored_tokens(self, batch: Batch) -> Tensor | None:
        if batch.labels is None:
            return None
        return batch.labels != IGNORED if batch.chosen is None else batch.chosen


class _CausalHead(TaskHead):
    """Predict each next token with a decoder."""

    peft_type = peft.TaskType.CAUSAL_LM

    def encode_dataset(self, dataset: Dataset) -> TokenizedSet:
        return self.with_lm_labels(super().encode_dataset(dataset), seed=0)

    def with_lm_labels(self, tokens: TokenizedSet, seed: int) -> TokenizedSet:
        del seed
        return next_token_labels(tokens)

    def select(self, logits: Tensor, batch: Batch) -> Tensor:
        return logits if batch.labels is None else logits[batch.labels != IGNORED]


_KINDS: dict[Head, type[TaskHead]] = {
    Head.SEQUENCE: TaskHead,
    Head.TOKEN: TaskHead,
    Head.SUMMARY: _AnswerHead,
    Head.INSTRUCTION: _ResponseHead,
    Head.MASKED: _MaskedHead,
    Head.CAUSAL: _CausalHead,
}


def task_head(base: LoadedBase) -> TaskHead:
    """Return the head object of a loaded base model."""
    if base.head.writes_text and base.is_encoder_decoder:
        return _WriterHead(base)
    return _KINDS[base.head](base)
