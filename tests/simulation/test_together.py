"""A simulation whose institutions share the blocks of a round ends in the bits of one in which each trains alone."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from client.dp.pause import BatchSum, Draw, to_end
from client.dp.shared_sums import sums_together
from client.institution.directory import InstitutionDirectory
from common.config.run import RunConfig
from common.errors import ConfigurationError, DataError, LedgerError
from common.privacy.charges import Charge, Reservation, read_charges
from common.privacy.ledger import PrivacyLedger
from server.rounds import checkpoint
from server.rounds.checkpoint import RunState
from simulation import together
from simulation.runner import run_simulation
from simulation.workspace import Workspace
from tests.simulation.helpers import SIZES, write_simulation

CUSTOMERS = ("data.customer_column=customer", "privacy.unit=customer", "privacy.delta=1e-3")
SECURE = "[aggregation]\nsecure = true\nhonest = 2\nthreshold = 2\n"
PRIOR = '[personalisation]\nmethod = "prior"\n'
PROXIMAL = '[personalisation]\nmethod = "proximal"\nproximal_weight = 0.5\n'


def begin(directory: Path, out: str, changes: tuple[str, ...] = (), **settings: Any) -> Workspace:
    given: dict[str, Any] = {"noise": "fixed", "rounds": 3, "local_steps": 1}
    source = write_simulation(directory, **(given | settings))
    rows = directory / "rows.csv"
    if "customer" not in rows.read_text().splitlines()[0]:
        with rows.open(newline="") as file:
            read = list(csv.DictReader(file))
        with rows.open("w", newline="") as file:
            writer = csv.DictWriter(file, [*read[0], "customer"])
            writer.writeheader()
            writer.writerows({**row, "customer": f"{row['bank']}-{number // 2}"} for number, row in enumerate(read))
    return Workspace.create(source, directory / out, changes)


def charges_of(workspace: Workspace, name: str) -> tuple[Charge, ...]:
    home = InstitutionDirectory(workspace.out / "institutions" / name)
    return read_charges(home.ledger_path, home.keys().public)


def state_of(workspace: Workspace) -> RunState:
    return checkpoint.load(workspace.out / "checkpoint")


def facts(workspace: Workspace) -> list[dict[str, Any]]:
    """The history without times, and the bits of the adapter."""
    state = state_of(workspace)
    # Sealed bytes, and the digests over them, differ from run to run by their keys.
    other = {"seconds", "bytes_up", "bytes_down", "contributions"}
    kept = [{k: v for k, v in record.to_json().items() if k not in other} for record in state.history]
    return [*kept, {name: value.tobytes() for name, value in state.adapter.items()}]


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of institutions of each shared pass."""
    seen: list[int] = []

    def noted(draws: Sequence[Draw]) -> list[BatchSum]:
        seen.append(len(draws))
        return sums_together(draws)

    monkeypatch.setattr(together, "sums_together", noted)
    return seen


def alone(monkeypatch: pytest.MonkeyPatch, workspace: Workspace) -> None:
    """Run it with each institution by itself."""
    with monkeypatch.context() as patch:
        patch.setattr(
            "simulation.in_process.answer_together",
            lambda work: {name: to_end(each) for name, each in work.items()},
        )
        run_simulation(workspace)


@pytest.mark.parametrize(
    ("changes", "extra", "passes"),
    [
        ((), "", [3, 3, 3]),
        (CUSTOMERS, "", [3, 3, 3]),
        ((), SECURE, [3, 3, 3]),
        ((), PRIOR, [3, 3, 3]),
        # From the second round on each has an adapter of its own.
        ((), PROXIMAL, [3]),
        (("training.local_steps=2",), "", []),
    ],
    ids=["record", "customer", "secure", "prior", "proximal", "two steps"],
)
def test_a_shared_pass_changes_no_bit_of_a_run(
    tmp_path: Path,
    shared: list[int],
    monkeypatch: pytest.MonkeyPatch,
    changes: tuple[str, ...],
    extra: str,
    passes: list[int],
) -> None:
    one, other = (begin(tmp_path, out, changes, extra=extra) for out in ("one", "other"))
    alone(monkeypatch, one)
    assert shared == []
    run_simulation(other)
    assert shared == passes
    assert facts(one) == facts(other)
    for name in SIZES:
        assert [c.event for c in charges_of(one, name)] == [c.event for c in charges_of(other, name)]
        assert all(charge.steps_done == charge.reservation.event.steps for charge in charges_of(other, name))


