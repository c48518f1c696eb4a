"""Further steps from the final global adapter, on the institution's own rows. Their result stays inside.

Accounting: the steps are DP-SGD with the noise and sampling of the rounds, and the ledger is charged for them before
the rows are touched, under the same run. A run with a target epsilon calibrates its noise over the steps of the rounds
and these together (`client.federation.planning.steps_of_run`), so that all of them stay within the target.

Without noise nothing is charged, because nothing leaves. The model is marked as unprotected.
"""

from dataclasses import replace

from client.federation.local_round import FederatedJob, charge_and_train, plan_training
from client.federation.planning import event_of_round

__all__ = ["train_further"]


def train_further(job: FederatedJob) -> None:
    """Train `job.model` in place.

    Raises:
        AssignmentRefused: The steps do not fit in the budget, or break a limit. Nothing was charged.
    """
    wanted, num_units = job.config.personalisation, job.data.units(job.config.privacy.unit)
    steps = wanted.steps or 0
    event = replace(event_of_round(job.config, job.institution, num_units), steps=steps)
    plan = plan_training(job.config, job.institution, num_units, job.round)
    rate = wanted.learning_rate
    plan = replace(
        plan,
        steps=steps,
        dp=None if plan.dp is None or wanted.without_noise else replace(plan.dp, steps=steps),
        learning_rate=rate or plan.learning_rate,
        head_learning_rate=rate or plan.head_learning_rate,
        adam_noise_correction=plan.adam_noise_correction and not wanted.without_noise,
    )
    charge_and_train(job, event, plan, num_units)
