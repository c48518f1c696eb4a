"""The section of the report on model, task, adapter, training and versions."""

from collections.abc import Mapping
from typing import Any

from common.report import page
from common.report.formatting import format_count, format_value, join_names
from common.report.html import Html, join, tag
from server.report.run_files import RunFiles

__all__ = ["what_was_run"]


def what_was_run(run: RunFiles) -> Html:
    """Return the section on model, task, adapter, training and versions, in the words of the configuration."""
    part = {name: run.config[name] if isinstance(run.config.get(name), dict) else {} for name in
            ("model", "adapter", "training", "privacy", "aggregation")}  # fmt: skip
    model, adapter = part["model"], part["adapter"]
    rank = (
        f"LoRA, rank {format_value(adapter.get('rank'))}, alpha {format_value(adapter.get('alpha'))}"
        if adapter.get("rank")
        else ""
    )
    modules = (
        f"on {format_value(adapter.get('target_modules'))}, layers {format_value(adapter.get('layers'))}"
        if rank
        else ""
    )
    trained = {"B": "B trained, A frozen from the run's seed", "AB": "A and B trained"}.get(
        str(adapter.get("trained_factors") or adapter.get("train")), ""
    )
    if adapter.get("layers") == "none":
        rank, modules, trained = "the head alone, no LoRA", "", ""
    parameters, whole = run.result.parameters_trained, run.result.parameters_total
    share = f" of {format_count(whole)} ({parameters / whole:.2%})" if parameters and whole else ""
    rows = [
        ("Task", format_value(run.result.task or run.config.get("task"))),
        ("Labels", format_value(run.result.labels or run.config.get("labels"))),
        ("Institutions", join_names([_named(run, name) for name in run.institutions])),
        ("Data", " ".join(run.notes)),
        (
            "Base model",
            "; ".join(v for k, v in ((0, format_value(model.get("base"))), (1, _pooling(model))) if v not in {"", "–"}),
        ),
        ("Adapter", "; ".join(v for v in (rank, modules, trained) if v)),
        ("Parameters trained", f"{format_count(parameters)}{share}"),
        *((name.capitalize(), _settings(part[name])) for name in ("training", "privacy", "aggregation")),
        ("Seed", format_value(run.config.get("seed"))),
        ("Engine", format_value(run.result.engine)),
        ("Time in rounds", f"{run.result.seconds:.0f} s" if run.result.seconds is not None else ""),
        ("Versions", ", ".join(f"{name} {format_value(value)}" for name, value in run.versions.items())),
    ]
    return join(tag("h2", "What was run", id="run"), page.facts(rows))


def _named(run: RunFiles, name: str) -> str:
    """Return the name of an institution, with its name in the data if that is another."""
    return f"{name} ({run.names[name]})" if name in run.names else name


def _pooling(model: Mapping[str, Any]) -> str:
    words = [f"{format_value(model['pooling'])} pooling"] if model.get("pooling") else []
    words += [f"{format_value(model['max_tokens'])} tokens at most"] if model.get("max_tokens") else []
    return "; ".join([*words, *([format_value(model["dtype"])] if model.get("dtype") else [])])


def _settings(values: Mapping[str, Any]) -> str:
    named = ((key.replace("_", " "), value) for key, value in values.items() if value is not None)
    return ", ".join(f"{name} {format_value(value)}" for name, value in named)
