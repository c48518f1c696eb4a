"""Which modules of a base model an adapter changes: the tasks' role names in the base model's own words.

Only linear modules inside the stacks of blocks are candidates: never embeddings, poolers or the task head.
"""

import re
from collections.abc import Iterable, Sequence

from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as PEFT_DEFAULTS
from torch import nn

from common.errors import ModelError

__all__ = ["ALL_LINEAR", "ROLES", "TASK_DEFAULT", "block_stacks", "parse_layers", "target_names"]

TASK_DEFAULT = "task"
ALL_LINEAR = "all-linear"

_Roles = dict[str, tuple[str, ...]]

_BERT: _Roles = {
    "query": ("query",),
    "key": ("key",),
    "value": ("value",),
    "dense": ("dense",),
    "out": ("attention.output.dense",),
}
_LLAMA: _Roles = {
    "query": ("q_proj",),
    "key": ("k_proj",),
    "value": ("v_proj",),
    "dense": ("o_proj", "gate_proj", "up_proj", "down_proj"),
    "out": ("o_proj",),
}
_T5: _Roles = {
    "query": ("q",),
    "key": ("k",),
    "value": ("v",),
    "dense": ("o", "wi", "wi_0", "wi_1", "wo"),
    "out": ("o",),
}
_BART: _Roles = {
    "query": ("q_proj",),
    "key": ("k_proj",),
    "value": ("v_proj",),
    "dense": ("out_proj", "fc1", "fc2"),
    "out": ("out_proj",),
}

ROLES: dict[str, _Roles] = {
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "camembert", "electra"), _BERT),
    "distilbert": {
        "query": ("q_lin",),
        "key": ("k_lin",),
        "value": ("v_lin",),
        "dense": ("out_lin", "lin1", "lin2"),
        "out": ("out_lin",),
    },
    "mpnet": {
        "query": ("attn.q",),
        "key": ("attn.k",),
        "value": ("attn.v",),
        "dense": ("attn.o", "dense"),
        "out": ("attn.o",),
    },
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2"), _LLAMA),
    **dict.fromkeys(("t5", "mt5"), _T5),
    **dict.fromkeys(("bart", "mbart"), _BART),
}
"""Architecture -> role -> the ends of the module names that play it. "dense" is every projection that is not query,
key or value: the attention's output and the feed-forward network."""


def block_stacks(model: nn.Module) -> dict[str, nn.ModuleList]:
    """The model's stacks of transformer blocks by path: one for an encoder or a decoder, two if it has both."""
    stacks: dict[str, nn.ModuleList] = {}
    for name, module in model.named_modules():
        nested = any(name.startswith(f"{outer}.") for outer in stacks)
        if isinstance(module, nn.ModuleList) and not nested and len(module) and _linears(module):
            stacks[name] = module
    return stacks


def _linears(module: nn.Module, exclude: Sequence[str] = ()) -> list[str]:
    return [
        name
        for name, child in module.named_modules()
        if isinstance(child, nn.Linear) and not any(name == top or name.startswith(f"{top}.") for top in exclude)
    ]


def parse_layers(layers: str) -> int | None:
    """Return the number of the last blocks that `layers` adapts: None for "all", K for "last:K", 0 for "none".

    Raises:
        ModelError: Any other text.
    """
    if layers == "all":
        return None
    if layers == "none":
        return 0
    match = re.fullmatch(r"last:([1-9][0-9]*)", layers)
    if match is None:
        raise ModelError(f"adapter.layers: {layers[:40]!r}: expected all, last:K with K of 1 or more, or none")
    return int(match.group(1))


def target_names(
    model: nn.Module,
    family: str,
    targets: str | Sequence[str],
    roles: Sequence[str],
    layers: str = "all",
    head_names: Sequence[str] = (),
) -> tuple[str, ...]:
    """Full names of the linear modules to adapt, in the model's order. Empty for `layers` "none".

    Args:
        family: the architecture ("bert", ...).
        targets: "task" for `roles`, "all-linear", or names: of roles, or ends of the model's own module names.
        roles: the task's role names.
        head_names: children of `model` that are the task head.

    Raises:
        ModelError: a name matches no module, or the architecture is unknown here and to PEFT. It lists the modules.
    """
    last = parse_layers(layers)
    if last == 0:
        return ()
    stacks = {name: stack for name, stack in block_stacks(model).items() if name.split(".")[0] not in head_names}
    linear = [name for name in _linears(model, head_names) if any(name.startswith(f"{stack}.") for stack in stacks)]
    if targets == ALL_LINEAR:
        chosen = set(linear)
    else:
        chosen = _matching(linear, _endings(family, targets, roles, linear), family)
    if not chosen:
        raise ModelError(
            f"base model ({family}): it has no linear module in a stack of blocks: adapter.layers = 'none'"
        )
    return tuple(name for name in linear if name in chosen and _is_late(name, stacks, last))


def _endings(family: str, targets: str | Sequence[str], roles: Sequence[str], linear: Iterable[str]) -> list[str]:
    if isinstance(targets, str) and targets != TASK_DEFAULT:
        targets = (targets,)
    names = roles if targets == TASK_DEFAULT else targets
    if family in ROLES:
        return [ending for name in names for ending in ROLES[family].get(name, (name,))]
    if targets != TASK_DEFAULT:
        return list(names)
    if family in PEFT_DEFAULTS:
        return list(PEFT_DEFAULTS[family])
    raise ModelError(
        f"base model ({family}): an unknown architecture: set adapter.target_modules to 'all-linear' or to some of: "
        f"{_listed(linear)}"
    )


def _matching(linear: Sequence[str], endings: Sequence[str], family: str) -> set[str]:
    chosen: set[str] = set()
    for ending in endings:
        names = {name for name in linear if name.endswith(f".{ending}")}
        optional = ending in {"wi", "wi_0", "wi_1"}  # T5 has the one or the other two
        if not names and not optional:
            raise ModelError(
                f"adapter.target_modules: {ending[:60]!r} is no linear module of this base model ({family}): "
                f"choose from {_listed(linear)}"
            )
        chosen |= names
    return chosen


def _listed(linear: Iterable[str]) -> str:
    """Distinct names without the block numbers: "attention.self.query, ..."."""
    return ", ".join(dict.fromkeys(re.split(r"\.\d+\.", name, maxsplit=1)[-1] for name in linear))


def _is_late(name: str, stacks: dict[str, nn.ModuleList], last: int | None) -> bool:
    if last is None:
        return True
    for path, stack in stacks.items():
        if name.startswith(f"{path}."):
            return int(name[len(path) + 1 :].split(".")[0]) >= len(stack) - last
    return False
