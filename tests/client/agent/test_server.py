"""The agent as its own process: real gRPC over a real socket, real signals, and a ledger that never forgets."""

import json
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from client.agent.look import look_in_background
from client.agent.models import LocalModels
from client.agent.server import WAITING, AgentService, serve
from client.commands.status import is_serving
from client.institution.directory import InstitutionDirectory
from client.node.processes import single_instance_lock
from client.tracking.rounds import run_directory
from common.base_models.extend import write_extended_base
from common.canonical import AGENT_METHOD
from common.config.run import RunConfig, parse_run
from common.data.datasets import Dataset
from common.errors import AssignmentRefused, ConfigurationError
from common.identity.keys import PrivateKeys
from common.privacy.charges import Charge, read_charges
from common.protocol.adapter_codec import encode
from common.protocol.envelope import MessageContext, open_sealed, peek, seal
from common.protocol.messages import Assignment, Contribution, Refusal, RefusalCode
from common.source import code_digest
from tests.client.enrolled import Enrolled, enrol
from tests.tiny_models import save_tiny_model, tiny_adapted

STEPS = 2


def config(base: str, steps: int = STEPS, task: str = "sentiment_analysis", noise: float = 1.5) -> RunConfig:
    return parse_run(
        {
            "run": {"name": "tiny", "seed": 7, "rounds": 5},
            "task": {"name": task},
            "model": {"base": base, "max_tokens": 64},
            "adapter": {
                "rank": 2,
                "alpha": 4,
                "dropout": 0.0,
                "target_modules": "task",
                "layers": "all",
                "trained_factors": "B",
            },
            "training": {"local_steps": steps, "sampling_rate": 0.25, "learning_rate": 0.5},
            "privacy": {"mode": "custom", "noise_multiplier": noise, "clipping_norm": 0.5, "delta": 1e-4},
        },
        "test",
    )


class Agent:
    """The process, and the questions that its hub can ask."""

    def __init__(self, enrolled: Enrolled, base: str, program: str = "", given: bytes | None = None) -> None:
        self.enrolled, self.base, self.home = enrolled, base, enrolled.home
        code = f"{program}\nimport sys; from client.agent.__main__ import main; sys.exit(main(sys.argv[1:]))"
        self.home.run.mkdir(exist_ok=True)
        self.log = self.home.state / "agent.log"
        with self.log.open("ab") as log:
            stdin = subprocess.DEVNULL if given is None else subprocess.PIPE
            self.process = subprocess.Popen(
                [sys.executable, "-c", code, str(self.home.directory)], stdin=stdin, stdout=log, stderr=log
            )
        if self.process.stdin is not None:
            with self.process.stdin as pipe:
                pipe.write(given or b"")
        self.wait_for(lambda: is_serving(self.home.socket))

    def wait_for(self, done: Callable[[], bool], seconds: float = 240) -> None:
        until = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < until, self.log.read_text()
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)

    def assignment(self, round_: int = 1, run: RunConfig | None = None) -> Assignment:
        run = run or config(self.base)
        adapted = tiny_adapted(Path(self.base).parent, blocks=2)
        return Assignment(
            "run 1", round_, run.to_json(), adapted.spec.to_json(), encode(adapted.initial()), code_digest()
        )

    def sealed(self, assignment: Assignment, hub: PrivateKeys | None = None) -> bytes:
        hub = hub or self.enrolled.hub
        context = MessageContext(assignment.run_id, assignment.round, "assignment", "hub", "bank")
        return seal(assignment.to_bytes(), hub, self.home.keys().public, context)

    def call(self, sealed: bytes, timeout: float = 240) -> bytes:
        with grpc.insecure_channel(f"unix:{self.home.socket}") as channel:
            answer: bytes = channel.unary_unary(AGENT_METHOD)(sealed, timeout=timeout)
        return answer

    def ask(self, assignment: Assignment) -> Contribution | Refusal:
        answer = self.call(self.sealed(assignment))
        context = peek(answer)
        payload = open_sealed(answer, self.enrolled.hub, self.home.keys().public, context)
        return (Refusal if context.kind == "refusal" else Contribution).from_bytes(payload)

    def charges(self) -> tuple[Charge, ...]:
        return read_charges(self.home.ledger_path, self.home.public_keys())

    def progress(self) -> dict[str, Any]:
        return dict(json.loads(self.home.agent_status_path.read_text()))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_model(tmp_path_factory.mktemp("model") / "bert2", layers=2))


