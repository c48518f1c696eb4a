"""Run a whole federation as plain calls in one process: the same sealed bytes and agents, without a network."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace

from client.agent.agent import Agent
from common.errors import CheckpointError, FedfinError
from common.events import Observer, StepEvent, tell_step
from common.journal.journal import Journal
from common.protocol.outcomes import RoundOutcome
from server.results.artifacts import save_round
from server.results.evaluation import HubEvaluator
from server.rounds import coordinator
from server.rounds.admission import Failure
from server.rounds.assignments import assignments
from server.rounds.checkpoint import RunState
from server.rounds.coordinator import Transport
from simulation.together import answer_together
from simulation.workspace import Workspace

__all__ = ["InProcessTransport", "Named", "coordinate", "run_in_process"]


class Named(Observer):
    """Passes the steps of one institution on, with its name."""

    def __init__(self, institution: str, observers: Sequence[Observer]) -> None:
        self._institution, self._observers = institution, observers

    def on_step(self, event: StepEvent) -> None:
        """Pass the step on."""
        tell_step(self._observers, replace(event, institution=self._institution))


class InProcessTransport:
    """Hands each institution its sealed assignment and collects the sealed answers.

    The gradients of institutions that train from the same adapter are computed together (`simulation.together`).

    Args:
        agents: The institutions' agents, by name.
    """

    def __init__(self, agents: dict[str, Agent]) -> None:
        self._agents = agents

    def exchange(self, _round: int, sealed: Mapping[str, bytes], _deadline_s: float) -> dict[str, bytes | Failure]:
        """Return each institution's sealed answer. One that cannot answer becomes a `Failure`, and the others go on."""
        ended = answer_together({name: self._agents[name].answering(question) for name, question in sealed.items()})
        return {
            name: Failure(RoundOutcome.FAILED_ERROR, str(answer)) if isinstance(answer, FedfinError) else answer
            for name, answer in ended.items()
        }


def coordinate(
    workspace: Workspace, state: RunState, transport: Transport, evaluator: HubEvaluator, observers: Sequence[Observer]
) -> RunState:
    """Run the hub's round loop over `transport`, with audit log and checkpoint in the run's directory.

    Raises:
        QuorumError: Too few institutions contributed to a round. The state is saved.
        CheckpointError: The state does not fit the run, or institutions have answered its round to other code.
    """
    _refuse_lost_answers(workspace, state)
    with Journal.open(workspace.out / "audit.jsonl", workspace.hub_keys) as journal:
        return coordinator.run(
            state,
            workspace.hub(),
            transport,
            # With own heads there is no global model to evaluate.
            evaluate=evaluator if workspace.config.personalisation.method != "head" else lambda _: None,
            save=functools.partial(save_round, workspace.out),
            audit=lambda kind, body: journal.append(kind, body),
            observers=observers,
        )


def _refuse_lost_answers(workspace: Workspace, state: RunState) -> None:
    """Refuse to go on without contributions that an uninterrupted run would have.

    An institution answers no round twice. If the code changed after it answered the round that is due, its answer does
    not count, and the next one would be refused as a replay.
    """
    written = assignments(state, workspace.hub(), tuple(sorted(workspace.federation.train)))
    lost = [name for name, assignment in written.items() if workspace.institution(name).is_replay(assignment)]
    if lost:
        raise CheckpointError(
            f"{workspace.out}: {', '.join(lost)} answered round {state.next_round} under other code or from another "
            "checkpoint, and no round is answered twice: resume with that code, or start a new run"
        )


def run_in_process(
    workspace: Workspace, state: RunState, evaluator: HubEvaluator, observers: Sequence[Observer]
) -> RunState:
    """Run the remaining rounds with every institution as an `Agent` of this process.

    Raises:
        QuorumError: As in `coordinate`.
    """
    agents = {name: workspace.institution(name) for name in sorted(workspace.federation.train)}
    for name, agent in agents.items():
        agent.observers = (Named(name, observers),)
    return coordinate(workspace, state, InProcessTransport(agents), evaluator, observers)
