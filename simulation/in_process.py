"""Run a whole federation as plain calls in one process: the same sealed bytes and agents, without a network."""

import functools

from client.agent.agent import Agent
from common.errors import FedfinError
from common.journal.journal import Journal
from common.protocol.outcomes import RoundOutcome
from common.report.records import RoundRecord
from server.results.artifacts import save_round
from server.results.evaluation import HubEvaluator
from server.rounds import coordinator
from server.rounds.checkpoint import RunState
from server.rounds.coordinator import Failure, Transport
from simulation.workspace import Workspace

__all__ = ["InProcessTransport", "RoundObserver", "coordinate", "run_in_process"]


class RoundObserver:
    """The calls that a simulation makes while it runs. This one ignores them. Subclasses show them."""

    def steps(self, institution: str, done: int, total: int) -> None:
        """Take note of `done` of `total` training steps of this round at `institution`."""

    def round(self, record: RoundRecord) -> None:
        """Take note of a finished round."""

    def stage(self, text: str) -> None:
        """Take note of the beginning of a longer step, such as writing the report."""


class InProcessTransport:
    """Hands each institution its sealed assignment and collects the sealed answers, one after another.

    Args:
        agents: The institutions' agents, by name.
    """

    def __init__(self, agents: dict[str, Agent]) -> None:
        self._agents = agents

    def exchange(self, _round: int, sealed: dict[str, bytes], _deadline_s: float) -> dict[str, bytes | Failure]:
        """Return each institution's sealed answer. One that cannot answer becomes a `Failure`, and the others go on."""
        answers: dict[str, bytes | Failure] = {}
        for name, assignment in sealed.items():
            try:
                answers[name] = self._agents[name].handle(assignment)
            except FedfinError as error:
                answers[name] = Failure(RoundOutcome.FAILED_ERROR, str(error))
        return answers


def coordinate(
    workspace: Workspace, state: RunState, transport: Transport, evaluator: HubEvaluator, observer: RoundObserver
) -> RunState:
    """Run the hub's round loop over `transport`, with audit log and checkpoint in the run's directory.

    Raises:
        QuorumError: Too few institutions contributed to a round. The state is saved.
        CheckpointError: The state does not fit the run.
    """
    with Journal.open(workspace.out / "audit.jsonl", workspace.hub_keys) as journal:
        return coordinator.run(
            state,
            workspace.hub(),
            transport,
            # With own heads there is no global model to evaluate.
            evaluate=evaluator if workspace.config.personalisation.method != "head" else lambda _: None,
            save=functools.partial(save_round, workspace.out),
            audit=lambda kind, body: journal.append(kind, body),
            on_round=observer.round,
        )


def run_in_process(workspace: Workspace, state: RunState, evaluator: HubEvaluator, observer: RoundObserver) -> RunState:
    """Run the remaining rounds with every institution as an `Agent` of this process.

    Raises:
        QuorumError: As in `coordinate`.
    """
    agents = {name: workspace.institution(name) for name in sorted(workspace.federation.train)}
    for name, agent in agents.items():
        agent.on_step = functools.partial(observer.steps, name)
    return coordinate(workspace, state, InProcessTransport(agents), evaluator, observer)
