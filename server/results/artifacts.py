"""Write the files of a run for readers, deployed or simulated: history, result and adapter with its model card."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from common.adapters.adapted_model import AdaptedModel
from common.adapters.manifest import DESCRIPTION, Manifest, write_manifest
from common.config.run import RunConfig
from common.errors import CheckpointError
from common.files import write_json
from common.protocol.adapter_codec import digest
from common.report.by_institution import figures_by_institution, little_say, losers, mean_shares, spreads
from common.report.formatting import format_epsilon
from common.report.records import Baseline, ResultRecord
from server.rounds import checkpoint
from server.rounds.checkpoint import RunState

__all__ = ["describe_protection", "model_card", "result", "save_adapter", "save_round"]


def save_round(directory: Path, state: RunState) -> None:
    """Save the checkpoint, and `history.json` with the finished rounds and the attempts that missed the quorum.

    Raises:
        CheckpointError: The disk refuses a write.
    """
    checkpoint.save(state, directory / "checkpoint")
    rounds = sorted((*state.history, *state.missed), key=lambda record: record.round)
    path = directory / "history.json"
    try:
        write_json(path, [record.to_json() for record in rounds])
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written ({error.strerror}): make room, then resume") from error


def save_adapter(
    directory: Path,
    config: RunConfig,
    adapted: AdaptedModel,
    card: Mapping[str, str],
    metrics: Mapping[str, float],
    epsilon: Mapping[str, float | None],
) -> None:
    """Save the adapter in `adapted` in PEFT's format, with the manifest that `fedfin-institution predict` needs.

    Args:
        directory: The run's directory.
        config: The run.
        adapted: The model with the adapter.
        card: Lines of the model card.
        metrics: On the hub's test set.
        epsilon: Of each institution, as in `result`. Empty if the rows are not protected.
    """
    manifest = Manifest(
        base_model=config.model.base,
        pooling=config.model.pooling,
        max_tokens=config.model.max_tokens,
        tasks={config.task: config.labels},
        adapter=config.adapter,
        seed=config.seed,
        answers=config.answers,
    )
    spent = [value for value in epsilon.values() if value is not None]
    privacy = {"epsilon": max(spent), "delta": config.privacy.delta, "unit": config.privacy.unit} if spent else None
    facts = {"strategy": "federated", "metrics": dict(metrics), "data": {}, "privacy": privacy}
    description = write_manifest(manifest, adapted.base.digest, facts)
    adapted.save_pretrained(directory / "adapter", card, {DESCRIPTION: description})


def result(
    directory: Path,
    config: RunConfig,
    state: RunState,
    adapted: AdaptedModel,
    metrics: Mapping[str, float],
    epsilon: Mapping[str, float | None],
    engine: str,
    baselines: tuple[Baseline, ...] = (),
    personal: Mapping[str, Mapping[str, float]] = MappingProxyType({}),
) -> ResultRecord:
    """Return the result of a finished run, deployed or simulated.

    Args:
        directory: The run's directory.
        config: The run.
        state: Its last state.
        adapted: The model with the adapter.
        metrics: Of the last adapter on the hub's test set. Empty without a test set.
        epsilon: Of each institution over this run, at the run's delta. None without privacy.
        engine: "deployed", "in-process" or "flower".
        baselines: Models that the federation is compared with.
        personal: Metrics of each institution's personal model. Empty without one, and in a deployed run.
    """
    alone = {row.name.removesuffix(" alone"): row.own for row in baselines if row.own}
    institutions = figures_by_institution(state.history, epsilon, alone, personal)
    return ResultRecord(
        name=config.name,
        task=config.task,
        metrics=dict(metrics),
        rounds=len(state.history),
        epsilon=dict(epsilon),
        delta=config.privacy.delta,
        bytes_up=sum(record.bytes_up for record in state.history),
        bytes_down=sum(record.bytes_down for record in state.history),
        seconds=round(sum(record.seconds for record in state.history), 2),
        adapter=str(directory / "adapter"),
        adapter_digest=digest(state.adapter),
        labels=config.labels,
        unit=config.privacy.unit,
        adjacency="add-or-remove-one",
        parameters_trained=adapted.parameters_trained,
        parameters_total=adapted.parameters_total,
        engine=engine,
        baselines=baselines,
        institutions=institutions,
        over_institutions=spreads(institutions),
        little_say=little_say(mean_shares(state.history)),
        losers=losers(institutions),
        report=str(directory / "report.html"),
    )


def model_card(
    config: RunConfig, run: str, institutions: Sequence[str], metrics: Mapping[str, float], privacy: str
) -> dict[str, str]:
    """Return the lines of the adapter's model card about its origin.

    Args:
        config: The run.
        run: Name of the run.
        institutions: Names of those that contributed to any round.
        metrics: On the hub's test set.
        privacy: The protection of one unit, as `describe_protection` gives it.
    """
    shown = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())
    return {
        "Task": f"{config.task}: {', '.join(config.labels)}" if config.labels else config.task,
        "Trained by": f"{len(institutions)} institutions, {config.rounds} rounds",
        "Run": run,
        "On the hub's test set": shown or "not evaluated",
        "Privacy": privacy,
    }


def describe_protection(
    config: RunConfig,
    epsilon: Mapping[str, float | None],
    fixed_noise: bool = False,
    alone: Mapping[str, float] = MappingProxyType({}),
) -> str:
    """Return the privacy of a run as one phrase for the model card.

    Args:
        config: The run.
        epsilon: Epsilon of each institution over this run, at the run's delta. None without privacy.
        fixed_noise: Whether the noise came from a seed. Then nothing is protected.
        alone: The same epsilon without the noise of other institutions. Empty without secure aggregation.
    """
    privacy = config.privacy
    spent = [value for value in epsilon.values() if value is not None]
    if privacy.mode == "none" or not spent:
        return "none: trained without differential privacy"
    if fixed_noise:
        return "none: the noise came from a fixed seed"
    figure = f"epsilon {format_epsilon(max(spent))} at delta {privacy.delta:g} for one {privacy.unit}"
    if not alone:
        return f"{figure}, the largest of any institution"
    return (
        f"{figure}, if {config.aggregation.honest} institutions of each sum keep their noise to themselves, and "
        f"{format_epsilon(max(alone.values()))} for one whose others all work with the hub"
    )
