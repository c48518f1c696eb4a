"""One institution's summand of a round: noised integers of one step, in the order in which tensors travel."""

import numpy as np
from numpy.typing import NDArray

from client.dp.pause import Pausing
from client.dp.plan import SumRelease, optimizer_for
from client.federation.local_round import FederatedJob, RoundAnswer, pausing_run, plan_training
from common.errors import AssignmentRefused, ConfigurationError
from common.protocol.messages import RefusalCode
from common.secure_aggregation.sums import SumRange, grid_step

__all__ = ["noised_sum", "range_of_sums"]


def range_of_sums(job: FederatedJob, bits: int, institutions: int) -> SumRange:
    """Return the range that holds this institution's integers.

    Args:
        job: The round.
        bits: Width of the sums.
        institutions: Number of institutions in the roster.

    Raises:
        AssignmentRefused: The run's noise does not go with it, or the institution's limits forbid the run.
    """
    dp = plan_training(job.config, job.institution, job.data.units(job.config.privacy.unit), job.round).dp
    if dp is None:
        raise AssignmentRefused(RefusalCode.CONFIG, "secure aggregation adds up noised integers, and the run has none")
    try:
        return SumRange.of(bits, institutions, dp.noise_multiplier * dp.clipping_norm / grid_step(dp.clipping_norm))
    except ConfigurationError as error:
        raise AssignmentRefused(RefusalCode.CONFIG, str(error)) from error


def noised_sum(job: FederatedJob, range_: SumRange) -> Pausing[tuple[RoundAnswer, NDArray[np.int64]]]:
    """Charge and train one round, whose one step is not taken. It pauses: see `client.dp.pause`.

    Returns:
        The answer, and the noised integers, (P,), in order of the names of the tensors.

    Raises:
        AssignmentRefused: See `client.federation.local_round.run`.
    """
    sums: list[NDArray[np.int64]] = []
    answer = yield from pausing_run(job, SumRelease(range_.largest, sums.append))
    if len(sums) != 1:
        raise AssignmentRefused(RefusalCode.CONFIG, "with secure aggregation a round has one local step")
    names = {id(parameter): name for name, parameter in job.model.trainable().items()}
    plan = plan_training(job.config, job.institution, job.data.units(job.config.privacy.unit), job.round)
    parameters = [p for group in optimizer_for(job.model, plan).param_groups for p in group["params"]]
    ends = np.cumsum([p.numel() for p in parameters])[:-1]
    by_name = {names[id(p)]: part for p, part in zip(parameters, np.split(sums[0], ends), strict=True)}
    return answer, np.concatenate([by_name[name] for name in sorted(by_name)])
