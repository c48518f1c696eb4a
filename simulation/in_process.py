"""A whole federation as plain calls in one process: the same sealed bytes, the same `Agent.handle`, no network."""

import functools

from client.agent.agent import Agent
from common.errors import FedfinError
from server.results.evaluation import HubEvaluator
from server.rounds.checkpoint import RunState
from server.rounds.coordinator import Failure
from simulation.rounds import RoundObserver, coordinate
from simulation.workspace import Workspace

__all__ = ["InProcessTransport", "run_in_process"]


class InProcessTransport:
    """Hands each institution its sealed assignment and collects the sealed answers, one after another."""

    def __init__(self, agents: dict[str, Agent]) -> None:
        self._agents = agents

    def exchange(self, _round: int, sealed: dict[str, bytes], _deadline_s: float) -> dict[str, bytes | Failure]:
        """Ask every addressed institution; one that cannot answer becomes a `Failure` and the others go on."""
        answers: dict[str, bytes | Failure] = {}
        for name, assignment in sealed.items():
            try:
                answers[name] = self._agents[name].handle(assignment)
            except FedfinError as error:
                answers[name] = Failure("error", str(error))
        return answers


def run_in_process(workspace: Workspace, state: RunState, evaluator: HubEvaluator, progress: RoundObserver) -> RunState:
    """Every institution is an `Agent` in this process, asked one after another."""
    agents = {name: workspace.institution(name) for name in sorted(workspace.federation.train)}
    for name, agent in agents.items():
        agent.on_step = functools.partial(progress.steps, name)
    return coordinate(workspace, state, InProcessTransport(agents), evaluator, progress)
