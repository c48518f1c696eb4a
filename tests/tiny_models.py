"""Random transformers of a few kilobytes and a word-piece tokenizer, saved as directories that `load_base` reads."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    AutoModel,
    BartConfig,
    BertConfig,
    DistilBertConfig,
    LlamaConfig,
    MPNetConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
    T5Config,
)

from common.adapters.adapted_model import AdaptedModel, adapt
from common.adapters.tensors import seeded
from common.base_models.load import load_base
from common.config.run import AdapterConfig, ModelConfig
from common.tasks import TASKS, Task

FAMILIES = ("bert", "roberta", "distilbert", "mpnet", "llama", "t5", "bart")

# MPNet takes id 1 for padding whatever its configuration says, so no text may use it.
_SPECIAL = ["[PAD]", "[unused]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_SENTENCE = (
    "profit profits loss losses bank banks share shares rise rises fall falls sales quarter net the a of in to its by "
    "million euro grew widens narrows contract operating company market flat unchanged strong weak"
)
_WORDS = _SENTENCE.split()
_LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]
VOCABULARY = [
    *_SPECIAL,
    *_WORDS,
    *[x for x in _LETTERS if x not in _WORDS],
    *[f"##{x}" for x in _LETTERS],
    *"0123456789.,-%",
]


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """[CLS] text [SEP] over a vocabulary of whole words, letters and digits."""
    ids = {token: index for index, token in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=64,
    )


def tiny_config(family: str, layers: int, hidden: int) -> Any:
    """The configuration of a `family` model with `layers` blocks of width `hidden` and two attention heads."""
    vocabulary = len(VOCABULARY)
    ids = {"pad_token_id": 0, "bos_token_id": 3, "eos_token_id": 4}
    encoder = {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "intermediate_size": 2 * hidden,
        "max_position_embeddings": 72,
        **ids,
    }
    if family == "bert":
        return BertConfig(**encoder)
    if family == "roberta":
        return RobertaConfig(**encoder)
    if family == "mpnet":
        return MPNetConfig(**encoder)
    if family == "llama":
        return LlamaConfig(**encoder, num_key_value_heads=2)
    if family == "distilbert":
        return DistilBertConfig(
            vocab_size=vocabulary, dim=hidden, n_layers=layers, n_heads=2, hidden_dim=2 * hidden, **ids
        )
    if family == "t5":
        return T5Config(
            vocab_size=vocabulary,
            d_model=hidden,
            d_kv=hidden // 2,
            d_ff=2 * hidden,
            num_layers=layers,
            num_heads=2,
            decoder_start_token_id=0,
            **ids,
        )
    if family == "bart":
        return BartConfig(
            vocab_size=vocabulary,
            d_model=hidden,
            encoder_layers=layers,
            decoder_layers=layers,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=2 * hidden,
            decoder_ffn_dim=2 * hidden,
            max_position_embeddings=72,
            decoder_start_token_id=4,
            **ids,
        )
    raise ValueError(family)


def save_tiny_model(directory: Path, family: str = "bert", *, layers: int = 2, hidden: int = 32, seed: int = 0) -> Path:
    """Write a random `family` model and its tokenizer to `directory`. The same arguments give the same weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModel.from_config(tiny_config(family, layers, hidden))
        # Far from the initial near-zero weights, so that tests see every path through the model.
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 2:
                    parameter.mul_(5)
    model.save_pretrained(directory)
    tiny_tokenizer().save_pretrained(directory)
    return directory


def tiny_adapted(
    path: Path,
    *,
    family: str = "bert",
    which: Task = TASKS["sentiment_analysis"],
    pooling: Any = "mean",
    blocks: int = 3,
    labels: int = 3,
    **adapter: Any,
) -> AdaptedModel:
    """An adapter of rank 2 (train B, unless said otherwise) on a tiny model that is kept below `path`."""
    directory = path / f"{family}{blocks}"
    if not directory.exists():
        save_tiny_model(directory, family, layers=blocks)
    base = load_base(ModelConfig(max_tokens=64, base=str(directory), pooling=pooling), which, labels)
    settings: dict[str, Any] = {
        "rank": 2,
        "alpha": 4.0,
        "dropout": 0.0,
        "target_modules": "task",
        "layers": "all",
        "trained_factors": "B",
        **adapter,
    }
    return adapt(base, AdapterConfig(**settings), which, seed=7)


def shaken(model: AdaptedModel, seed: int = 1) -> AdaptedModel:
    """`model` away from its start, where B and the head are zero and hide everything else."""
    model.load({name: start + 0.3 * seeded(seed, name, start.shape) for name, start in model.initial().items()})
    return model
