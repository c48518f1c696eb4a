"""Checks of a simulation before a model is loaded. No torch is needed here, so that a mistake is named in a second."""

from client.federation.planning import event_of_round
from client.institution.config import (
    InstitutionConfig,
    LimitsConfig,
    LocalModelConfig,
    PersonalConfig,
    ReleaseConfig,
    power_of_two_at_most,
)
from common.base_models.provenance import refuse_private_base
from common.base_models.resolve import pinned
from common.errors import AssignmentRefused, ConfigurationError
from simulation.config import SimulationConfig
from simulation.partition import Federation

__all__ = ["check_run", "institution_settings"]


def check_run(simulation: SimulationConfig, federation: Federation) -> None:
    """Refuse a run that its institutions could not begin.

    Args:
        simulation: The run, and the decisions that its officers make alike.
        federation: The rows of each institution.

    Raises:
        ConfigurationError: The run does not fit the institutions or their rows, or its base model was trained on
            private text.
        ModelError: The base model is absent.
    """
    run = simulation.run
    quorum, number = run.aggregation.quorum, len(federation.train)
    if quorum > number:
        run.aggregation.refuse("quorum", f"is {quorum}, but {number} institutions take part: lower it")
    run.aggregation.check_institutions(number)
    pinned(run.model)
    refuse_private_base(run.model.base)
    for name, dataset in federation.train.items():
        try:
            event_of_round(run, institution_settings(simulation, federation, name), dataset.units(run.privacy.unit))
        except AssignmentRefused as refused:
            raise ConfigurationError(
                f"institution {name}: {refused} ({refused.code}): change the run, or leave it out"
            ) from None


def institution_settings(simulation: SimulationConfig, federation: Federation, name: str) -> InstitutionConfig:
    """Return the settings of one simulated institution, from the configuration's [institutions]."""
    decided, run = simulation.institutions, simulation.run
    unit, method = run.privacy.unit, run.personalisation.method
    units = federation.train[name].units(unit)
    return InstitutionConfig(
        name=name,
        model=LocalModelConfig(allowed=(run.model.base,)),
        limits=LimitsConfig(
            max_epsilon=decided.max_epsilon,
            max_epsilon_alone=decided.max_epsilon_alone,
            delta=run.privacy.delta,
            allow_without_privacy=run.privacy.mode == "none",
            unit=unit,
        ),
        release=ReleaseConfig(declared_units=power_of_two_at_most(units) if decided.declare_units else None),
        # In place of the officer's decision, a simulation allows the method of the run.
        personalisation=PersonalConfig(allowed=() if method == "none" else (method,), allow_without_noise=True),
        noise=decided.noise,
    )
