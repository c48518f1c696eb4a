"""Checks of a run's request before any model is loaded. No torch is needed here.

Everything is worked out from the run's configuration, the institution's settings and the number of its records or
customers. The number must decide nothing that the hub could read off an answer (see `client.institution.limits`).
"""

import math
from dataclasses import replace

from client.institution.config import DataConfig, InstitutionConfig
from client.institution.limits import ProposedTraining, check_limits
from common.config.run import RunConfig
from common.data.corpora import read_text_dataset
from common.data.datasets import Dataset
from common.data.files import OPENERS, is_conll, opener_of
from common.data.raw_text import file_kind
from common.data.reading import log_notes, to_dataset
from common.data.records import Columns, Records, read_records
from common.errors import AssignmentRefused, DataError
from common.privacy.accounting import DpSgdEvent, calibrate
from common.privacy.charges import alone
from common.protocol.messages import RefusalCode
from common.spelling import plain_answer
from common.tasks import Head, task

__all__ = [
    "event_of_round",
    "own_labels",
    "probe_data",
    "propose_training",
    "read_for_run",
    "sampling_rate",
    "select_rows",
    "steps_of_run",
    "steps_per_round",
]


def select_rows(institution: InstitutionConfig, config: RunConfig) -> DataConfig:
    """Return the rows that a run may train on. No row is read.

    Raises:
        AssignmentRefused: The institution's limits do not allow the run, or its data cannot train the run's task.
    """
    check_limits(institution, propose_training(config))
    data = institution.data
    if data is None:
        raise AssignmentRefused(RefusalCode.CONFIG, "no training rows are named in [data]: name them")
    head = task(config.task).head
    if not head.is_language_modelling and not _may_hold(data, head):
        raise AssignmentRefused(
            RefusalCode.TASK, f"the run's task, {config.task}, cannot be trained on rows of this kind of file"
        )
    if head.is_linear and not config.labels:
        raise AssignmentRefused(RefusalCode.CONFIG, "the run does not say which labels there are")
    names_customers = data.customer_column is not None or is_conll(data.train, head)
    if config.privacy.unit == "customer" and (head.is_language_modelling or not names_customers):
        raise AssignmentRefused(
            RefusalCode.CONFIG, "the run protects customers, but no column of the data names them: set customer_column"
        )
    for kind in sorted(config.answers.keys() & data.answers.keys()):
        if {*map(plain_answer, config.answers[kind])} != {*map(plain_answer, data.answers[kind])}:
            raise AssignmentRefused(
                RefusalCode.CONFIG,
                f'the run and this institution\'s [data.answers] declare different answers of kind "{kind}": agree on '
                "one set",
            )
    return data


def _may_hold(data: DataConfig, head: Head) -> bool:
    """Return whether files of this format can hold rows of a kind of task. No file is opened."""
    return opener_of(data.train, head) is not None or data.train.is_dir()


def probe_data(institution: InstitutionConfig, data: DataConfig) -> Dataset:
    """Read the rows before any run asks for them: as text if only language modelling is allowed, otherwise with labels.

    Raises:
        DataError: The file cannot be read, or a row cannot be used, see `common.data.reading`.
    """
    allowed = {task(name).head for name in institution.limits.tasks}
    if all(head.is_language_modelling for head in allowed):
        return read_text_dataset(data.train, data.text_column)
    labelled = [head for head in Head if not head.is_language_modelling and head in allowed and _may_hold(data, head)]
    faults: list[DataError] = []
    for head in labelled or [Head.SEQUENCE]:
        try:
            records = _read_records(data, head)
            return to_dataset(records, head, numbered=data.labels)
        except DataError as fault:
            faults.append(fault)
    raise faults[0] if file_kind(data.train) in OPENERS else faults[-1]


def own_labels(data: DataConfig, config: RunConfig) -> tuple[str, ...]:
    """Return the labels that an institution trains: those of the run, or with own heads those that it declares."""
    return data.labels or config.labels if config.personalisation.method == "head" else config.labels


def read_for_run(data: DataConfig, config: RunConfig, labels: tuple[str, ...] | None = None) -> Dataset:
    """Read the rows that a run may train on. They may be none.

    For a language model these are all texts. Otherwise each row with a label or an answer that the run does not have is
    left out. That is a decision about each row alone, so that no answer to the hub shows whether some row carries one.

    Args:
        labels: See `own_labels`. None works them out.

    Raises:
        DataError: The file cannot be read, or a row cannot be used, see `common.data.reading`. Neither depends on the
            labels of the run.
    """
    head = task(config.task).head
    if head.is_language_modelling:
        return read_text_dataset(data.train, data.text_column)
    records = _read_records(data, head)
    known = own_labels(data, config) if labels is None else labels
    rows = to_dataset(
        records, head, known, numbered=data.labels, leave_out_others=True, answers=config.answers or data.answers
    )
    log_notes(rows)
    return rows


