"""The model and the rows of a run at a deployed institution: prompts and responses, and another template."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from client.agent.models import LocalModels
from client.institution.config import DataConfig, InstitutionConfig
from common.base_models.digest import base_digest
from common.config.run import RunConfig, parse_run
from common.errors import AssignmentRefused
from common.protocol.messages import RefusalCode
from tests.client.finetune.example_data import save_tiny_writer
from tests.client.institution.example_config import institution_config


def instructed(directory: Path) -> tuple[InstitutionConfig, RunConfig]:
    """An institution with two rows of prompts, and a run that asks for them."""
    save_tiny_writer(directory / "base", hidden_size=32)
    row = {"instruction": "Did it rise?", "input": "profit rises", "output": "yes"}
    rows = [row, row | {"input": "loss", "output": "no"}]
    (directory / "rows.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    base = str(directory / "base")
    data = DataConfig(train=directory / "rows.jsonl")
    run = parse_run(
        {
            "run": {"name": "tiny", "seed": 3, "rounds": 3},
            "task": {"name": "instruction_tuning"},
            "model": {"base": base, "max_tokens": 32, "base_digest": base_digest(base)},
            "training": {"learning_rate": 0.5, "sampling_rate": 0.25, "local_steps": 2},
            "privacy": {"mode": "custom", "noise_multiplier": 1.5, "clipping_norm": 0.5, "delta": 1e-4},
        },
        "test",
    )
    return institution_config("bank", delta=1e-4, allowed=(base,), device="cpu", data=data), run


def test_an_institution_tokenises_its_prompts_for_a_run(tmp_path: Path) -> None:
    settings, run = instructed(tmp_path)
    local = LocalModels(settings, bytes(32))(run)
    assert local.data.units("record") == 2
    assert local.labels == ()
    assert local.data.tokens.labels is not None
    tokens = local.adapted.base.tokenizer.decode(local.data.tokens.input_ids[0])
    assert tokens.startswith("did it rise")
    assert tokens.endswith(("response : y ##e ##s [SEP]", "yes [SEP]")), tokens


def test_a_template_that_differs_is_refused_before_a_row_is_trained_on(tmp_path: Path) -> None:
    settings, run = instructed(tmp_path)
    (tmp_path / "base" / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    with pytest.raises(AssignmentRefused, match="is not the run's base model") as refused:
        LocalModels(settings, bytes(32))(run)
    assert refused.value.code == RefusalCode.BASE_MODEL
    pinned = replace(run, model=replace(run.model, base_digest=base_digest(str(tmp_path / "base"))))
    assert LocalModels(settings, bytes(32))(pinned).adapted.base.tokenizer.chat_template
