"""A summand follows the order of the tensors, has its part of the noise, and is charged with both figures."""

import math
from typing import Any

import numpy as np
import pytest

from client.dp.pause import Pausing, to_end
from client.federation.local_round import run
from client.federation.secure_sum import noised_sum, range_of_sums
from common.errors import AssignmentRefused
from common.privacy.ledger import PrivacyLedger
from common.secure_aggregation.sums import SumRange, grid_step
from simulation.workspace import Workspace
from tests.simulation.helpers import write_simulation


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    directory = tmp_path_factory.mktemp("run")
    extra = "[aggregation]\nsecure = true\nhonest = 2\nthreshold = 2\n"
    return Workspace.create(write_simulation(directory, local_steps=1, extra=extra), directory / "out")


def with_job(workspace: Workspace, use: Any) -> Any:
    agent = workspace.institution("north")
    from common.protocol.messages import Assignment

    question = Assignment("run", 1, workspace.config.to_json(), "{}", b"", "0" * 64)
    with PrivacyLedger.open(agent.directory / "ledger.jsonl", agent.keys, begun=True) as ledger:
        local = agent.prepare(workspace.config)
        local.adapted.load(local.adapted.initial())
        return use(agent._job(question, workspace.config, local, ledger))


def test_the_noise_of_a_summand_is_its_part_of_the_whole(workspace: Workspace) -> None:
    """With a range of one step the sums are next to nothing, so that the noise alone is left."""

    def use(job: Any) -> None:
        answer, sums = to_end(noised_sum(job, SumRange(64, 1)))
        (charge,) = job.ledger.charges
        step, norm = grid_step(0.5), 0.5
        expected = charge.event.noise_multiplier / math.sqrt(2) * norm / step
        assert sums.shape == (job.model.parameters_trained,)
        # 5 standard errors of an estimated deviation.
        assert abs(sums.std() / expected - 1) < 5 / math.sqrt(2 * sums.size)
        assert answer.statement is not None
        assert answer.statement.noise_multiplier == charge.event.noise_multiplier
        assert answer.epsilon_alone == job.ledger.epsilon_alone(1e-4) > answer.statement.epsilon

    with_job(workspace, use)


def test_a_summand_is_in_the_order_in_which_tensors_travel(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def use(job: Any) -> None:
        marks = {id(p): float(place) for place, p in enumerate(job.model.trainable().values())}

        def marked(_job: Any, release: Any) -> Pausing[str]:
            from client.dp.plan import optimizer_for
            from client.federation.local_round import plan_training

            plan = plan_training(job.config, job.institution, 40)
            groups = optimizer_for(job.model, plan).param_groups
            parameters = [p for group in groups for p in group["params"]]
            release.receive(np.concatenate([np.full(p.numel(), marks[id(p)]) for p in parameters]).astype(np.int64))
            return "answer"
            yield

        monkeypatch.setattr("client.federation.secure_sum.pausing_run", marked)
        _, sums = to_end(noised_sum(job, SumRange(32, 1)))
        expected = [np.full(math.prod(shape), place) for place, (_, shape, _) in enumerate(job.model.spec.tensors)]
        assert np.array_equal(sums, np.concatenate(expected))

    with_job(workspace, use)


def test_the_range_leaves_room_for_the_noise_and_an_update_never_leaves_plain(workspace: Workspace) -> None:
    def use(job: Any) -> None:
        before = job.ledger.charges
        assert range_of_sums(job, 32, 3).largest < 2**31 // 3
        with pytest.raises(AssignmentRefused, match="use 32 or 64"):
            range_of_sums(job, 16, 3)
        with pytest.raises(AssignmentRefused, match="under secure aggregation, or not at all"):
            run(job)
        assert job.ledger.charges == before

    with_job(workspace, use)