def in_background(home: InstitutionDirectory, sealed: bytes) -> Any:
    return grpc.insecure_channel(f"unix:{home.socket}").unary_unary(AGENT_METHOD).future(sealed, timeout=240)


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory, base: str) -> Iterator[Agent]:
    limits = 'tasks = ["sentiment_analysis"]\nmin_noise_multiplier = 1.0\nmax_epsilon = 20\ndelta = 1e-4\n'
    agent = Agent(enrol(tmp_path_factory.mktemp("bank"), base, limits), base)
    yield agent
    agent.process.kill()
    agent.process.wait()


def test_an_agent_answers_over_its_socket_and_keeps_the_model_for_the_next_round(agent: Agent) -> None:
    assert stat.S_IMODE(agent.home.socket.stat().st_mode) == 0o600
    for round_ in (1, 2):
        answer = agent.ask(agent.assignment(round_))
        assert isinstance(answer, Contribution)
        assert answer.adapter != agent.assignment().adapter
    assert [charge.steps_done for charge in agent.charges()] == [STEPS, STEPS]
    assert agent.log.read_text().count("loading base model") == 1
    assert agent.progress()["state"] == "idle"


def test_the_findings_about_the_rows_are_in_the_institutions_own_files_alone(agent: Agent) -> None:
    agent.wait_for(agent.home.inspection_path.exists)
    assert stat.S_IMODE(agent.home.inspection_path.stat().st_mode) == 0o600
    [split] = json.loads(agent.home.inspection_path.read_text())["splits"]
    assert (split["rows"], split["lengths"]) == (30, None)
    assert isinstance(agent.ask(replace(agent.assignment(), run_id="looked at")), Contribution)
    assert "near-duplicates" in (run_directory(agent.home.directory, "looked at") / "report.html").read_text()


def test_what_is_no_assignment_of_the_hub_is_not_answered(agent: Agent) -> None:
    before = agent.charges()
    for foreign in (agent.sealed(agent.assignment(3), PrivateKeys.generate("hub")), b"", b"noise"):
        with pytest.raises(grpc.RpcError) as refused:
            agent.call(foreign)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert refused.value.details() == "invalid_argument"
    assert agent.charges() == before
    assert is_serving(agent.home.socket)


def test_what_the_settings_do_not_allow_is_refused_with_a_code_and_charges_nothing(
    agent: Agent, base: str, tmp_path: Path
) -> None:
    before = agent.charges()
    own = config(base)
    expected = (
        (RefusalCode.BASE_MODEL, config(str(save_tiny_model(tmp_path / "other", layers=2)))),
        (RefusalCode.BASE_MODEL, replace(own, model=replace(own.model, base_digest="00" * 32))),
        (RefusalCode.TASK, config(base, task="risk_classification")),
        (RefusalCode.PRIVACY_LIMIT, config(base, noise=0.9)),
        (RefusalCode.BUDGET, config(base, steps=5000)),
    )
    for code, run in expected:
        answer = agent.ask(replace(agent.assignment(run=run), run_id=f"run of {code}"))
        assert isinstance(answer, Refusal)
        assert answer.code == code
    assert agent.charges() == before


def test_a_base_model_made_from_private_text_is_not_trained_in_a_federation(tmp_path: Path, base: str) -> None:
    write_extended_base(base, ["ebitda"], tmp_path / "extended", private=True)
    other = str(tmp_path / "extended")
    settings = enrol(tmp_path / "bank", other, "").home.settings()
    with pytest.raises(AssignmentRefused, match="private text") as refused:
        LocalModels(settings, bytes(32))(config(other))
    assert refused.value.code == RefusalCode.BASE_MODEL


def test_a_second_agent_of_the_same_institution_is_refused(agent: Agent) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "client.agent", str(agent.home.directory)], capture_output=True, text=True
    )
    assert second.returncode == 2
    assert "running there already" in second.stderr
    assert is_serving(agent.home.socket)


