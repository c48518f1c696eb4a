"""Role names become the base model's own module names."""

from pathlib import Path
from typing import Any

import pytest
from torch import nn
from transformers import AutoModel, AutoModelForSeq2SeqLM, AutoModelForSequenceClassification

from common.adapters.target_modules import block_stacks, parse_layers, target_names
from common.errors import ModelError
from common.tasks import TASKS
from tests.tiny_models import FAMILIES, tiny_config

_BERT = (
    "attention.self.query attention.self.key attention.self.value "
    "attention.output.dense intermediate.dense output.dense"
)
EXPECTED = {
    "bert": _BERT,
    "roberta": _BERT,
    "distilbert": "attention.q_lin attention.k_lin attention.v_lin attention.out_lin ffn.lin1 ffn.lin2",
    "mpnet": "attention.attn.q attention.attn.k attention.attn.v attention.attn.o intermediate.dense output.dense",
    "llama": (
        "self_attn.q_proj self_attn.k_proj self_attn.v_proj self_attn.o_proj mlp.gate_proj mlp.up_proj mlp.down_proj"
    ),
}


def body(family: str, layers: int = 3) -> nn.Module:
    model: nn.Module = AutoModel.from_config(tiny_config(family, layers, 32))
    return model


def ends(names: tuple[str, ...], stack: str) -> dict[int, set[str]]:
    """Block number -> names within the block."""
    found: dict[int, set[str]] = {}
    for name in names:
        number, _, rest = name.removeprefix(f"{stack}.").partition(".")
        found.setdefault(int(number), set()).add(rest)
    return found


@pytest.mark.parametrize("family", sorted(EXPECTED))
def test_query_key_value_and_dense_are_every_linear_module_of_every_block(family: str) -> None:
    model = body(family)
    (stack,) = block_stacks(model)
    names = target_names(model, family, "task", ("query", "key", "value", "dense"))
    assert ends(names, stack) == {block: set(EXPECTED[family].split()) for block in range(3)}
    assert names == target_names(model, family, "all-linear", ())
    few = ends(target_names(model, family, ("query", "out"), ()), stack)
    query, _, _, out = EXPECTED[family].split()[:4]
    assert few == {block: {query, out} for block in range(3)}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", sorted(TASKS))
def test_every_task_finds_its_modules_in_every_known_architecture(family: str, name: str) -> None:
    auto = AutoModelForSeq2SeqLM if family in {"t5", "bart"} else AutoModelForSequenceClassification
    model: Any = auto.from_config(tiny_config(family, 2, 32))
    names = target_names(model, family, "task", TASKS[name].target_modules)
    assert all(isinstance(model.get_submodule(each), nn.Linear) for each in names)
    stacks = {"t5": 3, "bart": 3}.get(family, 1)  # attentions: encoder, decoder, and the decoder's to the encoder
    queries = [each for each in names if each.rpartition(".")[2] in {"q", "query", "q_lin", "q_proj"}]
    assert len(queries) == 2 * stacks


def test_last_blocks_none_and_the_head() -> None:
    model = AutoModelForSequenceClassification.from_config(tiny_config("roberta", 3, 32))
    heads = ("classifier",)
    late = target_names(model, "roberta", "all-linear", (), "last:2", heads)
    assert {name.split(".")[3] for name in late} == {"1", "2"}
    assert target_names(model, "roberta", "all-linear", (), "none", heads) == ()
    everything = target_names(model, "roberta", "all-linear", (), "all", heads)
    assert everything == target_names(model, "roberta", "all-linear", (), "last:9", heads)
    assert not any(name.startswith("classifier") for name in everything)
    assert [parse_layers(text) for text in ("all", "last:12", "none")] == [None, 12, 0]
    for wrong in ("last:0", "last", "first:2", "last:-1", ""):
        with pytest.raises(ModelError, match=r"adapter\.layers"):
            parse_layers(wrong)


def test_an_unknown_architecture_gets_pefts_default_or_an_error_that_lists_its_modules() -> None:
    model = body("bert")
    assert {name.rpartition(".")[2] for name in target_names(model, "deberta-v2", ("query",), ())} == {"query"}
    with pytest.raises(ModelError, match=r"unknown architecture.*attention\.self\.query, attention\.self\.key"):
        target_names(model, "nobody-knows", "task", ("query",))
    with pytest.raises(ModelError, match=r"'qkv'.*choose from attention\.self\.query"):
        target_names(model, "bert", ("qkv",), ())
    gpt = nn.ModuleDict({"h": nn.ModuleList([nn.ModuleDict({"c_attn": nn.Linear(2, 2), "other": nn.Linear(2, 2)})])})
    assert target_names(gpt, "gpt2", "task", ("query",)) == ("h.0.c_attn",)
    with pytest.raises(ModelError, match="no linear module"):
        target_names(nn.Sequential(nn.Linear(2, 2)), "odd", "all-linear", ())


def test_a_module_whose_name_only_ends_alike_is_not_taken(tmp_path: Path) -> None:
    model = AutoModel.from_config(tiny_config("bert", 2, 32))
    assert "pooler.dense" not in target_names(model, "bert", ("dense",), ())
    t5 = AutoModel.from_config(tiny_config("t5", 2, 32))
    assert all(name.rpartition(".")[2] == "o" for name in target_names(t5, "t5", ("out",), ()))