def _read_records(data: DataConfig, head: Head) -> Records:
    """Read all labelled rows of the institution.

    Raises:
        DataError: See `read_for_run`. Also if all rows carry one label.
    """
    columns = Columns(text=data.text_column, label=data.label_column, customer=data.customer_column)
    records = read_records(data.train, head, columns)
    labels = {label for row in records.rows for label in (row.label if head.labels_words else (row.label,))}
    if head.is_linear and len(labels) < 2:
        raise DataError(f"{records.name}: all rows carry one label: give at least two labels to tell apart")
    return records


def propose_training(config: RunConfig, num_units: int | None = None) -> ProposedTraining:
    """Return the facts about one round of a run that the institution's limits concern.

    Args:
        num_units: Number of records or customers. None if the rows are not read yet.
    """
    privacy = config.privacy
    return ProposedTraining(
        tasks=(config.task,),
        base_model=config.model.base,
        private=privacy.mode != "none",
        unit=privacy.unit,
        delta=privacy.delta,
        noise_multiplier=None if privacy.mode == "none" else privacy.noise_multiplier,
        num_units=num_units,
        personal=config.personalisation.method,
        unnoised_part=config.personalisation.is_unnoised,
    )


def sampling_rate(config: RunConfig, institution: InstitutionConfig, num_units: int) -> float:
    """Return the probability q with which every step draws each unit.

    With privacy the run fixes q. Without, q may follow from the run's expected batch and the number of units.

    Raises:
        AssignmentRefused: A step would draw less than one unit of the declared size, or more units than there are.
    """
    training = config.training
    if training.sampling_rate is not None:
        if training.sampling_rate * institution.assumed_units < 1:
            unit = config.privacy.unit
            raise AssignmentRefused(
                RefusalCode.CONFIG, f"the run's sampling rate draws less than one {unit} a step of the declared size"
            )
        return training.sampling_rate
    if training.expected_batch_size is None or training.expected_batch_size > num_units:
        raise AssignmentRefused(RefusalCode.CONFIG, "the run's expected batch is larger than this institution's data")
    return training.expected_batch_size / num_units


def steps_per_round(config: RunConfig, rate: float) -> int:
    """Return the number of steps of one round. An epoch is 1/q steps."""
    training = config.training
    if training.local_steps is not None:
        return training.local_steps
    return max(1, math.ceil((training.local_epochs or 1.0) / rate))


def steps_of_run(config: RunConfig, steps: int) -> int:
    """Return the number of steps of a whole run: those of all rounds, and the private ones of the personal part.

    "head" and "proximal" need none of their own. The head is trained by the steps whose adapter travels, under one
    clip. The own adapter of "proximal" is computed from the same noised sums as the one that travels.

    Args:
        steps: Number of steps of one round.
    """
    return steps * config.rounds + config.personalisation.noised_steps


def event_of_round(config: RunConfig, institution: InstitutionConfig, num_units: int) -> DpSgdEvent:
    """Return the mechanism of one round, with noise that the institution calibrates itself.

    A target epsilon is met over `steps_of_run`, which is the most participation that the hub could ask for. With
    privacy nothing in the event depends on the rows. Without privacy the event has no noise, so epsilon is infinite
    from then on. Its sampling probability is q all the same. With secure aggregation its noise is that of
    `aggregation.honest` institutions together.

    Args:
        num_units: Number of records or customers.

    Raises:
        AssignmentRefused: The run breaks one of the institution's limits, see `check_limits`.
    """
    training = propose_training(config, num_units)
    check_limits(institution, training)
    rate = sampling_rate(config, institution, num_units)
    steps = steps_per_round(config, rate)
    if not training.private:
        return DpSgdEvent(noise_multiplier=0.0, sampling_probability=rate, steps=steps)
    noise = config.privacy.noise_multiplier
    if config.privacy.target_epsilon is not None:
        noise = calibrate(config.privacy.target_epsilon, config.privacy.delta or 0.0, rate, steps_of_run(config, steps))
    event = DpSgdEvent(noise_multiplier=noise or 0.0, sampling_probability=rate, steps=steps)
    own = alone(event, config.aggregation.honest).noise_multiplier
    check_limits(institution, replace(training, noise_multiplier=own))
    return event
