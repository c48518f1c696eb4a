"""Soft prompts: a few virtual tokens are trained before every text, and the base model stays as it is.

`prefix_tuning` trains keys and values of virtual tokens in every block (Li and Liang 2021, arXiv 2101.00190).
`p_tuning` trains embeddings of virtual tokens before the first block, starting from the words of a sentence (Lester et
al. 2021, arXiv 2104.08691, which is PEFT's "prompt tuning"). Both are saved as PEFT saves them.
"""

import warnings
from typing import Any

import numpy as np
import peft
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from common.adapters.adapted_model import AdaptedModel
from common.adapters.peft_config import refuse_adapted
from common.adapters.task_heads import task_head
from common.adapters.tensors import PROMPT, seeded
from common.base_models.load import LoadedBase
from common.config.adapter import PromptConfig
from common.errors import ModelError
from common.tokenization.batches import Batch

__all__ = ["PromptedModel", "adapt_prompt"]

_PREFIX_SCALE = 0.5
"""Standard deviation of a prefix at the start: of the order of a trained model's keys and values."""


class PromptedModel(AdaptedModel):
    """A base model that carries a soft prompt. Made by `adapt_prompt`."""

    def __init__(self, base: LoadedBase, module: Any, config: peft.PeftConfig, seed: int, text: str | None) -> None:
        self._prompt_text = text or ""
        self._embedding: nn.Embedding = module.prompt_encoder["default"].embedding
        self._virtual_tokens = int(config.num_virtual_tokens)
        self._is_prefix = config.peft_type == peft.PeftType.PREFIX_TUNING
        super().__init__(base, module, config, seed, trained_factors="AB")

    def logits(self, batch: Batch) -> Tensor:
        """As `AdaptedModel.logits`, behind the virtual tokens. The result equals that of PEFT's own forward pass.

        Computed here because PEFT runs the prompt through its embedding once for a whole batch, which leaves no
        gradient of one example alone.
        """
        prompt = torch.arange(self._virtual_tokens, device=batch.input_ids.device).expand(len(batch), -1)
        mask = torch.cat([torch.ones_like(prompt), batch.attention_mask], dim=1)
        writes = self.base.head.writes_text
        # The prefix of an encoder-decoder stands before the summary, not before the text.
        given: dict[str, Any] = {"attention_mask": batch.attention_mask if writes and self._is_prefix else mask}
        if writes:
            given["labels"] = batch.labels
        if self._is_prefix:
            output = self.base.model(input_ids=batch.input_ids, past_key_values=self._past(len(batch)), **given)
            logits: Tensor = output.logits
            return logits
        words = self._peft.word_embeddings(batch.input_ids)
        embeds = torch.cat([self._embedding(prompt).to(words.dtype), words], dim=1)
        logits = self.base.model(inputs_embeds=embeds, **given).logits
        of_words = logits.ndim == 3 and not self.base.head.writes_text
        return logits[:, self._virtual_tokens :] if of_words else logits

    def release(self) -> LoadedBase:
        """As `AdaptedModel.release`. PEFT has no way to take a prompt off, so the wrapped heads are unwrapped here."""
        for handle in self._handles:
            handle.remove()
        for name in self.base.head_names:
            setattr(self.base.model, name, getattr(self.base.model, name).original_module)
        for parameter in self.base.model.parameters():
            parameter.requires_grad_(False)
        return self.base

    def _past(self, examples: int) -> Any:
        return self._peft.get_prompt(batch_size=examples)

    def _start(self, name: str, parameter: nn.Parameter) -> NDArray[np.float32]:
        if name != PROMPT:
            return super()._start(name, parameter)
        shape = tuple(parameter.shape)
        if self._is_prefix:
            return seeded(self._seed, name, shape) * np.float32(_PREFIX_SCALE * shape[-1] ** 0.5)
        ids = self.base.tokenizer(self._prompt_text, add_special_tokens=False)["input_ids"]
        rows = torch.tensor([ids[index % len(ids)] for index in range(shape[0])])
        words: Tensor = self._peft.word_embeddings.weight
        return words[rows.to(words.device)].detach().to("cpu", torch.float32).numpy().copy()


