"""A federation of institutions that train in NumPy, through the real envelope, codec and messages."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from common.config.run import RunConfig, parse_run
from common.identity.keys import PrivateKeys
from common.protocol.adapter_codec import Spec, Tensors, decode, digest
from common.protocol.envelope import MessageContext, PublicKeys, open_sealed, seal
from common.protocol.messages import Assignment, Contribution, PrivacyStatement, Receipt
from common.protocol.updates import encode_update
from common.source import code_digest
from server.rounds import coordinator
from server.rounds.admission import Failure
from server.rounds.assignments import FederationContext
from server.rounds.checkpoint import RunState
from server.rounds.coordinator import Evaluation

RUN_ID = "run-1"
Reply = bytes | Failure | None
Meddle = Callable[["Institution", int, bytes], Reply]


def initial() -> Tensors:
    """A small adapter of two tensors."""
    rng = np.random.default_rng(7)
    return {
        name: rng.normal(size=shape).astype(np.float32) for name, shape in (("a.weight", (4, 3)), ("b.weight", (5,)))
    }


def trained(name: str, round_: int, start: Tensors) -> Tensors:
    """The adapter that `name` makes of the global one: half way to a place of its own, and noise of its own."""
    seed = int.from_bytes(hashlib.sha256(f"{name}|{round_}".encode()).digest()[:8], "big")
    rng = np.random.default_rng(seed)
    return {n: (0.5 * v + rng.normal(size=v.shape)).astype(np.float32) for n, v in start.items()}


@dataclass
class Institution:
    """Opens assignments with its own keys, and answers a repeated question with the bytes of its first answer."""

    keys: PrivateKeys
    hub: PublicKeys
    band: int | None = None
    statement: PrivacyStatement | None = None
    outbox: dict[bytes, bytes] = field(default_factory=dict)
    questions: list[tuple[int, bytes]] = field(default_factory=list)

    train = staticmethod(trained)

    def answer(self, round_: int, sealed: bytes) -> bytes:
        context = MessageContext(RUN_ID, round_, "assignment", self.hub.name, self.keys.name)
        payload = open_sealed(sealed, self.keys, self.hub, context)
        self.questions.append((round_, payload))
        if payload not in self.outbox:
            question = Assignment.from_bytes(payload)
            if question.round > RunConfig.from_json(question.config_json).rounds:
                self.outbox[payload] = self.reseal(Receipt(question.run_id, question.round), "receipt")
            else:
                self.outbox[payload] = self.reseal(self.contribution(question))
        return self.outbox[payload]

    def contribution(self, question: Assignment) -> Contribution:
        spec = Spec.from_json(question.spec_json)
        here = decode(question.adapter, spec)
        adapter = trained(self.keys.name, question.round, here)
        numbers = RunConfig.from_json(question.config_json).aggregation.update_dtype
        return Contribution(
            run_id=question.run_id,
            round=question.round,
            adapter=encode_update(adapter, here, numbers),
            spec_digest=spec.digest(),
            code_digest=code_digest(),
            statement=self.statement,
            declared_units=self.band,
        )

    def reseal(self, message: Any, kind: str = "contribution", keys: PrivateKeys | None = None, **place: Any) -> bytes:
        """Seal any message, by default as and where it belongs. `keys` signs as somebody else."""
        context = MessageContext(RUN_ID, message.round, kind, self.keys.name, self.hub.name)
        return seal(message.to_bytes(), keys or self.keys, self.hub, replace(context, **place))


@dataclass
class Federation:
    """`meddle` replaces an institution's reply (None: no reply). `order` shuffles replies. `extra` adds some."""

    config: RunConfig
    hub_keys: PrivateKeys
    institutions: dict[str, Institution]
    meddle: dict[str, Meddle] = field(default_factory=dict)
    order: Callable[[list[str]], Iterable[str]] = list
    extra: dict[str, Reply] = field(default_factory=dict)
    states: list[RunState] = field(default_factory=list)
    log: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    evaluated: list[str] = field(default_factory=list)
    approved: dict[str, int] = field(default_factory=dict)

    @property
    def hub(self) -> FederationContext:
        public = {name: institution.keys.public for name, institution in self.institutions.items()}
        return FederationContext(self.hub_keys, public, self.config, Spec.of(initial()), self.approved)

    def start(self) -> RunState:
        return RunState(run_id=RUN_ID, config_digest=self.config.digest(), next_round=1, adapter=initial())

    def exchange(self, round_: int, sealed: dict[str, bytes], deadline_s: float) -> dict[str, bytes | Failure]:
        replies: dict[str, Reply] = {}
        for name in sealed:
            honest = self.institutions[name].answer(round_, sealed[name])
            replies[name] = (
                self.meddle[name](self.institutions[name], round_, honest) if name in self.meddle else honest
            )
        replies |= self.extra
        return {name: reply for name in self.order(list(replies)) if (reply := replies[name]) is not None}

    def evaluate(self, adapter: Tensors) -> Evaluation:
        self.evaluated.append(digest(adapter))
        figures = {"accuracy": float(np.tanh(adapter["b.weight"].sum()))}
        return Evaluation(figures, {"bank-a": figures})

    def save(self, state: RunState) -> None:
        self.states.append(state)

    def audit(self, kind: str, body: dict[str, Any]) -> None:
        self.log.append((kind, body))

    def run(self, state: RunState | None = None, **replaced: Any) -> RunState:
        calls = {"evaluate": self.evaluate, "save": self.save, "audit": self.audit, **replaced}
        return coordinator.run(state or self.start(), self.hub, self, **calls)


@pytest.fixture(scope="session")
def all_keys() -> dict[str, PrivateKeys]:
    return {name: PrivateKeys.generate(name) for name in ("hub", "stranger", *(f"bank-{c}" for c in "abcdef"))}


@pytest.fixture
def federate(all_keys: dict[str, PrivateKeys]) -> Callable[..., Federation]:
    """Make a federation of the first `banks` banks. Other arguments are sections of the run's configuration."""

    def make(banks: int = 3, rounds: int = 3, **sections: dict[str, Any]) -> Federation:
        config = {
            "run": {"name": "test", "seed": 11, "rounds": rounds},
            "task": {"name": "sentiment_analysis", "labels": ["negative", "neutral", "positive"]},
            "training": {"local_steps": 1, "sampling_rate": 0.1, "learning_rate": 1.0},
            "privacy": {"mode": "none"},
            **sections,
        }
        hub = all_keys["hub"]
        institutions = {f"bank-{c}": Institution(all_keys[f"bank-{c}"], hub.public) for c in "abcdef"[:banks]}
        return Federation(parse_run(config, "test"), hub, institutions)

    return make
