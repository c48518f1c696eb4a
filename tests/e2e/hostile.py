"""An institution with a valid enrolment and bad intentions: its relay and node are real, its agent is this."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import TracebackType
from typing import Self

import grpc
import numpy as np

from client.institution.directory import InstitutionDirectory
from common.canonical import AGENT_METHOD
from common.config.run import RunConfig
from common.identity.keys import PrivateKeys
from common.protocol.adapter_codec import Spec, Tensors, decode, encode
from common.protocol.envelope import MessageContext, open_sealed, peek, seal
from common.protocol.messages import Assignment, Contribution, PrivacyStatement
from tests.e2e.deployed import Institution

Attack = Callable[["Question"], bytes]


class Question:
    """One assignment, opened, and the honest answer to it: the adapter as it came."""

    def __init__(self, sealed: bytes, home: InstitutionDirectory) -> None:
        self.keys, self.hub = home.keys(), home.package().hub
        context = peek(sealed)
        self.context = replace(context, kind="contribution", sender=self.keys.name, recipient=self.hub.name)
        expected = MessageContext(context.run_id, context.round, "assignment", self.hub.name, self.keys.name)
        self.assignment = Assignment.from_bytes(open_sealed(sealed, self.keys, self.hub, expected))
        self.spec = Spec.from_json(self.assignment.spec_json)
        self.adapter: Tensors = decode(self.assignment.adapter, self.spec)

    def contribution(self, adapter: bytes | None = None) -> Contribution:
        """The answer of an honest institution about `adapter`."""
        config = RunConfig.from_json(self.assignment.config_json)
        privacy, training = config.privacy, config.training
        assert privacy.noise_multiplier is not None
        assert privacy.delta is not None
        assert training.local_steps is not None
        statement = PrivacyStatement(
            privacy.noise_multiplier, privacy.clipping_norm, training.local_steps, privacy.delta, 1.0,
            sampling_probability=training.sampling_rate,
        )  # fmt: skip
        return Contribution(
            run_id=self.assignment.run_id,
            round=self.assignment.round,
            adapter=adapter if adapter is not None else encode(self.moved(1e-3)),
            spec_digest=self.spec.digest(),
            code_digest=self.assignment.code_digest,
            statement=statement,
            declared_units=None,
        )

    def moved(self, by: float) -> Tensors:
        """The adapter, every number `by` further, and another one in every round."""
        return {name: tensor + np.float32(by * self.assignment.round) for name, tensor in self.adapter.items()}

    def sealed(
        self, contribution: Contribution, context: MessageContext | None = None, keys: PrivateKeys | None = None
    ) -> bytes:
        return seal(contribution.to_bytes(), keys or self.keys, self.hub, context or self.context)


class HostileAgent:
    """Answers on the institution's socket, in round N with the N-th of its `attacks`. A context manager."""

    def __init__(self, institution: Institution) -> None:
        self._home = InstitutionDirectory(institution.directory)
        self.attacks: Sequence[Attack] = ()
        self._server = grpc.server(ThreadPoolExecutor(2), options=[("grpc.max_receive_message_length", -1)])
        self.answered: list[int] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        service, method = AGENT_METHOD.strip("/").split("/")
        handler = grpc.unary_unary_rpc_method_handler(self._handle)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
        self._home.run.mkdir(parents=True, exist_ok=True)
        self._home.socket.unlink(missing_ok=True)
        self._server.add_insecure_port(f"unix:{self._home.socket}")
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop(None)

    def _handle(self, sealed: bytes, _context: grpc.ServicerContext) -> bytes:
        question = Question(sealed, self._home)
        with self._lock:
            self.answered.append(question.assignment.round)
        return self.attacks[question.assignment.round - 1](question)