def adapt_prompt(base: LoadedBase, settings: PromptConfig, seed: int) -> PromptedModel:
    """Attach a soft prompt to `base`, in place, at the starting point of `seed`.

    Raises:
        ModelError: `base` carries an adapter already, or cannot take this one. The message names another method.
    """
    refuse_adapted(base)
    method = settings.method
    if method == "p_tuning" and base.pooling == "native" and base.head.labels_texts and _is_decoder(base):
        raise ModelError(
            f"base model {base.name} ({base.family}): its own head looks for the last word, which p_tuning hides: use "
            "pooling mean, prefix_tuning or lora"
        )
    config = _config(base, method, settings.virtual_tokens)
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        try:
            module = peft.get_peft_model(base.model, config)
        except (ValueError, AttributeError, NotImplementedError, TypeError) as error:
            raise _unsupported(base, method) from error
    config.base_model_name_or_path = base.name
    if method == "p_tuning":
        config.prompt_tuning_init, config.prompt_tuning_init_text = peft.PromptTuningInit.TEXT, settings.prompt_text
        config.tokenizer_name_or_path = base.name
    model = PromptedModel(base, module, config, seed, settings.prompt_text)
    _probe(model, method)
    return model


def _config(base: LoadedBase, method: str, virtual_tokens: int) -> peft.PeftConfig:
    shape: Any = base.model.config
    heads, width = (
        _first(shape, "num_attention_heads", "encoder_attention_heads"),
        _first(shape, "hidden_size", "d_model"),
    )
    common = {
        "task_type": task_head(base).peft_type or peft.TaskType.SEQ_CLS,
        "num_virtual_tokens": virtual_tokens,
        "num_layers": _first(shape, "num_hidden_layers", "num_layers"),
        "modules_to_save": list(base.head_names) or None,
    }
    if method == "p_tuning":
        # PEFT would load the tokenizer again for a start from text. `PromptedModel` does it instead.
        return peft.PromptTuningConfig(
            **common, num_attention_heads=heads, token_dim=width, num_transformer_submodules=1
        )
    kept = getattr(shape, "num_key_value_heads", None) or heads
    return peft.PrefixTuningConfig(**common, num_attention_heads=kept, token_dim=width // heads * kept)


def _first(config: Any, *names: str) -> int:
    for name in names:
        if isinstance(value := getattr(config, name, None), int):
            return value
    raise ModelError(f"base model ({config.model_type}): its size is not told by {' or '.join(names)}: use lora")


def _probe(model: PromptedModel, method: str) -> None:
    """Run two words through it: refuse a model that fails, or on which the prompt has no effect."""
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.load({name: seeded(0, name, value.shape) for name, value in model.initial().items()})
            batch = model.encode(["net profit"]).batch([0], model.base.device)
            if model.base.head.writes_text:
                batch = Batch(batch.input_ids, batch.attention_mask, batch.input_ids)
            first = model.logits(batch)
            model.load({name: value * (5 if name == PROMPT else 1) for name, value in model.export().items()})
            ignored = torch.equal(first, model.logits(batch))
            model.module(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels)
    except Exception as error:  # each architecture raises errors of its own
        raise _unsupported(model.base, method) from error
    if ignored:
        raise _unsupported(model.base, method)
    model.load(model.initial())


def _unsupported(base: LoadedBase, method: str) -> ModelError:
    other = "p_tuning or lora" if method == "prefix_tuning" else "lora"
    return ModelError(f"base model {base.name} ({base.family}): it does not take {method}: use {other}")


def _is_decoder(base: LoadedBase) -> bool:
    return base.head_names == ("score",)