def test_few_institutions_at_a_time_change_no_bit(
    tmp_path: Path, shared: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (begin(tmp_path, out, rounds=1) for out in ("one", "other"))
    run_simulation(one)
    monkeypatch.setattr(together, "_MOST_OPEN", 2)
    monkeypatch.setattr(together, "_FEWEST_OPEN", 1)
    run_simulation(other)
    assert shared == [3, 2]
    assert facts(one) == facts(other)


def test_an_institution_that_fails_or_is_refused_disturbs_no_other(
    tmp_path: Path, shared: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = (begin(tmp_path, out, rounds=1, extra="[aggregation]\nquorum = 1") for out in ("whole", "cut"))
    run_simulation(whole)
    open_institution = Workspace.institution

    def failing(workspace: Workspace, name: str) -> Any:
        agent = open_institution(workspace, name)

        def unreadable(_: RunConfig) -> Any:
            raise DataError("its rows cannot be read")

        if name == "north":
            agent.prepare = unreadable
        return agent

    monkeypatch.setattr(Workspace, "institution", failing)
    run_simulation(cut)
    assert shared == [3, 2]
    assert charges_of(cut, "north") == ()
    only_the_others_count(whole, cut)


def only_the_others_count(whole: Workspace, cut: Workspace) -> None:
    """In `cut` north failed, and the others sent the bits that they sent in `whole`."""
    (record,), (expected,) = state_of(cut).history, state_of(whole).history
    assert record.outcomes["north"] == "declined:error"
    assert record.contributions == {name: expected.contributions[name] for name in ("south", "west")}


def test_one_that_fails_after_the_shared_pass_disturbs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = (begin(tmp_path, out, rounds=1, extra="[aggregation]\nquorum = 1") for out in ("whole", "cut"))
    run_simulation(whole)
    settle = PrivacyLedger.settle

    def full(ledger: PrivacyLedger, reservation: Reservation, steps_done: int) -> None:
        if "north" in str(ledger._journal._path):
            raise LedgerError("no space")
        settle(ledger, reservation, steps_done)

    monkeypatch.setattr(PrivacyLedger, "settle", full)
    run_simulation(cut)
    assert [charge.steps_done for charge in charges_of(cut, "north")] == [None]
    only_the_others_count(whole, cut)


def test_a_shared_pass_that_fails_leaves_each_institution_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = (begin(tmp_path, out, rounds=1) for out in ("whole", "cut"))
    run_simulation(whole)

    def failing(_: Sequence[Draw]) -> list[BatchSum]:
        raise ConfigurationError("the cache of one belongs to another data set")

    monkeypatch.setattr(together, "sums_together", failing)
    run_simulation(cut)
    assert facts(whole) == facts(cut)
    assert all(len(charges_of(cut, name)) == 1 for name in SIZES)


def test_every_institution_is_charged_on_disk_before_a_shared_gradient_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is killed in the shared pass goes on to the same bits, and no ledger is short."""
    whole, cut = begin(tmp_path, "whole"), begin(tmp_path, "cut")
    run_simulation(whole)
    seen: list[list[int | None]] = []

    def killed(draws: Sequence[Draw]) -> list[BatchSum]:
        seen.extend([c.steps_done for c in charges_of(cut, name)] for name in sorted(SIZES))
        if len(seen) > len(SIZES):
            raise KeyboardInterrupt
        return sums_together(draws)

    with monkeypatch.context() as patch:
        patch.setattr(together, "sums_together", killed)
        with pytest.raises(KeyboardInterrupt):
            run_simulation(cut)
    assert seen == [[None]] * 3 + [[1, None]] * 3
    again = Workspace.reopen(cut.out)
    run_simulation(again)
    assert facts(whole) == facts(again)
    # Fixed noise repeats itself, so the round that was done twice is one release.
    assert all(len(charges_of(cut, name)) == 3 for name in SIZES)


def test_with_the_noise_of_the_operating_system_a_killed_pass_is_charged_to_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = begin(tmp_path, "out", noise="system", rounds=1)

    def killed(_: Sequence[Draw]) -> list[BatchSum]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(together, "sums_together", killed)
        with pytest.raises(KeyboardInterrupt):
            run_simulation(workspace)
    assert all(len(charges_of(workspace, name)) == 1 for name in SIZES)
    run_simulation(Workspace.reopen(workspace.out))
    assert all(len(charges_of(workspace, name)) == 2 for name in SIZES)
