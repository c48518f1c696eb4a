"""The hub's rounds in a run's directory, over any transport, and who is told of them."""

import functools

from common.journal.journal import Journal
from server.results.artifacts import save_round
from server.results.evaluation import HubEvaluator
from server.rounds import coordinator
from server.rounds.checkpoint import RoundRecord, RunState
from server.rounds.coordinator import Transport
from simulation.workspace import Workspace

__all__ = ["RoundObserver", "coordinate"]


class RoundObserver:
    """What a command shows while it runs; this one shows nothing."""

    def steps(self, institution: str, done: int, total: int) -> None:
        """`done` of `total` training steps of this round are finished at `institution`."""

    def round(self, record: RoundRecord) -> None:
        """A round has ended."""

    def stage(self, text: str) -> None:
        """Something longer begins."""


def coordinate(
    workspace: Workspace, state: RunState, transport: Transport, evaluator: HubEvaluator, progress: RoundObserver
) -> RunState:
    """The hub's round loop over any transport, with the audit log and the checkpoint in the run's directory."""
    with Journal.open(workspace.out / "audit.jsonl", workspace.hub_keys) as journal:
        return coordinator.run(
            state,
            workspace.hub(),
            transport,
            evaluate=evaluator,
            save=functools.partial(save_round, workspace.out),
            audit=lambda kind, body: journal.append(kind, body),
            on_round=progress.round,
        )
