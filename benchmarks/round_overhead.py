"""Measure the overhead of a round besides training: `python -m benchmarks.round_overhead [--deployed]`.

Four institutions answer a real, sealed assignment with the adapter they were sent, without training a step. The rest
is the overhead of every round: signing, sealing, opening, checking, combining, the checkpoint and the audit log.

With --deployed, two institutions and a hub run as processes on loopback, and are compared with a plain Flower app
(`deployed_round.py`). This takes six minutes on two quiet cores. With --secure, their rounds without and with secure
aggregation are compared.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from common.config.run import RunConfig, parse_run
from common.events import Observer
from common.identity.keys import PrivateKeys
from common.journal.journal import Journal
from common.protocol.adapter_codec import Spec, Tensors, encode
from common.protocol.envelope import MessageContext, open_sealed, seal
from common.protocol.messages import Assignment, Contribution
from common.report.records import RoundRecord
from common.source import code_digest
from server.rounds import checkpoint, coordinator
from server.rounds.admission import Failure
from server.rounds.assignments import FederationContext
from server.rounds.checkpoint import RunState
from server.rounds.coordinator import Evaluation

ROUNDS = 30
INSTITUTIONS = 4
SECURE_AIM_S = 1.3
# The adapter of the shipped benchmark: B of rank 8 on all linear layers of two MiniLM blocks, and the head.
SHAPES = {
    f"block.{i}.{name}.lora_B.weight": (1536 if name == "up" else 384, 8)
    for i in (4, 5)
    for name in ("q", "k", "v", "o", "up", "down")
}


class Echo:
    """Institutions that open, check and answer without training."""

    def __init__(self, hub: PrivateKeys, institutions: dict[str, PrivateKeys], spec: Spec) -> None:
        self._hub, self._institutions, self._spec = hub, institutions, spec

    def exchange(self, round_: int, sealed: dict[str, bytes], deadline_s: float) -> dict[str, bytes | Failure]:
        """Return the answer of every institution."""
        return {name: self._answer(self._institutions[name], round_, data) for name, data in sealed.items()}

    def _answer(self, keys: PrivateKeys, round_: int, sealed: bytes) -> bytes:
        run_id = "overhead"
        question = Assignment.from_bytes(
            open_sealed(sealed, keys, self._hub.public, MessageContext(run_id, round_, "assignment", "hub", keys.name))
        )
        answer = Contribution(run_id, round_, question.adapter, self._spec.digest(), code_digest(), None, None)
        return seal(
            answer.to_bytes(), keys, self._hub.public, MessageContext(run_id, round_, "contribution", keys.name, "hub")
        )


def config() -> RunConfig:
    """Return the smallest run configuration for this measurement."""
    return parse_run(
        {
            "run": {"name": "overhead", "seed": 0, "rounds": ROUNDS},
            "task": {"name": "sentiment_analysis"},
            "training": {"local_steps": 1, "sampling_rate": 0.1, "learning_rate": 1.0},
            "privacy": {"mode": "none"},
        },
        "benchmarks/round_overhead.py",
    )


def main() -> None:
    """Print the milliseconds of a round in one process and, with --deployed, the seconds of a deployed round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deployed", action="store_true", help="also hub and institutions as processes on loopback")
    parser.add_argument("--secure", action="store_true", help="instead, deployed rounds with and without secure sums")
    given = parser.parse_args()
    if given.secure:
        secure()
        return
    in_process()
    if given.deployed:
        deployed()


def deployed() -> None:
    """Measure the deployed design and a plain Flower app in turn, with a small and a 10 MB adapter."""
    from benchmarks.deployed_round import fedfin_rounds, plain_rounds

    for rank, adapter in ((8, "0.7 MB"), (128, "10.6 MB")):
        for what, measure in (("fedfin", fedfin_rounds), ("plain Flower app", plain_rounds)):
            with tempfile.TemporaryDirectory(prefix="round-") as directory:
                seconds, at_work = measure(Path(directory), rank)
            middle, spread = statistics.median(seconds), f"min {min(seconds):.1f}, max {max(seconds):.1f}"
            print(f"{what}, adapter of {adapter}: {middle:.1f} s a round ({spread}, {len(seconds)} rounds)", flush=True)
            if at_work:
                print(f"  the agents were at work for {statistics.median(at_work):.1f} s of that", flush=True)


def secure() -> None:
    """Measure deployed rounds without and with secure aggregation in turn, twice."""
    from benchmarks.deployed_round import fedfin_rounds

    seconds: dict[bool, list[float]] = {False: [], True: []}
    for is_secure in (False, True, True, False):
        with tempfile.TemporaryDirectory(prefix="round-") as directory:
            seconds[is_secure] += fedfin_rounds(Path(directory), 8, is_secure)[0]
    plain, masked = (statistics.median(seconds[each]) for each in (False, True))
    spread = f"min {min(seconds[True]):.1f}, max {max(seconds[True]):.1f}, {len(seconds[True])} rounds"
    print(f"secure aggregation, adapter of 0.7 MB: {masked:.1f} s a round ({spread}), without it {plain:.1f} s")
    print(f"  {masked - plain:.1f} s more (aim: at most {SECURE_AIM_S})")


def in_process() -> None:
    """Measure rounds of four institutions as plain function calls."""
    rng = np.random.default_rng(0)
    adapter: Tensors = {name: rng.normal(size=shape).astype(np.float32) for name, shape in sorted(SHAPES.items())}
    adapter["classifier.weight"] = rng.normal(size=(3, 384)).astype(np.float32)
    hub, run = PrivateKeys.generate("hub"), config()
    institutions = {f"bank-{i}": PrivateKeys.generate(f"bank-{i}") for i in range(INSTITUTIONS)}
    spec = Spec.of(adapter)
    state = RunState(run_id="overhead", config_digest=run.digest(), next_round=1, adapter=adapter)
    seconds: list[float] = []
    with tempfile.TemporaryDirectory() as directory, Journal.open(Path(directory) / "audit.jsonl", hub) as journal:
        last = time.perf_counter()

        class Clock(Observer):
            def on_round(self, record: RoundRecord) -> None:
                nonlocal last
                seconds.append(time.perf_counter() - last)
                last = time.perf_counter()

        coordinator.run(
            state,
            FederationContext(hub, {name: keys.public for name, keys in institutions.items()}, run, spec),
            Echo(hub, institutions, spec),
            evaluate=lambda _: Evaluation({}, {}),
            save=lambda current: checkpoint.save(current, Path(directory) / "checkpoint"),
            audit=lambda kind, body: journal.append(kind, body),
            observers=(Clock(),),
        )
    milliseconds = sorted(1000 * s for s in seconds[3:])
    size = len(encode(adapter))
    print(f"a round of {INSTITUTIONS} institutions, adapter of {size / 1e3:.0f} kB, no training, no evaluation:")
    middle = statistics.median(milliseconds)
    spread = f"min {milliseconds[0]:.1f}, max {milliseconds[-1]:.1f}, {len(milliseconds)} rounds"
    print(f"  {middle:.1f} ms ({spread}), aim: below 20 ms")


if __name__ == "__main__":
    main()
