"""Run every family of base models through training, prediction, merging and reloading, with and without privacy.

python -m tests.client.finetune.families [FAMILY ...]

writes the outcomes to `families.json`, from which `tests.client.finetune.matrix` makes a table. All models are random
and tiny, with the architecture and the kind of tokenizer of the published ones.
"""

import json
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

from client.finetune import AdapterOptions, FineTuningJob, PrivacyOptions, TrainingOptions, finetune
from client.inference.merge import merge_adapter
from client.inference.predictor import Predictor
from common.errors import FedfinError
from common.tasks import TASKS
from common.tokenization.batches import Batch
from tests.client.finetune.example_data import task_data
from tests.tiny_models import tiny_config, tiny_tokenizer

RESULTS = Path(__file__).with_name("families.json")
WORKS, FAULT = "works", "fault:"
KINDS = {"text": "sentiment_analysis", "words": "financial_ner", "summary": "document_summarization"}
TEXTS = ["profit rises strong", "net loss of the bank widens"]
_TOLERANCE = 1e-4
"""Largest relative difference between the outputs of the adapter and of the merged and reloaded model."""

Sizes = dict[str, Any]


def _deberta(sizes: Sizes) -> Any:
    return transformers.DebertaV2Config(
        **sizes,
        type_vocab_size=0,
        relative_attention=True,
        position_buckets=16,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
    )


def _modernbert(sizes: Sizes) -> Any:
    return transformers.ModernBertConfig(
        **sizes, local_attention=16, global_attn_every_n_layers=2, cls_token_id=3, sep_token_id=4
    )


def _gemma(sizes: Sizes) -> Any:
    return transformers.Gemma3TextConfig(**sizes, num_key_value_heads=1, head_dim=16, sliding_window=16)


def _decoder(name: str) -> Callable[[Sizes], Any]:
    return lambda sizes: getattr(transformers, name)(**sizes, num_key_value_heads=1)


FAMILIES: dict[str, tuple[str, Callable[[Sizes], Any] | None]] = {
    "BERT": ("wordpiece", None),
    "RoBERTa": ("byte_level_bpe", None),
    "DeBERTa-v3": ("unigram", _deberta),
    "ModernBERT": ("byte_level_bpe", _modernbert),
    "MPNet": ("wordpiece", None),
    "Llama 3": ("byte_level_bpe", _decoder("LlamaConfig")),
    "Qwen 2": ("byte_level_bpe", _decoder("Qwen2Config")),
    "Qwen 3": ("byte_level_bpe", lambda sizes: transformers.Qwen3Config(**sizes, num_key_value_heads=1, head_dim=16)),
    "Gemma 3 text": ("unigram", _gemma),
    "Mistral": ("unigram", _decoder("MistralConfig")),
    "Phi-3": ("unigram", _decoder("Phi3Config")),
    "GPT-NeoX": ("byte_level_bpe", lambda sizes: transformers.GPTNeoXConfig(**sizes)),
    "T5": ("unigram", None),
    "BART": ("byte_level_bpe", None),
}
"""Family -> the kind of its tokenizer, and its configuration. None: `tests.tiny_models` has one of that name."""


def save_family(family: str, directory: Path) -> Path:
    """Write a random model of a family with its tokenizer and the head that its published models have."""
    kind, make = FAMILIES[family]
    tokenizer = tiny_tokenizer(kind)
    tokenizer.eos_token = "[SEP]"
    sizes: Sizes = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 72,
        "pad_token_id": 0,
        "bos_token_id": 3,
        "eos_token_id": 4,
    }
    config = tiny_config(family.lower(), 2, 32, len(tokenizer)) if make is None else make(sizes)
    encoder = family in ("BERT", "RoBERTa", "DeBERTa-v3", "ModernBERT", "MPNet")
    auto = (
        transformers.AutoModelForSeq2SeqLM
        if config.is_encoder_decoder
        else transformers.AutoModelForMaskedLM
        if encoder
        else transformers.AutoModelForCausalLM
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = auto.from_config(config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                # Far from the initial near-zero weights. A T5 does not scale its scores, so its weights stay small.
                if parameter.ndim == 2 and "embed" not in name and family != "T5":
                    parameter.mul_(4)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def outcome(base: Path, kind: str, private: bool, directory: Path) -> str:
    """Train, predict, merge and reload. Return "works", or the one line of the refusal.

    Raises:
        AssertionError: The merged model loads, and its outputs are not those of the adapter.
    """
    job = FineTuningJob(
        data=(task_data(KINDS[kind], 16, 6),),
        out=directory / "out",
        base_model=str(base),
        max_tokens=32,
        adapter=AdapterOptions(rank=2),
        training=TrainingOptions(epochs=1, batch_size=8, learning_rate=0.01),
        privacy=PrivacyOptions(epsilon=8.0) if private else None,
    )
    try:
        trained = finetune(job)
        if len(trained.predict(TEXTS)) != len(TEXTS):
            raise AssertionError("an answer is missing")
        line = merge_adapter(trained.adapter, directory / "merged")
    except FedfinError as error:
        return re.sub(r"^base model .*?(?=:)", "base model", re.sub(r"\S*/", "", str(error)))
    whole = eval(line, {"transformers": transformers}).eval()  # noqa: S307 - the line that users copy
    _compare(Predictor(trained.adapter).model, whole, writes=TASKS[KINDS[kind]].head.writes_text)
    return WORKS


def _compare(model: Any, whole: Any, *, writes: bool) -> None:
    tokens = model.encode(TEXTS)
    batch, extra = tokens.batch([0, 1]), {}
    if writes and whole.config.is_encoder_decoder:
        batch = Batch(batch.input_ids, batch.attention_mask, labels=batch.input_ids)
        extra = {"labels": batch.labels}
    with torch.no_grad():
        given = whole(input_ids=batch.input_ids, attention_mask=batch.attention_mask, **extra).logits
        expected = model.logits(batch)
    if given.shape != expected.shape or (given - expected).norm() > _TOLERANCE * expected.norm():
        raise AssertionError("the merged model gives other outputs than the adapter")


def main(names: list[str]) -> None:
    """Run the named families, or all, and keep each outcome at once. A fault is kept too, and fails a test."""
    found: dict[str, dict[str, str]] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    with tempfile.TemporaryDirectory() as directory:
        bases = {family: save_family(family, Path(directory) / "models" / family) for family in names or FAMILIES}
        for kind in KINDS:
            for private in (False, True):
                column = f"{kind}, private" if private else kind
                for family, base in bases.items():
                    place = Path(directory) / f"{family} {column}"
                    row = found.setdefault(family, {})
                    try:
                        row[column] = outcome(base, kind, private, place)
                    except Exception as error:  # a fault of one cell must not hide the others
                        row[column] = f"{FAULT} {type(error).__name__}: {str(error)[:200]}"
                    sys.stderr.write(f"{family}, {column}: {row[column]}\n")
                    RESULTS.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
