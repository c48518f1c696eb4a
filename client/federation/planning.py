"""What a run asks of this institution, and what it answers, before any model is loaded: no torch is needed here.

Everything is worked out from the run's configuration, the institution's settings and the number of its records or
customers; the last must decide nothing that the hub could read off an answer (see `_checked_delta`).
"""

import math

from client.institution.config import DataSettings, InstitutionConfig, InstitutionSettings
from common.config.run import RunConfig
from common.data.corpora import read_text_dataset
from common.data.datasets import Dataset, read_conll, read_examples
from common.data.tables import FORMATS
from common.privacy.accounting import DpSgdEvent, calibrate
from common.protocol.messages import RefusalCode
from common.tasks import Head, task

__all__ = [
    "UNDECLARED_UNITS",
    "AssignmentRefused",
    "assumed_units",
    "data_kind",
    "event_of_round",
    "probe_data",
    "read_for_run",
    "read_run_data",
    "sampling_rate",
    "select_rows",
    "steps_per_round",
]

UNDECLARED_UNITS = 1024
"""What sums are divided by, times q, at an institution that declares no size; right for about so many units."""


class AssignmentRefused(Exception):
    """The institution declines an assignment; only `code` is ever sent."""

    def __init__(self, code: RefusalCode, why: str) -> None:
        super().__init__(why)
        self.code = code


def select_rows(settings: InstitutionConfig, config: RunConfig) -> DataSettings:
    """The rows that a run may train on.

    Raises:
        Refused: the settings do not allow its task or base model, or name no rows for it.
    """
    data = settings.data
    if data is None:
        raise AssignmentRefused(RefusalCode.CONFIG, "no training rows are named in [data]")
    if config.task not in settings.tasks:
        raise AssignmentRefused(RefusalCode.TASK, f"the run's task, {config.task}, is not among [limits] tasks")
    kind = task(config.task)
    if not kind.head.is_language_modelling and kind.head is not data_kind(data):
        raise AssignmentRefused(RefusalCode.TASK, f"the run's task, {config.task}, cannot be trained on such rows")
    if config.model.base not in settings.model.allowed:
        raise AssignmentRefused(RefusalCode.BASE_MODEL, f"base model {config.model.base} is not among [model] allowed")
    return data


def data_kind(data: DataSettings) -> Head:
    """What the rows can train: a table of texts, or (any other file) sentences of words in CoNLL."""
    names = {suffix.lower() for suffix in data.train.suffixes}
    return Head.SEQUENCE if names & set(FORMATS) else Head.TOKEN


def read_run_data(data: DataSettings, labels: tuple[str, ...] | None = None) -> Dataset:
    """The institution's rows, checked; without `labels`, with those that the file has.

    Raises:
        DataError: see `common.data.datasets`.
    """
    if data_kind(data).labels_words:
        return read_conll(data.train, labels)
    return read_examples(data.train, data.text_column, data.label_column, labels, data.customer_column)


def probe_data(settings: InstitutionConfig, data: DataSettings) -> Dataset:
    """The rows before any run asks: as text where nothing but language modelling may be trained, else with labels.

    Raises:
        DataError: see `common.data.datasets`.
    """
    if all(task(name).head.is_language_modelling for name in settings.tasks):
        return read_text_dataset(data.train, data.text_column)
    return read_run_data(data)


def read_for_run(data: DataSettings, config: RunConfig) -> Dataset:
    """The rows as a run wants them: as text without labels for a language model, else by `read_run_data`.

    Raises:
        DataError: see `common.data.datasets`.
    """
    if task(config.task).head.is_language_modelling:
        return read_text_dataset(data.train, data.text_column)
    return read_run_data(data, config.labels or None)


def sampling_rate(config: RunConfig, units: int, settings: InstitutionSettings) -> float:
    """Poisson sampling probability q of every step: given by the run, or its expected batch over these units."""
    training = config.training
    if training.sampling_rate is not None:
        if training.sampling_rate * assumed_units(settings) < 1:
            unit = config.privacy.unit
            raise AssignmentRefused(
                RefusalCode.CONFIG, f"the run's sampling rate draws less than one {unit} a step of the declared size"
            )
        return training.sampling_rate
    if training.expected_batch_size is None or training.expected_batch_size > units:
        raise AssignmentRefused(RefusalCode.CONFIG, "the run's expected batch is larger than this institution's data")
    return training.expected_batch_size / units


def steps_per_round(config: RunConfig, rate: float) -> int:
    """Steps of one round; an epoch is 1/q expected batches."""
    training = config.training
    if training.local_steps is not None:
        return training.local_steps
    return max(1, math.ceil((training.local_epochs or 1.0) / rate))


def event_of_round(config: RunConfig, units: int, settings: InstitutionSettings) -> DpSgdEvent:
    """What one round over `units` records or customers costs, its noise calibrated by the institution itself.

    A target epsilon is met over `rounds x steps`: the most participation the hub could ask for, so no luck in
    being left out is counted on. Without privacy the event has no noise, and epsilon is infinite for ever after.

    Raises:
        Refused: the run asks for less privacy than the institution's settings allow.
    """
    privacy, rate = config.privacy, sampling_rate(config, units, settings)
    steps = steps_per_round(config, rate)
    if privacy.mode == "none":
        if not settings.allow_without_privacy:
            raise AssignmentRefused(
                RefusalCode.PRIVACY_LIMIT, "this institution does not train without differential privacy"
            )
        return DpSgdEvent(noise_multiplier=0.0, sampling_probability=1.0, steps=steps)
    if privacy.unit != settings.unit:
        kept = f"this institution's limits are for one {settings.unit}"
        raise AssignmentRefused(RefusalCode.PRIVACY_LIMIT, f"the run protects one {privacy.unit}, {kept}")
    delta = _checked_delta(privacy.delta, units, settings)
    noise = privacy.noise_multiplier
    if privacy.target_epsilon is not None:
        noise = calibrate(privacy.target_epsilon, delta, rate, steps * config.rounds)
    if noise is None or noise <= 0 or noise < settings.min_noise_multiplier:
        raise AssignmentRefused(RefusalCode.PRIVACY_LIMIT, "the run's noise is below this institution's minimum")
    return DpSgdEvent(noise_multiplier=noise, sampling_probability=rate, steps=steps)


def assumed_units(settings: InstitutionSettings) -> int:
    """The number of units that sums are divided by: the declared size band, and never anything counted.

    An update's noise shows what it was divided by. Where no band is declared, that is `UNDECLARED_UNITS` for everyone.
    """
    return settings.declared_units or UNDECLARED_UNITS


def _checked_delta(delta: float | None, units: int, settings: InstitutionSettings) -> float:
    """Delta below one over the units, by way of the officer's own where there is one.

    A hub that proposes one delta after another then learns the officer's, which was declared; the answers would
    otherwise count the units for it.
    """
    what = f"one over this institution's {settings.unit}s"
    if settings.delta is not None and settings.delta >= 1 / units:
        raise AssignmentRefused(RefusalCode.PRIVACY_LIMIT, f"limits.delta is not below {what}")
    if delta is None or delta >= 1 / units or (settings.delta is not None and delta > settings.delta):
        raise AssignmentRefused(
            RefusalCode.PRIVACY_LIMIT, f"the run's delta is above limits.delta, or not below {what}"
        )
    return delta
