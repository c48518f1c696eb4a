import json
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from common.base_models.digest import base_digest
from common.base_models.gguf import plain_directory
from common.base_models.resolve import resolve_base
from common.errors import ModelError

HEADS, KEY_HEADS, WIDTH = 4, 2, 32
TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *"abcdefghijklmnopqrstuvwxyz0123456789.,", "Ġ", "Ċ", "ab"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FEDFIN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def llama() -> LlamaForCausalLM:
    return tiny_llama()


def tiny_llama() -> LlamaForCausalLM:
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=len(TOKENS),
        hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        num_key_value_heads=KEY_HEADS,
        max_position_embeddings=128,
        rope_theta=10000.0,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).to(torch.bfloat16).float().eval()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def write_tiny_gguf(path: Path) -> Path:
    """Write the tiny decoder with its tokenizer."""
    llama = tiny_llama()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_block_count(2)
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(64)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(llama.config.rms_norm_eps)
    writer.add_vocab_size(len(TOKENS))
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3, 3] + [1] * (len(TOKENS) - 3))
    writer.add_token_merges(["a b"])
    for add in (writer.add_bos_token_id, writer.add_unk_token_id):
        add(1)
    for add in (writer.add_eos_token_id, writer.add_pad_token_id):
        add(2)
    for name, value in llama.state_dict().items():
        if name != "lm_head.weight":
            writer.add_tensor(_ggml_name(name), _ggml_rows(name, value.numpy()))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _ggml_name(name: str) -> str:
    names = {
        "model.embed_tokens": "token_embd",
        "model.norm": "output_norm",
        "model.layers.": "blk.",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
        "self_attn.o_proj": "attn_output",
        "self_attn.": "attn_",
        "mlp.": "ffn_",
        "_proj": "",
    }
    for theirs, ggml in names.items():
        name = name.replace(theirs, ggml)
    return name


def _ggml_rows(name: str, value: np.ndarray) -> np.ndarray:
    """llama.cpp rotates neighbouring pairs of a head's rows, transformers its two halves: interleave them."""
    if not name.endswith(("q_proj.weight", "k_proj.weight")):
        return value
    heads = HEADS if "q_proj" in name else KEY_HEADS
    size = value.shape[0] // heads
    order = [h * size + half * size // 2 + i for h in range(heads) for i in range(size // 2) for half in (0, 1)]
    return np.ascontiguousarray(value[order])


def test_the_rebuilt_model_computes_what_the_original_does(file: Path, llama: LlamaForCausalLM) -> None:
    rebuilt = AutoModelForCausalLM.from_pretrained(plain_directory(file), dtype=torch.float32).eval()
    ids = torch.tensor([[5, 9, 3, 30, 12, 7]])
    with torch.no_grad():
        torch.testing.assert_close(rebuilt(ids).logits, llama(ids).logits, rtol=1e-4, atol=1e-5)


def test_the_tokenizer_splits_numbers_into_digits_and_gives_back_what_it_read(file: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(plain_directory(file))
    text = "abba rose 25, fell  2019."
    pieces = tokenizer.tokenize(text)
    assert "ab" in pieces
    assert [p for p in pieces if any(c.isdigit() for c in p)] == list("252019")
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer.eos_token == "<|im_end|>"


def test_the_directory_is_an_ordinary_one_and_the_same_each_time(file: Path, cache: Path) -> None:
    first = plain_directory(file)
    digest = base_digest(first)
    config = json.loads((first / "config.json").read_text())
    assert "quantization_config" not in config
    assert "transformers_version" not in config
    stamp = (first / "model.safetensors").stat().st_mtime_ns
    assert plain_directory(file) == first
    assert (first / "model.safetensors").stat().st_mtime_ns == stamp, "made once"
    assert [p.name for p in (cache / "models").iterdir()] == [first.name], "no draft is left"
    (first / "model.safetensors").write_bytes(b"damaged")
    assert base_digest(plain_directory(file)) == digest, "a damaged copy is made again"


def test_what_is_no_model_is_one_line_and_leaves_nothing(tmp_path: Path, cache: Path) -> None:
    wrong = tmp_path / "wrong.gguf"
    wrong.write_bytes(b"GGUF but not really")
    with pytest.raises(ModelError, match=r"wrong\.gguf: not a readable GGUF file") as caught:
        plain_directory(wrong)
    assert "\n" not in str(caught.value)
    assert not list((cache / "models").iterdir())
    with pytest.raises(ModelError, match=r"absent\.gguf: cannot be read"):
        plain_directory(tmp_path / "absent.gguf")


@pytest.mark.encoder
def test_the_packaged_language_model_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FEDFIN_CACHE")  # it is large: the user's own cache keeps it
    path = resolve_base("smollm2")
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    question = [{"role": "user", "content": "What is the capital of France?"}]
    inputs = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    given = model.generate(**inputs, max_new_tokens=12, do_sample=False)
    answer = tokenizer.decode(given[0][inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert answer == "The capital of France is Paris."
