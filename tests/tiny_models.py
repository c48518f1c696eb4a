"""Random transformers of a few kilobytes and a tokenizer of each kind, saved as directories that `load_base` reads."""

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
from common.config.adapter import AdapterConfig
from common.config.training import ModelConfig
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


TOKENIZERS = ("wordpiece", "byte_level_bpe", "byte_level_bpe_prefix_space", "unigram")
"""Kinds of tokenizer: BERT's; RoBERTa's, Llama 3's and Qwen's; the same with the space before the first word; T5's."""

TOKENIZER_OF = {
    "bert": "wordpiece",
    "roberta": "byte_level_bpe",
    "distilbert": "wordpiece",
    "mpnet": "wordpiece",
    "llama": "byte_level_bpe",
    "t5": "unigram",
    "bart": "byte_level_bpe",
}
"""Architecture -> the kind of tokenizer that its published models have (for llama, Llama 3 and SmolLM2)."""


def soften_attention(module: torch.nn.Module) -> None:
    """Divide a T5's queries by ten. It does not scale its scores, so those of random weights lose much of float32."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if ".q." in name and "lora_A" not in name:
                parameter.div_(10)


def tiny_tokenizer(kind: str = "wordpiece") -> PreTrainedTokenizerFast:
    """Make a tokenizer of one of the kinds in `TOKENIZERS`: [CLS] text [SEP] over words, letters and digits."""
    tokenizer = {"wordpiece": _wordpiece, "unigram": _unigram}.get(kind, _byte_level_bpe)(kind)
    ids = {token: index for index, token in enumerate(_SPECIAL)}
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


def _wordpiece(_: str) -> Tokenizer:
    ids = {token: index for index, token in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def _unigram(_: str) -> Tokenizer:
    special = [(token, 0.0) for token in _SPECIAL]
    words = [(f"\u2581{word}", -3.0) for word in dict.fromkeys(_WORDS)]
    letters = [(letter, -9.0) for letter in ("\u2581", *_LETTERS, *"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,-%")]
    tokenizer = Tokenizer(models.Unigram([*special, *words, *letters], unk_id=_SPECIAL.index("[UNK]")))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


def _byte_level_bpe(kind: str) -> Tokenizer:
    vocabulary = dict.fromkeys([*_SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())])
    merges: dict[tuple[str, str], None] = {}
    for word in dict.fromkeys(_WORDS):
        for start, rest in ((word[0], word[1:]), ("\u0120", word)):
            piece = start
            for letter in rest:
                merges[piece, letter] = None
                piece += letter
                vocabulary[piece] = None
    ids = {token: index for index, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.BPE(ids, list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=kind.endswith("prefix_space"))
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def tiny_config(family: str, layers: int, hidden: int, vocabulary: int = len(VOCABULARY)) -> Any:
    """The configuration of a `family` model with `layers` blocks of width `hidden` and two attention heads."""
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


def save_tiny_model(
    directory: Path,
    family: str = "bert",
    *,
    layers: int = 2,
    hidden: int = 32,
    seed: int = 0,
    tokenizer: str = "wordpiece",
) -> Path:
    """Write a random `family` model and its tokenizer to `directory`; the same arguments give the same weights."""
    pieces = tiny_tokenizer(tokenizer)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModel.from_config(tiny_config(family, layers, hidden, len(pieces)))
        # Far from the initial near-zero weights, so that tests see every path through the model.
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 2:
                    parameter.mul_(5)
    model.save_pretrained(directory)
    pieces.save_pretrained(directory)
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
