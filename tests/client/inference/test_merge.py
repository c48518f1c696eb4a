"""A merged model loads without PEFT and fedfin, and gives the probabilities of the adapter."""

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel, AutoTokenizer, DebertaV2Config, MPNetConfig, PreTrainedConfig

from client.inference import merged_head
from client.inference.merge import merge_adapter
from client.inference.predictor import Predictor, load_adapter
from common.adapters.manifest import Manifest, write_manifest
from common.adapters.restore import build
from common.config.adapter import AdapterConfig
from common.errors import ModelError
from tests.tiny_models import VOCABULARY, save_tiny_model, shaken, tiny_tokenizer

TEXTS = ["profit rises strong", "loss falls weak"]
SIZES: dict[str, Any] = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 72,
}
DEBERTA = DebertaV2Config(
    **SIZES, relative_attention=True, pos_att_type=["p2c", "c2p"], position_biased_input=False, share_att_key=True
)


def saved_adapter(base: Path, out: Path) -> Path:
    """An adapter whose weights are not at their start, as `finetune` leaves it."""
    lora = AdapterConfig(
        rank=2, alpha=4.0, dropout=0.0, target_modules="all-linear", layers="all", trained_factors="AB"
    )
    manifest = Manifest(
        base_model=str(base),
        pooling="mean",
        max_tokens=32,
        tasks={"sentiment_analysis": ("negative", "neutral", "positive")},
        adapter=lora,
        seed=1,
    )
    model = shaken(build(manifest))
    model.save_pretrained(out, beside={"fedfin.json": write_manifest(manifest, model.base.digest, {})})
    return out


def saved_model(directory: Path, config: PreTrainedConfig) -> Path:
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(directory)
    tiny_tokenizer().save_pretrained(directory)
    return directory


@pytest.mark.parametrize("config", [MPNetConfig(**SIZES), DEBERTA], ids=["mpnet", "deberta"])
def test_an_encoder_without_fused_attention_loads_from_its_merged_directory(
    tmp_path: Path, config: PreTrainedConfig
) -> None:
    adapter = saved_adapter(saved_model(tmp_path / "base", config), tmp_path / "adapter")
    line = merge_adapter(adapter, tmp_path / "merged")
    assert line.startswith("transformers.AutoModelForSequenceClassification.from_pretrained(")
    # The class of the written file, as transformers would import it.
    spec = importlib.util.spec_from_file_location("modeling_fedfin", tmp_path / "merged" / "modeling_fedfin.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.MeanPoolForSequenceClassification.from_pretrained(tmp_path / "merged").eval()
    batch = AutoTokenizer.from_pretrained(tmp_path / "merged")(TEXTS, return_tensors="pt", padding=True)
    with torch.no_grad():
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    expected = [list(label.probabilities.values()) for label in Predictor(adapter).classify(TEXTS)]
    assert torch.allclose(logits.softmax(-1), torch.tensor(expected), atol=1e-5)


def test_a_merged_model_that_does_not_load_is_refused_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = saved_adapter(save_tiny_model(tmp_path / "base"), tmp_path / "adapter")

    def broken(*_: object, **__: object) -> None:
        raise ValueError("no such attention\nand a long story")

    monkeypatch.setattr(merged_head.MeanPoolForSequenceClassification, "from_pretrained", broken)
    with pytest.raises(ModelError, match=r"cannot load the merged model \(no such attention\): keep the adapter$"):
        merge_adapter(adapter, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_a_base_model_that_was_moved_is_found_by_its_new_place_and_held_to_its_digest(tmp_path: Path) -> None:
    adapter = saved_adapter(save_tiny_model(tmp_path / "base"), tmp_path / "adapter")
    before = load_adapter(adapter).classify(TEXTS)
    shutil.move(tmp_path / "base", tmp_path / "elsewhere")
    with pytest.raises(ModelError, match=r"no such directory: .*, or say where it is with --base-model"):
        load_adapter(adapter)
    assert load_adapter(adapter, base_model=str(tmp_path / "elsewhere")).classify(TEXTS) == before
    merge_adapter(adapter, tmp_path / "merged", base_model=str(tmp_path / "elsewhere"))
    other = save_tiny_model(tmp_path / "other", seed=5)
    with pytest.raises(ModelError, match=r"trained on another copy .* with --base-model"):
        load_adapter(adapter, base_model=str(other))


def test_the_merged_directory_names_its_labels_and_the_class_to_load(tmp_path: Path) -> None:
    adapter = saved_adapter(save_tiny_model(tmp_path / "base"), tmp_path / "adapter")
    merge_adapter(adapter, tmp_path / "merged")
    config = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert config["id2label"] == {"0": "negative", "1": "neutral", "2": "positive"}
    assert config["auto_map"] == {
        "AutoModelForSequenceClassification": "modeling_fedfin.MeanPoolForSequenceClassification"
    }
    assert "_supports_sdpa = True" in (tmp_path / "merged" / "modeling_fedfin.py").read_text()
