"""A job resolved: every setting, and the model to build or to continue."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from client.finetune.job import AdapterOptions, FineTuningJob, Previous
from client.finetune.options.resolve import resolve_settings
from common.adapters.manifest import Manifest, write_manifest
from common.base_models.architecture import read_config
from common.config.adapter import PromptConfig
from common.errors import ConfigurationError, DataError
from tests.client.finetune.example_data import task_data
from tests.tiny_models import save_tiny_model

DATA = task_data("sentiment_analysis")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_model(tmp_path_factory.mktemp("base") / "bert", "bert", layers=1))


def job(base: str, tmp_path: Path) -> FineTuningJob:
    return FineTuningJob(data=(DATA,), out=tmp_path / "out", base_model=base)


def test_the_manifest_and_the_settings_hold_the_same_adapter_and_length(base: str, tmp_path: Path) -> None:
    resolved = resolve_settings(job(base, tmp_path), 100)
    assert resolved.manifest.adapter == resolved.settings.adapter
    assert resolved.manifest.max_tokens == resolved.settings.max_tokens == 72, "no more than the model reads"
    assert resolved.manifest.tasks == {"sentiment_analysis": DATA.train.labels}


def test_the_configuration_of_the_base_model_is_read_once(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def read(name: str, path: str) -> Any:
        calls.append(name)
        return read_config(name, path)

    monkeypatch.setattr("common.base_models.check.read_config", read)
    assert resolve_settings(job(base, tmp_path), 100).base_config.model_type == "bert"
    assert calls == [base]


def test_a_text_longer_than_the_model_reads_is_refused_with_the_virtual_tokens_counted(
    base: str, tmp_path: Path
) -> None:
    prompt = AdapterOptions(method="p_tuning", virtual_tokens=8)
    long = replace(job(base, tmp_path), adapter=prompt, max_tokens=70)
    with pytest.raises(ConfigurationError, match=r"max_tokens is 70: base model .* reads at most 64"):
        resolve_settings(long, 100)


def test_a_continued_adapter_keeps_its_settings_and_must_have_the_jobs_labels(base: str, tmp_path: Path) -> None:
    manifest = Manifest(
        base_model=base,
        pooling="mean",
        max_tokens=20,
        tasks={"sentiment_analysis": DATA.train.labels},
        adapter=PromptConfig(method="p_tuning", virtual_tokens=3),
        seed=4,
    )
    (tmp_path / "fedfin.json").write_bytes(write_manifest(manifest, "0" * 64, {}))
    again = replace(job(base, tmp_path), strategy="incremental", previous=Previous(tmp_path, DATA.test))
    resolved = resolve_settings(again, 100)
    assert resolved.manifest == manifest
    assert (resolved.settings.adapter, resolved.settings.max_tokens) == (manifest.adapter, 20)
    other = replace(DATA.test, labels=("other", "labels", "here"))
    with pytest.raises(DataError, match="its labels are not those of"):
        resolve_settings(replace(again, previous=Previous(tmp_path, other)), 100)
