"""A merged decoder as a GGUF file computes and tokenizes as the merged directory does, and other bases are refused."""

import hashlib
from pathlib import Path

import gguf
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from client.commands import merge
from client.inference.gguf import check_gguf
from client.inference.merge import merge_adapter
from common.adapters.manifest import Manifest, write_manifest
from common.adapters.restore import build
from common.base_models.gguf import plain_directory
from common.base_models.resolve import PACKAGED
from common.config.adapter import AdapterConfig
from common.errors import ConfigurationError, ModelError
from tests.client.commands.institution_commands import command_line, refusal
from tests.client.finetune.example_data import save_tiny_writer
from tests.client.inference.test_merge import saved_adapter
from tests.common.base_models.test_gguf import TOKENS, write_tiny_gguf
from tests.tiny_models import save_tiny_model, shaken


@pytest.fixture
def adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An adapter of instructions on a tiny packaged model that comes as a GGUF file."""
    package = tmp_path / "packages" / "tiny_package"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    write_tiny_gguf(package / "tiny.gguf")
    digest = hashlib.sha256((package / "tiny.gguf").read_bytes()).hexdigest()
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.setitem(PACKAGED, "tiny", ("tiny_package", "tiny.gguf", digest))
    monkeypatch.setenv("FEDFIN_CACHE", str(tmp_path / "cache"))
    return instructed("tiny", tmp_path / "adapter")


def instructed(base: str, out: Path) -> Path:
    lora = AdapterConfig(
        rank=2, alpha=4.0, dropout=0.0, target_modules="all-linear", layers="all", trained_factors="AB"
    )
    manifest = Manifest(
        base_model=base, pooling="mean", max_tokens=32, tasks={"instruction_tuning": ()}, adapter=lora, seed=1
    )
    model = shaken(build(manifest))
    model.save_pretrained(out, beside={"fedfin.json": write_manifest(manifest, model.base.digest, {})})
    return out


def test_the_file_is_the_merged_model_with_the_tokenizer_of_the_base_models_file(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["merge", "--adapter", str(adapter), "--out", str(tmp_path / "whole"), "--gguf", str(tmp_path / "a.gguf")]
    assert command_line(merge.add)(asked) == 0
    assert f"gguf   {tmp_path / 'a.gguf'}" in capsys.readouterr().out
    again = plain_directory(tmp_path / "a.gguf")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "whole", dtype=torch.float32).eval()
    read = AutoModelForCausalLM.from_pretrained(again, dtype=torch.float32).eval()
    ids = torch.tensor([[5, 9, 3, 30, 12, 7]])
    with torch.no_grad():
        expected, found = merged(ids).logits, read(ids).logits
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02 * float(expected.abs().max()))
    tokenizer, other = (AutoTokenizer.from_pretrained(path) for path in (tmp_path / "whole", again))
    assert tokenizer("abba 25.")["input_ids"] == other("abba 25.")["input_ids"]
    assert other.chat_template == tokenizer.chat_template
    fields = gguf.GGUFReader(tmp_path / "a.gguf").fields
    assert fields["tokenizer.ggml.tokens"].contents() == TOKENS
    assert fields["general.file_type"].contents() == gguf.LlamaFileType.MOSTLY_F16
    assert [each.name for each in tmp_path.glob(".a.gguf-*")] == [], "no draft is left"


def test_a_file_that_exists_another_base_model_and_a_task_that_labels_are_refused_before_anything_is_written(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.gguf"
    file.touch()
    with pytest.raises(ConfigurationError, match="exists already: choose another file"):
        merge_adapter(adapter, tmp_path / "whole", gguf=file)
    file.unlink()
    with pytest.raises(ConfigurationError, match="no such directory"):
        check_gguf(tmp_path / "absent" / "a.gguf", "tiny")
    save_tiny_writer(tmp_path / "writer")
    other = instructed(str(tmp_path / "writer"), tmp_path / "other")
    asked = ("merge", "--adapter", other, "--out", tmp_path / "whole", "--gguf", file)
    assert "it does not come from a GGUF file" in refusal(capsys, merge.add, *asked)
    labeller = saved_adapter(save_tiny_model(tmp_path / "encoder"), tmp_path / "labeller")
    with pytest.raises(ConfigurationError, match=r"writes no text, which llama\.cpp would run: leave --gguf out"):
        merge_adapter(labeller, tmp_path / "whole", gguf=file)
    assert not (tmp_path / "whole").exists()
    assert not file.exists()


def test_a_weight_beyond_float16_leaves_neither_file_nor_directory(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.inference.gguf.np.isfinite", lambda values: values != values)
    with pytest.raises(ModelError, match="exceeds the range of float16"):
        merge_adapter(adapter, tmp_path / "whole", gguf=tmp_path / "a.gguf")
    assert not list(tmp_path.glob("*a.gguf*"))
    assert not (tmp_path / "whole").exists()
