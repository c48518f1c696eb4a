"""A whole federation as plain calls in one process: the same sealed bytes, the same `Agent.handle`, no network."""

from collections.abc import Callable

from client.agent import Agent
from common.errors import FedfinError
from server.coordinator import Failure

__all__ = ["InProcessTransport"]


class InProcessTransport:
    """Hands each institution its sealed assignment and collects the sealed answers, one after another."""

    def __init__(self, agents: dict[str, Agent], on_answer: Callable[[str], None] | None = None) -> None:
        self._agents = agents
        self._on_answer = on_answer

    def exchange(self, _round: int, sealed: dict[str, bytes], _deadline_s: float) -> dict[str, bytes | Failure]:
        """Ask every addressed institution; one that cannot answer becomes a `Failure` and the others go on."""
        answers: dict[str, bytes | Failure] = {}
        for name, assignment in sealed.items():
            try:
                answers[name] = self._agents[name].handle(assignment)
            except FedfinError as error:
                answers[name] = Failure("error", str(error))
            if self._on_answer is not None:
                self._on_answer(name)
        return answers
