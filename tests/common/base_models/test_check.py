"""A base model that cannot be trained or read is refused in one line, before anything else happens."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer, LEDConfig, LongformerConfig, MPNetConfig, RobertaConfig

from common.base_models.architecture import max_positions
from common.base_models.check import check_base_model
from common.base_models.files import check_files, check_sizes
from common.base_models.load import load_base
from common.base_models.resolve import pinned
from common.config.training import ModelConfig
from common.errors import ModelError
from common.tasks import TASKS, Head
from tests.tiny_models import TOKENIZERS, save_tiny_model


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("check") / "bert")


def without_tokenizer(source: Path, target: Path) -> Path:
    return Path(shutil.copytree(source, target, ignore=shutil.ignore_patterns("token*", "special*")))


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_whole_model_of_each_tokenizer_kind_passes_with_its_longest_text(tmp_path: Path, kind: str) -> None:
    path = save_tiny_model(tmp_path / "model", tokenizer=kind)
    checked = check_base_model(str(path), Head.TOKEN, max_tokens=72)
    assert (checked.path, checked.max_positions) == (path, 72)
    assert checked.tokenizer.pad_token == "[PAD]"


@pytest.mark.parametrize("family", ["bert", "roberta", "t5", "llama"])
def test_a_directory_without_tokenizer_files_is_refused_wherever_it_is_named(tmp_path: Path, family: str) -> None:
    path = without_tokenizer(save_tiny_model(tmp_path / "whole", family), tmp_path / "bare")
    config = ModelConfig(max_tokens=64, base=str(path))
    for check in (check_base_model, lambda _: pinned(config), lambda _: load_base(config, TASKS["financial_ner"], 3)):
        with pytest.raises(ModelError, match=r"no tokenizer \(.*copy it there$"):
            check(str(path))


def test_bytes_need_no_vocabulary_file(tiny: Path, tmp_path: Path) -> None:
    path = without_tokenizer(tiny, tmp_path / "bytes")
    (path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "ByT5Tokenizer"}))
    check_files("bytes", path)


def test_a_tokenizer_that_knows_no_word_is_refused(tiny: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(tiny, tmp_path / "empty"))
    content = json.loads((path / "tokenizer.json").read_text())
    content["model"]["vocab"] = {token: place for place, token in enumerate(["[PAD]", "[unused]", "[UNK]"])}
    (path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match="knows no word of a plain sentence"):
        check_base_model(str(path))


def with_more_tokens(source: Path, target: Path, special: bool) -> Path:
    path = Path(shutil.copytree(source, target))
    tokenizer = AutoTokenizer.from_pretrained(path)
    tokenizer.add_tokens(["<image>"], special_tokens=special) if special else tokenizer.add_tokens(["ebitda"])
    tokenizer.save_pretrained(path)
    return path


def test_a_word_without_an_embedding_is_refused_before_and_after_torch_is_there(tiny: Path, tmp_path: Path) -> None:
    path = with_more_tokens(tiny, tmp_path / "larger", special=False)
    for check in (lambda: check_sizes("larger", path), lambda: check_base_model(str(path))):
        with pytest.raises(ModelError, match=r"tokens and its embeddings have \d+ rows: resize the embeddings"):
            check()


def test_a_special_token_that_no_text_holds_may_stand_above_the_embeddings(tiny: Path, tmp_path: Path) -> None:
    check_base_model(str(with_more_tokens(tiny, tmp_path / "image", special=True)))


def renamed(source: Path, target: Path, **names: Any) -> Path:
    path = Path(shutil.copytree(source, target))
    tokenizer = AutoTokenizer.from_pretrained(path)
    for name, value in names.items():
        setattr(tokenizer, name, value)
    tokenizer.save_pretrained(path)
    return path


def test_without_padding_the_end_token_pads_and_without_both_the_model_is_refused(tiny: Path, tmp_path: Path) -> None:
    ended = renamed(tiny, tmp_path / "ended", pad_token=None, eos_token="[SEP]")
    assert check_base_model(str(ended)).tokenizer.pad_token == "[SEP]"
    with pytest.raises(ModelError, match=r"neither a padding nor an end token: set tokenizer\.pad_token"):
        check_base_model(str(renamed(tiny, tmp_path / "endless", pad_token=None)))


def test_tasks_are_refused_whose_special_token_the_tokenizer_lacks(tmp_path: Path) -> None:
    llama = save_tiny_model(tmp_path / "llama", "llama")
    with pytest.raises(ModelError, match="names no end token, which ends a text that it writes"):
        check_base_model(str(llama), Head.SUMMARY)
    with pytest.raises(ModelError, match="has no mask token"):
        check_base_model(str(renamed(llama, tmp_path / "unmasked", mask_token=None)), Head.MASKED)


def test_the_configuration_takes_the_tokenizers_padding(tmp_path: Path) -> None:
    path = renamed(save_tiny_model(tmp_path / "llama", "llama"), tmp_path / "other", pad_token="[SEP]")
    base = load_base(ModelConfig(max_tokens=64, base=str(path), pooling="native"), TASKS["sentiment_analysis"], 3)
    assert AutoConfig.from_pretrained(path).pad_token_id == 0
    model: Any = base.model
    assert model.config.pad_token_id == base.tokenizer.pad_token_id == 4


SIZES = {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (RobertaConfig(**SIZES, max_position_embeddings=40, pad_token_id=1), 38),
        (MPNetConfig(**SIZES, max_position_embeddings=40), 38),
        (LongformerConfig(**SIZES, max_position_embeddings=44, pad_token_id=1, attention_window=8), 40),
        (
            LEDConfig(
                vocab_size=60,
                d_model=16,
                encoder_layers=1,
                decoder_layers=1,
                encoder_attention_heads=2,
                decoder_attention_heads=2,
                attention_window=8,
                max_encoder_position_embeddings=44,
            ),
            40,
        ),
    ],
    ids=["roberta", "mpnet", "longformer", "led"],
)
def test_the_longest_text_is_one_that_the_model_really_reads(config: Any, expected: int) -> None:
    assert max_positions(config) == expected
    model = AutoModel.from_config(config).eval()
    with torch.no_grad():
        model(input_ids=torch.full((1, expected), 7), attention_mask=torch.ones(1, expected, dtype=torch.long))


def test_a_longer_maximum_of_tokens_is_refused_when_a_run_is_made_and_when_a_model_is_loaded(tiny: Path) -> None:
    config = ModelConfig(base=str(tiny), max_tokens=73)
    for check in (lambda: pinned(config), lambda: load_base(config, TASKS["sentiment_analysis"], 3)):
        with pytest.raises(ModelError, match=r"max_tokens is 73: base model .* reads at most 72"):
            check()


def test_a_pointer_in_place_of_the_weights_is_named_with_its_remedy(tiny: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(tiny, tmp_path / "pointer"))
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 90868376\n"
    (path / "model.safetensors").write_text(pointer)
    with pytest.raises(ModelError, match=r"model.safetensors is a pointer of Git LFS.*git lfs pull"):
        check_base_model(str(path))


def test_a_padding_token_without_a_row_in_the_embeddings_is_refused(tiny: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(tiny, tmp_path / "padding"))
    tokenizer = AutoTokenizer.from_pretrained(path)
    tokenizer.add_special_tokens({"pad_token": "<new padding>"})
    tokenizer.save_pretrained(path)
    with pytest.raises(ModelError, match="resize the embeddings"):
        check_base_model(str(path))


def test_an_unknown_token_that_is_not_in_the_vocabulary_is_one_line(tiny: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(tiny, tmp_path / "unknown"))
    content = json.loads((path / "tokenizer.json").read_text())
    content["model"]["unk_token"] = "<absent>"
    (path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match="its tokenizer could not be loaded"):
        check_base_model(str(path))
