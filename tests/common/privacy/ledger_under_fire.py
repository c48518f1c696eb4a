"""Kill a process that reserves, trains and settles, again and again. After each kill hold its ledger to the truth.

Run as a program: `python ledger_under_fire.py DIRECTORY KILLS SEED`. Each victim is a process of its own, killed by
SIGKILL at a random moment. What it really did to the data it writes, a byte a step, to a file that nothing buffers.
Prints one JSON object: how many kills hit which moment. Any loss is an exception.
"""

import json
import mmap
import os
import random
import signal
import sys
import time
from pathlib import Path

from common.identity.keys import PrivateKeys
from common.privacy.accounting import DpSgdEvent
from common.privacy.charges import ChargeContext, read_charges
from common.privacy.ledger import PrivacyLedger

KILLS_A_LEDGER = 20  # so that reading it back stays cheap
STEPS_RESERVED, STEPS_DONE = 3, 2
EVENT = DpSgdEvent(1.5, 0.2, STEPS_RESERVED)
MOMENTS = ("open", "reserve", "train", "settle")


def live(ledger_path: Path, keys: PrivateKeys, moment: mmap.mmap) -> None:
    """Reserve, train, settle, until killed."""
    spent = os.open(ledger_path.with_name("spent"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    with PrivacyLedger.open(ledger_path, keys) as ledger:
        for number in range(10_000):
            moment[0] = 1
            use = ChargeContext(run_id="run", round=number, requester="hub", task="t", base_digest="b",
            data_fingerprint="f",
                      num_units=9, delta=1e-5, clipping_norm=1.0)  # fmt: skip
            reservation = ledger.reserve(EVENT, use, None)
            moment[0] = 2
            for _ in range(STEPS_DONE):
                os.write(spent, b"x")  # the data is touched here
                time.sleep(0.001)
            moment[0] = 3
            ledger.settle(reservation, STEPS_DONE)


def check(ledger_path: Path, keys: PrivateKeys) -> None:
    """The ledger verifies, opens, and shows at least what was spent, and at most a reservation more for each kill."""
    if not ledger_path.with_name("ledger.jsonl.head").exists():
        return  # killed before anything was reserved
    before = read_charges(ledger_path, keys.public)
    with PrivacyLedger.open(ledger_path, keys) as ledger:
        shown = sum(event.steps for event in ledger.spent())
        unfinished = sum(charge.steps_done is None for charge in ledger.charges)
        if ledger.charges != before:
            raise SystemExit("an auditor saw other charges than the owner")
    spent = ledger_path.with_name("spent")
    really = spent.stat().st_size if spent.exists() else 0
    if not really <= shown <= really + STEPS_RESERVED * unfinished:
        raise SystemExit(f"{really} steps were taken and the ledger shows {shown}")


def main(directory: Path, kills: int, seed: int) -> None:
    chance, keys, moment = random.Random(seed), PrivateKeys.generate("bank"), mmap.mmap(-1, 1)
    hits = dict.fromkeys(MOMENTS, 0)
    for number in range(kills):
        ledger_path = directory / str(number // KILLS_A_LEDGER) / "ledger.jsonl"
        ledger_path.parent.mkdir(exist_ok=True)
        moment[0] = 0
        victim = os.fork()
        if victim == 0:
            live(ledger_path, keys, moment)
        # By turns of the victim's work, since most of its time is spent waiting for the disk. Then at random.
        awaited = number % len(MOMENTS)
        while awaited and moment[0] != awaited:
            time.sleep(0.0002)
            if os.waitpid(victim, os.WNOHANG)[0]:
                raise SystemExit("a process could not go on with its ledger")
        time.sleep(chance.uniform(0, chance.choice((0.001, 0.01))))
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)
        hits[MOMENTS[moment[0]]] += 1
        check(ledger_path, keys)
    sys.stdout.write(json.dumps(hits))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
