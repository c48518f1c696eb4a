"""What a run leaves for readers, deployed or simulated: its history, its result, the card of its adapter."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.adapters.adapted_model import AdaptedModel
from common.adapters.manifest import DESCRIPTION, Manifest, write_manifest
from common.adapters.settings import AdapterSettings
from common.config.run import RunConfig
from common.files import write_json
from common.protocol.adapter_codec import digest
from server.rounds import checkpoint
from server.rounds.checkpoint import RunState

__all__ = ["model_card", "result", "save_adapter", "save_round"]


def save_round(directory: Path, state: RunState) -> None:
    """Save the checkpoint; and, for readers, what was played and the attempts that fell short of the quorum."""
    checkpoint.save(state, directory / "checkpoint")
    rounds = sorted((*state.history, *state.missed), key=lambda record: record.round)
    write_json(directory / "history.json", [record.to_json() for record in rounds])


def save_adapter(
    directory: Path,
    config: RunConfig,
    adapted: AdaptedModel,
    card: Mapping[str, str],
    metrics: Mapping[str, float],
    epsilon: Mapping[str, float | None],
) -> None:
    """Save the adapter that `adapted` holds as PEFT does, with what `fedfin-institution predict` needs to load it.

    Args:
        epsilon: as in `result`; empty where nothing protects the rows.
    """
    recipe = Manifest(
        base_model=config.model.base,
        pooling=config.model.pooling,
        max_tokens=config.model.max_tokens,
        tasks={config.task: config.labels},
        adapter=AdapterSettings(method="lora", lora=config.adapter),
        seed=config.seed,
    )
    spent = [value for value in epsilon.values() if value is not None]
    privacy = {"epsilon": max(spent), "delta": config.privacy.delta, "unit": config.privacy.unit} if spent else None
    facts = {"strategy": "federated", "metrics": dict(metrics), "data": {}, "privacy": privacy}
    description = write_manifest(recipe, adapted.base.digest, facts)
    adapted.save_pretrained(directory / "adapter", card, {DESCRIPTION: description})


def result(
    directory: Path,
    config: RunConfig,
    state: RunState,
    adapted: AdaptedModel,
    metrics: Mapping[str, float],
    epsilon: Mapping[str, float | None],
    engine: str,
) -> dict[str, Any]:
    """What `result.json` holds of any run.

    Args:
        metrics: of the last adapter on the hub's test set; empty where it has none.
        epsilon: of this run, by institution, at the run's delta; None for a training without privacy.
    """
    return {
        "name": config.name,
        "task": config.task,
        **metrics,
        "rounds": len(state.history),
        "epsilon": dict(epsilon),
        "delta": config.privacy.delta,
        "bytes_up": sum(record.bytes_up for record in state.history),
        "bytes_down": sum(record.bytes_down for record in state.history),
        "seconds": round(sum(record.seconds for record in state.history), 2),
        "adapter": str(directory / "adapter"),
        "adapter_digest": digest(state.adapter),
        "labels": list(config.labels),
        "unit": config.privacy.unit,
        "adjacency": "add-or-remove-one",
        "parameters_trained": adapted.parameters_trained,
        "parameters_total": adapted.parameters_total,
        "engine": engine,
        "report": str(directory / "report.html"),
    }


def model_card(
    config: RunConfig, run: str, institutions: Sequence[str], metrics: Mapping[str, float], privacy: str
) -> dict[str, str]:
    """What the adapter's model card says about where it comes from.

    Args:
        institutions: that contributed to any round.
        privacy: what protects one unit of any institution, in words.
    """
    shown = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())
    return {
        "Task": f"{config.task}: {', '.join(config.labels)}",
        "Trained by": f"{len(institutions)} institutions, {config.rounds} rounds",
        "Run": run,
        "On the hub's test set": shown or "not evaluated",
        "Privacy": privacy,
    }