SLOW = """
import time, client.dp.training as training
batches = training._logical_batches
def slow(*given):
    for rows in batches(*given):
        time.sleep(0.2)
        yield rows
training._logical_batches = slow
"""
KILLED_AFTER_THE_CHARGE = """
import os, client.federation.local_round as federated
federated.pausing_train = lambda *_, **__: os.kill(os.getpid(), 9)
"""


ENDLESS_LOOK = """
import time, client.inspection.look as look
look.inspect_rows = lambda *_: time.sleep(600)
"""


@pytest.fixture
def start() -> Iterator[Callable[..., Agent]]:
    """Starts agents, and leaves none behind."""
    started: list[Agent] = []

    def make(*given: Any) -> Agent:
        started.append(Agent(*given))
        return started[-1]

    yield make
    for agent in started:
        agent.process.kill()
        agent.process.wait()


def test_killed_or_stopped_at_any_moment_it_comes_back_owing_what_was_charged(
    tmp_path: Path, base: str, start: Callable[..., Agent]
) -> None:
    enrolled = enrol(tmp_path, base)

    # While it trains.
    first = start(enrolled, base, SLOW)
    sealed = first.sealed(first.assignment(run=config(base, steps=5)))
    call = in_background(first.home, sealed)
    first.wait_for(lambda: len(first.charges()) == 1)
    first.process.kill()
    first.process.wait()
    assert call.exception().code() is grpc.StatusCode.UNAVAILABLE
    assert [charge.steps_done for charge in first.charges()] == [None]

    # Between charging and training.
    second = start(enrolled, base, KILLED_AFTER_THE_CHARGE)
    assert in_background(second.home, sealed).exception().code() is grpc.StatusCode.UNAVAILABLE
    assert second.process.wait(120) == -signal.SIGKILL
    assert [charge.steps_done for charge in second.charges()] == [None, None]

    # It rejoins, and answers the same question. Then it is told to stop in the middle of the next one.
    third = start(enrolled, base, SLOW)
    context = peek(answer := third.call(sealed))
    assert context.kind == "contribution"
    assert third.call(sealed) == answer
    assert [charge.steps_done for charge in third.charges()] == [None, None, 5]
    call = in_background(third.home, third.sealed(third.assignment(2, run=config(base, steps=5))))
    third.wait_for(lambda: len(third.charges()) == 4)
    third.process.send_signal(signal.SIGTERM)
    assert third.process.wait(120) == 0
    assert call.exception().code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)
    assert "round 2 in flight" in third.log.read_text()
    assert [charge.steps_done for charge in third.charges()] == [None, None, 5, None]


def test_an_agent_is_ready_answers_and_stops_while_it_looks_at_its_rows(
    tmp_path: Path, base: str, start: Callable[..., Agent]
) -> None:
    agent = start(enrol(tmp_path, base), base, ENDLESS_LOOK)
    assert isinstance(agent.ask(agent.assignment()), Contribution)
    assert not agent.home.inspection_path.exists()
    agent.process.send_signal(signal.SIGTERM)
    assert agent.process.wait(60) == 0


def test_links_that_the_relays_side_leaves_are_not_followed(
    tmp_path: Path, base: str, start: Callable[..., Agent]
) -> None:
    enrolled = enrol(tmp_path, base)
    home = enrolled.home
    home.run.mkdir(exist_ok=True)
    kept = {path: path.read_bytes() for path in (home.ledger_path, home.keys_path / "private.json")}
    for name, target in {"agent.lock": home.ledger_path, "agent.new": home.keys_path / "private.json"}.items():
        (home.run / name).symlink_to(target)
    start(enrolled, base)
    assert {path: path.read_bytes() for path in kept} == kept
    assert {path.name for path in home.run.iterdir()} == {"agent.sock", "agent.lock", "agent.new"}


def test_a_lock_that_is_a_link_is_refused_and_its_target_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "ledger").write_bytes(b"kept")
    (tmp_path / "lock").symlink_to(tmp_path / "ledger")
    with pytest.raises(ConfigurationError, match="cannot be opened"), single_instance_lock(tmp_path / "lock", "x"):
        pass
    assert (tmp_path / "ledger").read_bytes() == b"kept"


