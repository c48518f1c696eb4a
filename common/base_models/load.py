"""The base model, loaded with a task head. Hub and institutions load it the same way."""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from torch import nn

from common.base_models.architecture import generator_class, hidden_size, is_decoder, read_config
from common.base_models.check import CheckedBase, check_base_model
from common.base_models.device import warn_of_slow_bfloat16
from common.base_models.digest import base_digest
from common.base_models.heads import MeanPoolClassifier, SharedEncoder
from common.base_models.masked_lm import MaskedLanguageModel
from common.base_models.pretrained import one_line_errors, refuse_missing
from common.base_models.resolve import resolve_base
from common.base_models.transformers_logging import quiet
from common.config.training import ModelConfig
from common.errors import ModelError
from common.tasks import MULTI_TASK, TASKS, Head, Task, tasks_of

__all__ = [
    "LoadedBase",
    "load_base",
    "load_classifier",
    "load_shared_base",
    "load_shared_encoder",
]


@dataclass(frozen=True)
class LoadedBase:
    """A base model in memory, frozen, with an untrained task head.

    Attributes:
        name: its name in the configuration.
        path: the directory that it was loaded from.
        digest: `base_digest` of that directory.
        family: the architecture, as transformers names it ("bert", "llama", ...).
        head_names: the children of `model` that are the task head.
        tasks: of `multi_task`, the task of each label. Otherwise empty.
    """

    name: str
    path: Path
    tokenizer: Any
    model: nn.Module
    digest: str
    family: str
    head: Head
    head_names: tuple[str, ...]
    pooling: Literal["mean", "native"]
    labels: int
    max_tokens: int
    device: str
    tasks: tuple[str, ...] = ()

    @property
    def output_names(self) -> tuple[str, ...]:
        """The children of `model` whose last linear layer puts out labels."""
        return self.head_names if isinstance(self.model, SharedEncoder) else self.head_names[-1:]

    @property
    def is_exact(self) -> bool:
        """Whether the model computes in float32 or better. Rounding is coarse in bfloat16 and above 4-bit weights."""
        return all(p.dtype in (torch.float32, torch.float64) for p in self.model.parameters())

    @property
    def needs_one_size(self) -> bool:
        """Whether the bits of a row follow from the number of rows beside it, as in bfloat16 and maybe on a GPU."""
        return not self.is_exact or not self.device.startswith("cpu")

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether the base has an encoder and a decoder."""
        config: Any = self.model.config
        return bool(config.is_encoder_decoder)


def load_classifier(
    base: str,
    labels: int | tuple[str, ...] | list[str],
    pooling: Literal["mean", "native"] = "mean",
    head: str = "sequence",
    **kwargs: Any,
) -> nn.Module:
    """A base model with the untrained head that a fedfin adapter expects, in evaluation mode.

    `PeftModel.from_pretrained(load_classifier(base, labels, pooling), directory)` is the trained model.

    Args:
        labels: how many, or their names.
        pooling: "mean" for `MeanPoolClassifier`, "native" for the architecture's own head. Token heads are native.
        head: "sequence", "token", "summary" or "instruction" (a decoder's or encoder-decoder's own head), "masked" or
            "causal" (a decoder's own head). The labels of the last four are the base model's own vocabulary.
        kwargs: for transformers' `from_pretrained` (dtype, device_map, quantization_config, ...).

    Raises:
        ModelError: the model is absent or damaged, or its architecture has no such head.
    """
    count = labels if isinstance(labels, int) else len(labels)
    path, kind = resolve_base(base), Head(head)
    if not kind.is_linear:
        return _LANGUAGE_MODELS[kind](base, path, **kwargs)
    if kind.labels_words:
        return _load_native(transformers.AutoModelForTokenClassification, base, path, count, **kwargs)
    if pooling == "native":
        return _load_native(transformers.AutoModelForSequenceClassification, base, path, count, **kwargs)
    with quiet(), torch.random.fork_rng(), one_line_errors(base):
        loaded, info = transformers.AutoModel.from_pretrained(
            path, output_loading_info=True, trust_remote_code=False, **kwargs
        )
        model = MeanPoolClassifier(_encoder(loaded), count)
    refuse_missing(base, info, ("pooler",), "copy the whole model there")
    return model.eval()


def _load_native(auto: Any, base: str, path: str, labels: int, **kwargs: Any) -> nn.Module:
    """The architecture's own classifier, its head untrained."""
    config = read_config(base, path)
    if type(config) not in auto._model_mapping:
        words = auto is transformers.AutoModelForTokenClassification
        advice = "words: choose another base model" if words else "texts: set model.pooling to 'mean'"
        raise ModelError(f"base model {base} ({config.model_type}): transformers has no head that labels its {advice}")
    with quiet(), torch.random.fork_rng(), one_line_errors(base):
        model, info = auto.from_pretrained(
            path, output_loading_info=True, trust_remote_code=False, num_labels=labels, **kwargs
        )
    without_pooler = any(".pooler." in key for key in info["missing_keys"])
    advice = "set model.pooling to 'mean'" if without_pooler else "copy the whole model there"
    refuse_missing(base, info, _head_names(model), advice)
    result: nn.Module = model.eval()
    return result


def load_shared_encoder(base: str, heads: Mapping[str, tuple[str, int]], **kwargs: Any) -> SharedEncoder:
    """A base model with an untrained linear head for each of several tasks, in evaluation mode.

    Args:
        heads: by task name, "sequence" or "token", and the number of labels.
        kwargs: for transformers' `from_pretrained`.

    Raises:
        ModelError: the model is absent or damaged, or a task needs more than a linear head.
    """
    path = resolve_base(base)
    if writing := [name for name, (head, _) in heads.items() if not Head(head).is_linear]:
        raise ModelError(f"{writing[0]}: it shares no encoder with other tasks: train it with strategy single_task")
    with quiet(), torch.random.fork_rng(), one_line_errors(base):
        loaded, info = transformers.AutoModel.from_pretrained(
            path, output_loading_info=True, trust_remote_code=False, **kwargs
        )
        kinds = {name: (Head(head), labels) for name, (head, labels) in heads.items()}
        model = SharedEncoder(_encoder(loaded), hidden_size(loaded.config), kinds)
    refuse_missing(base, info, ("pooler",), "copy the whole model there")
    return model.eval()


def _load_masked(base: str, path: str, **kwargs: Any) -> nn.Module:
    with quiet(), torch.random.fork_rng(), one_line_errors(base):
        loaded, info = transformers.AutoModelForMaskedLM.from_pretrained(
            path, output_loading_info=True, trust_remote_code=False, **kwargs
        )
    body = f"{loaded.base_model_prefix}."
    absent = sorted(key for key in info["missing_keys"] if key.startswith(body))
    if absent:
        raise ModelError(f"base model {base}: its files lack {absent[0]}: copy the whole model there")
    return MaskedLanguageModel(loaded, own_head=not info["missing_keys"]).eval()


def _load_decoder(base: str, path: str, **kwargs: Any) -> nn.Module:
    """A decoder with its own language-modelling head."""
    config = read_config(base, path)
    if not is_decoder(config):
        raise ModelError(f"base model {base} ({config.model_type}): it does not guess the next word: choose a decoder")
    return _load_generator(base, path, **kwargs)


def _load_generator(base: str, path: str, **kwargs: Any) -> nn.Module:
    """A decoder or an encoder-decoder with its own language-modelling head."""
    auto = generator_class(base, read_config(base, path))
    with quiet(), torch.random.fork_rng(), one_line_errors(base):
        model, info = auto.from_pretrained(path, output_loading_info=True, trust_remote_code=False, **kwargs)
    refuse_missing(base, info, (), "copy the whole model there")
    result: nn.Module = model.eval()
    return result


_LANGUAGE_MODELS: dict[Head, Callable[..., nn.Module]] = {
    Head.SUMMARY: _load_generator,
    Head.INSTRUCTION: _load_generator,
    Head.MASKED: _load_masked,
    Head.CAUSAL: _load_decoder,
}


def _encoder(model: Any) -> Any:
    if model.config.is_encoder_decoder:
        return model.get_encoder()
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    return model


def load_base(
    cfg: ModelConfig, task: Task, labels: int | tuple[str, ...], device: str = "cpu", quantize4bit: bool = False
) -> LoadedBase:
    """Load `cfg.base` once, for as many adapters and institutions as come.

    Args:
        labels: how many labels the head gets, or their names, which `multi_task` needs.
        device: "cpu", "cuda", "cuda:1", ...
        quantize4bit: NF4 with double quantisation (needs bitsandbytes): the linear layers take a quarter of their
            bf16 memory. Adapter and head stay in float32.

    Raises:
        ModelError: as `check_base_model` and `load_classifier`.
    """
    checked = check_base_model(cfg.base, task.head, cfg.max_tokens)
    native = not task.head.labels_texts or cfg.pooling == "native"
    kwargs = _placement(cfg, device, quantize4bit)
    model = load_classifier(str(checked.path), labels, cfg.pooling, task.head, **kwargs)
    count = labels if isinstance(labels, int) else len(labels)
    loaded = _frozen(cfg, checked, model, task.head, "native" if native else "mean", count, device, quantize4bit)
    return replace(loaded, tasks=() if isinstance(labels, int) or task.name != MULTI_TASK else tasks_of(labels))


def load_shared_base(
    cfg: ModelConfig, heads: Mapping[str, tuple[Head, int]], device: str = "cpu", quantize4bit: bool = False
) -> LoadedBase:
    """As `load_base`, with a head for each of several tasks: see `load_shared_encoder`."""
    checked = check_base_model(cfg.base, max_tokens=cfg.max_tokens)
    model = load_shared_encoder(str(checked.path), heads, **_placement(cfg, device, quantize4bit))
    labels = sum(count for _, count in heads.values())
    return _frozen(cfg, checked, model, Head.SEQUENCE, "mean", labels, device, quantize4bit)


def _placement(cfg: ModelConfig, device: str, quantize4bit: bool) -> dict[str, Any]:
    """Return the arguments with which transformers loads the weights."""
    if quantize4bit:
        # The rest (embeddings, norms) is in the precision that the 4-bit layers compute in.
        return {"dtype": torch.bfloat16, "quantization_config": _nf4(), "device_map": {"": device}}
    if cfg.dtype == "bfloat16":
        warn_of_slow_bfloat16(device)
    return {"dtype": {"float32": torch.float32, "bfloat16": torch.bfloat16}[cfg.dtype]}


def _frozen(
    cfg: ModelConfig,
    checked: CheckedBase,
    model: nn.Module,
    head: Head,
    pooling: Literal["mean", "native"],
    labels: int,
    device: str,
    quantized: bool,
) -> LoadedBase:
    if not quantized:
        model = model.to(device)
    for module in model.modules():
        # bitsandbytes would repack frozen 4-bit weights for inference on a CPU, in a form without a backward pass.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            setattr(module, "support_avx512bf16_for_cpu", False)  # noqa: B010
    config: Any = model.config
    # One padding for both: an own head looks for the last token that is not the configuration's padding.
    config.pad_token_id = checked.tokenizer.pad_token_id
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return LoadedBase(
        name=cfg.base,
        path=checked.path,
        tokenizer=checked.tokenizer,
        model=model,
        digest=base_digest(checked.path),
        family=str(config.model_type),
        head=head,
        head_names=() if head.generates else _head_names(model),
        pooling=pooling,
        labels=labels,
        max_tokens=cfg.max_tokens,
        device=device,
    )


def _nf4() -> Any:
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError("4-bit loading: bitsandbytes is not installed: pip install 'fedfin[qlora]'")
    return transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=["classifier", "pre_classifier", "classification_head", "score", "lm_head", "wo", *TASKS],
    )


def _head_names(model: Any) -> tuple[str, ...]:
    """Return the children with parameters that are not the pretrained body, in order."""
    if isinstance(model, MaskedLanguageModel):
        return ("head",)
    body = "encoder" if isinstance(model, MeanPoolClassifier | SharedEncoder) else model.base_model_prefix
    return tuple(
        name for name, child in model.named_children() if name != body and any(True for _ in child.parameters())
    )
