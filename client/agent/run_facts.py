"""The facts of an institution's own record of a federated run."""

from dataclasses import asdict
from typing import Any

from client.federation.local_round import RoundAnswer
from common.adapters.adapted_model import AdaptedModel
from common.config.adapter import adapter_record
from common.config.run import RunConfig

__all__ = ["run_facts"]


def run_facts(run_id: str, config: RunConfig, model: AdaptedModel, answer: RoundAnswer) -> dict[str, Any]:
    """Return the facts of a round, with the keys of a training alone.

    Args:
        run_id: Name of the run.
        config: The run.
        model: The model that was trained.
        answer: Result of the round. With secure aggregation both of its figures are facts.
    """
    statement = answer.statement
    training = {name: value for name, value in asdict(config.training).items() if value is not None}
    privacy = None if statement is None else asdict(statement)
    if privacy is not None and config.aggregation.secure:
        privacy |= {"honest": config.aggregation.honest, "epsilon_alone": answer.epsilon_alone}
    return {
        "strategy": "federated",
        "run": run_id,
        "tasks": [config.task],
        "method": config.adapter.method,
        "base_model": config.model.base,
        "settings": adapter_record(config.adapter) | training | {"seed": config.seed, "rounds": config.rounds},
        "metrics": {},
        "trainable_parameters": model.parameters_trained,
        "total_parameters": model.parameters_total,
        "privacy": privacy,
    }