class Held:
    """A `handle` that answers when it is let go."""

    def __init__(self, tmp_path: Path) -> None:
        self.asked: list[bytes] = []
        self.go = threading.Event()
        self.socket = tmp_path / "agent.sock"
        self.service = AgentService(self.handle, tmp_path / "agent.json")
        self.server, _ = serve(self.service, self.socket)
        self.channel = grpc.insecure_channel(f"unix:{self.socket}")

    def handle(self, sealed: bytes) -> bytes:
        self.asked.append(sealed)
        assert self.go.wait(120)
        if b"fail" in sealed:
            raise RuntimeError(PRIVATE)
        return b"answer"

    def ask(self, word: str, timeout: float = 120) -> Any:
        sealed = seal(word.encode(), HUB, BANK.public, MessageContext("run 1", 1, "assignment", "hub", "bank"))
        return self.channel.unary_unary(AGENT_METHOD).future(sealed + word.encode(), timeout=timeout)

    def wait_for(self, questions: int) -> None:
        until = time.monotonic() + 120
        while len(self.asked) < questions:
            assert time.monotonic() < until
            time.sleep(0.01)


PRIVATE = "a customer of bank 3"
HUB, BANK = PrivateKeys.generate("hub"), PrivateKeys.generate("bank")


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Held]:
    held = Held(tmp_path)
    yield held
    held.go.set()
    held.channel.close()
    held.server.stop(None).wait()


def test_one_question_is_at_work_and_few_wait_for_their_turn(held: Held) -> None:
    calls = [held.ask(f"question {n}") for n in range(1 + WAITING)]
    held.wait_for(1)
    time.sleep(0.3)
    assert len(held.asked) == 1
    assert held.ask("one too many").exception().code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert is_serving(held.socket)
    held.go.set()
    assert [call.result() for call in calls] == [b"answer"] * len(calls)


def test_nothing_is_done_for_a_question_whose_asker_has_gone(held: Held) -> None:
    first = held.ask("first")  # kept: a call that nobody holds is cancelled
    held.wait_for(1)
    assert held.ask("second", timeout=0.2).exception().code() is grpc.StatusCode.DEADLINE_EXCEEDED
    third = held.ask("third")
    held.go.set()
    assert [call.result() for call in (first, third)] == [b"answer"] * 2
    assert [sealed[-5:] for sealed in held.asked] == [b"first", b"third"]


def test_the_look_at_the_rows_pauses_while_a_question_is_at_work(held: Held, tmp_path: Path) -> None:
    call = held.ask("question")
    held.wait_for(1)
    rows, path = Dataset.of(["profit rises", "loss widens"], ["up", "down"]), tmp_path / "inspection.json"
    look = look_in_background("rows.csv", rows, path, held.service)
    look.join(1.0)
    assert look.is_alive()
    held.go.set()
    assert call.result() == b"answer"
    look.join(120)
    assert json.loads(path.read_text())["splits"][0]["rows"] == 2


def test_the_look_at_the_rows_ends_with_the_agent(held: Held, tmp_path: Path) -> None:
    call = held.ask("question")
    held.wait_for(1)
    look = look_in_background("rows.csv", Dataset.of(["profit", "loss"], ["up", "down"]), tmp_path / "f", held.service)
    held.service.stop()
    look.join(120)
    assert not look.is_alive()
    assert not (tmp_path / "f").exists()
    held.go.set()
    assert call.result() == b"answer"


def test_nothing_of_an_unexpected_error_but_its_kind_leaves_or_is_logged(
    held: Held, caplog: pytest.LogCaptureFixture
) -> None:
    held.go.set()
    error = held.ask("fail").exception()
    assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, "internal")
    assert "RuntimeError" in caplog.text
    assert PRIVATE not in caplog.text


def test_a_socket_path_that_the_kernel_would_cut_is_refused(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    with pytest.raises(ConfigurationError, match="too long for a socket"):
        serve(AgentService(bytes, deep / "agent.json"), deep / "agent.sock")
