"""The officer's commands show the ledger's content, and the forecast predicts the agent's answer."""

import csv
import json
import math
import shutil
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from client.budget.statement import statement
from client.commands import budget
from client.federation.forecast import forecast
from client.federation.planning import event_of_round
from client.institution.directory import InstitutionDirectory
from common.config.run import parse_run
from common.errors import BudgetExceeded
from common.identity.keys import PrivateKeys
from common.privacy.accounting import DpSgdEvent, PrivacyLimit, epsilon
from common.privacy.charges import ChargeContext, read_charges
from common.privacy.filter import filter_epsilon
from common.privacy.ledger import PrivacyLedger
from tests.client.commands.institution_commands import command_line

main = command_line(budget.add)

EVENT = DpSgdEvent(2.0, 0.1, 20)
LIMIT = PrivacyLimit(8.0, 1e-6)
RUN = """
[run]
name = "desks"
seed = 3
rounds = {rounds}
[task]
name = "sentiment_analysis"
[training]
local_steps = 20
sampling_rate = 0.1
learning_rate = 1.0
[privacy]
mode = "{mode}"
{privacy}
[data]
test = "of-the-hub.csv"
"""
CUSTOM = "noise_multiplier = 2.0\nclipping_norm = 0.5\ndelta = 1e-6"


def use(**changes: Any) -> ChargeContext:
    given: dict[str, Any] = {
        "run_id": "first", "round": 1, "requester": "the hub", "task": "sentiment_analysis", "base_digest": "b" * 64,
        "data_fingerprint": "f" * 64, "num_units": 300, "delta": 1e-6, "clipping_norm": 0.5,
    }  # fmt: skip
    return ChargeContext(**given | changes)


@pytest.fixture
def home(tmp_path: Path) -> InstitutionDirectory:
    """An institution with 300 rows and the limit of the template: epsilon 8 at delta 1e-6."""
    home = InstitutionDirectory.create(tmp_path / "bank", "bank")
    rows = "".join(f"profit of bank {n},{('negative', 'neutral', 'positive')[n % 3]}\n" for n in range(300))
    (home.directory / "train.csv").write_text(f"text,label\n{rows}")
    configure(home, '# [data]\n# train = "train.csv"', '[data]\ntrain = "train.csv"')
    return home


@pytest.fixture
def spent(home: InstitutionDirectory) -> InstitutionDirectory:
    """Three trainings of a run, one of them never finished. Then one of another run on other rows."""
    with PrivacyLedger.open(home.ledger_path, home.keys()) as ledger:
        ledger.settle(ledger.reserve(EVENT, use(), LIMIT), 20)
        ledger.reserve(EVENT, use(round=2), LIMIT)
        ledger.settle(ledger.reserve(EVENT, use(round=2), LIMIT), 20)
        other = use(run_id="second", requester="other hub", data_fingerprint="e" * 64, num_units=310)
        ledger.settle(ledger.reserve(EVENT, other, LIMIT), 20)
    return home


def configure(home: InstitutionDirectory, old: str, new: str) -> None:
    text = home.settings_path.read_text()
    assert old in text
    home.settings_path.write_text(text.replace(old, new))


def run_file(home: InstitutionDirectory, rounds: int = 3, mode: str = "custom", privacy: str = CUSTOM) -> Path:
    path = home.directory / "run.toml"
    path.write_text(RUN.format(rounds=rounds, mode=mode, privacy=privacy))
    return path


def said(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> str:
    assert main(["budget", *map(str, arguments)]) == code
    out, err = capsys.readouterr()
    return err if code else out


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(said(capsys, *arguments, "--json").splitlines()[-1])
    return found


def test_show_says_by_whom_for_what_and_what_is_left(
    spent: InstitutionDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    found = told(capsys, "show", "--home", spent.directory)
    assert (found["unit"], found["delta"], found["max_epsilon"]) == ("record", 1e-6, 8.0)
    assert found["epsilon_spent"] == epsilon([EVENT] * 4, 1e-6)
    left = found["steps_left"]
    proven = [filter_epsilon([DpSgdEvent(2.0, 0.1, steps + left)], LIMIT) for steps in (80, 81)]
    assert proven[0] <= 8.0 < proven[1]
    assert found["filter_epsilon_spent"] == filter_epsilon([EVENT] * 4, LIMIT) > found["epsilon_spent"]
    assert not found["kept_for_one_mechanism"]
    admission = said(capsys, "show", "--home", spent.directory)
    assert "by the filter that also holds for runs chosen after the results" in admission
    assert [(r["run_id"], r["requesters"], r["rounds"], r["trainings"], r["unfinished"]) for r in found["runs"]] == [
        ("first", ["the hub"], 2, 3, 1), ("second", ["other hub"], 1, 1, 0)
    ]  # fmt: skip
    assert found["runs"][0]["epsilon"] == epsilon([EVENT] * 3, 1e-6)
    words = said(capsys, "show", "--home", spent.directory)
    for part in ("4 trainings", "of 8 at delta 1e-06", f"left: {left:,} steps", "first: sentiment_analysis for the hub",
                 "1 never finished"):  # fmt: skip
        assert part in words, part


def test_show_states_a_second_figure_with_its_assumptions_as_the_statement_does(
    home: InstitutionDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    with PrivacyLedger.open(home.ledger_path, home.keys()) as ledger:
        ledger.settle(ledger.reserve(EVENT, use(), LIMIT), 20)
        ledger.reserve(EVENT, use(round=2), LIMIT)
    found = told(capsys, "show", "--home", home.directory)
    stated = told(capsys, "statement", "--home", home.directory)
    assert found["global_model"] == stated["global_model"]
    assert [figure["others"] for figure in found["global_model"]] == [1, 4, 19, 49]
    assert found["epsilon_spent"] > found["global_model"][0]["epsilon"]
    assert found["global_model_assumes"] == stated["global_model_assumes"] != []
    lines = said(capsys, "show", "--home", home.directory).splitlines()
    (line,) = [line for line in lines if line.startswith("against those who see only the global models")]
    for figure in found["global_model"]:
        assert f"{math.ceil(figure['epsilon'] * 1000) / 1000:.3f} with {figure['others']}" in line
    assert all(assumed in line for assumed in found["global_model_assumes"])


def test_the_second_figure_counts_own_noise_alone_for_trainings_that_no_other_institution_hides(
    home: InstitutionDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    with PrivacyLedger.open(home.ledger_path, home.keys()) as ledger:
        for round_, run in enumerate(["first", "keeps its head"]):
            ledger.settle(ledger.reserve(EVENT, use(run_id=run, round=round_), LIMIT), 20)
        ledger.settle(ledger.reserve(EVENT, use(run_id="alone", requester="bank"), LIMIT), 20)
    part = home.personal("keeps its head")
    part.mkdir(parents=True)
    (part / "record.json").write_text(json.dumps({"run_id": "keeps its head", "method": "head"}))
    (figure, *_) = told(capsys, "show", "--home", home.directory)["global_model"]
    hidden = DpSgdEvent(EVENT.noise_multiplier * math.sqrt(2), EVENT.sampling_probability, 1)
    assert figure["epsilon"] == epsilon([replace(EVENT, steps=59), hidden], 1e-6)
    with PrivacyLedger.open(home.ledger_path, home.keys()) as ledger:
        ledger.reserve(DpSgdEvent(0.0, 1.0, 5), use(run_id="bare", delta=None, clipping_norm=0.0), None)
    assert told(capsys, "show", "--home", home.directory)["global_model"] == []


def test_show_says_when_the_data_changed(spent: InstitutionDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    states = told(capsys, "show", "--home", spent.directory)["data"]
    assert [(s["fingerprint"][0], s["from_entry"], s["num_units"], s["trainings"]) for s in states] == [
        ("f", 1, 300, 3), ("e", 6, 310, 1)
    ]  # fmt: skip
    words = said(capsys, "show", "--home", spent.directory)
    assert words.count("the data changed; what was spent stays spent: 310 records") == 1
    assert "since entry 6" in words


def test_a_training_without_privacy_is_shown_as_what_it_is(
    home: InstitutionDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    with PrivacyLedger.open(home.ledger_path, home.keys()) as ledger:
        ledger.reserve(DpSgdEvent(0.0, 1.0, 5), use(delta=None, clipping_norm=0.0), None)
    found = told(capsys, "show", "--home", home.directory)
    assert (found["epsilon_spent"], found["trainings_without_privacy"]) == ("infinity", 1)
    words = said(capsys, "show", "--home", home.directory)
    assert "epsilon infinite of 8" in words
    assert "NO PRIVACY: 1 training" in words


def test_noise_from_a_fixed_seed_is_shown_as_what_it_is(
    home: InstitutionDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    with PrivacyLedger.open(home.ledger_path, home.keys()) as ledger:
        ledger.reserve(EVENT, use(), LIMIT)
        ledger.reserve(EVENT, use(round=2, noise="fixed"), LIMIT)
    assert told(capsys, "show", "--home", home.directory)["trainings_with_fixed_noise"] == 1
    assert "NOT PRIVATE: 1 training with noise from a fixed seed" in said(capsys, "show", "--home", home.directory)


def test_an_untouched_institution_has_spent_nothing(
    home: InstitutionDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told(capsys, "show", "--home", home.directory)["epsilon_spent"] == 0.0
    assert "ledger holds no training" in said(capsys, "statement", "--home", home.directory, code=2)
    assert "nothing was spent yet" in said(
        capsys, "export", "--home", home.directory, "--out", home.directory / "x.csv", code=2
    )
    assert not (home.directory / "x.csv").exists()


def test_an_auditor_verifies_with_the_public_key_alone(
    spent: InstitutionDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = tmp_path / "auditor"
    elsewhere.mkdir()
    for path in (spent.ledger_path, spent.ledger_path.with_name("ledger.jsonl.head"), spent.keys_path / "public.json"):
        shutil.copy(path, elsewhere)
    ledger, key = elsewhere / "ledger.jsonl", elsewhere / "public.json"
    found = told(capsys, "verify", ledger, "--key", key)
    assert (found["verified"], found["entries"], found["trainings"], found["unfinished"]) == (True, 7, 4, 1)
    assert found == told(capsys, "verify", "--home", spent.directory) | {"ledger": str(ledger)}
    # Also while the agent holds it.
    with PrivacyLedger.open(spent.ledger_path, spent.keys()):
        assert "7 entries" in said(capsys, "verify", "--home", spent.directory)
    text = ledger.read_bytes()
    ledger.write_bytes(text.replace(b'"steps":20', b'"steps":10', 1))
    assert "line 1 was edited" in said(capsys, "verify", ledger, "--key", key, code=2)
    ledger.write_bytes(b"".join(text.splitlines(keepends=True)[:-1]))
    assert "cut short" in said(capsys, "verify", ledger, "--key", key, code=2)
    ledger.write_bytes(text)
    key.write_text(PrivateKeys.generate("bank").public.to_json())
    assert "another key" in said(capsys, "verify", ledger, "--key", key, code=2)


@pytest.mark.parametrize(
    ("rounds", "mode", "privacy"),
    [
        (3, "custom", CUSTOM),
        (200, "custom", CUSTOM),
        (5, "target", "target_epsilon = 6.5\nclipping_norm = 0.5\ndelta = 1e-6"),
        (5, "target", "target_epsilon = 7.99\nclipping_norm = 0.5\ndelta = 1e-7"),
    ],
)
def test_the_forecast_is_what_reserving_round_after_round_then_gives(
    spent: InstitutionDirectory, capsys: pytest.CaptureFixture[str], rounds: int, mode: str, privacy: str
) -> None:
    found = told(capsys, "forecast", run_file(spent, rounds, mode, privacy), "--home", spent.directory)
    event = DpSgdEvent.from_json(found["event_of_round"])
    limit, played = spent.settings().limits.budget, 0
    with PrivacyLedger.open(spent.ledger_path, spent.keys()) as ledger:
        assert found["epsilon_spent"] == ledger.epsilon(1e-6)
        try:
            for number in range(rounds):
                ledger.settle(ledger.reserve(event, use(run_id="desks", round=number), limit), event.steps)
                played += 1
        except BudgetExceeded:
            pass
        assert (found["rounds_that_fit"], found["refused"]) == (played, played < rounds)
        if not found["refused"]:
            assert found["epsilon_after"] == pytest.approx(ledger.epsilon(1e-6), rel=2e-3)
            assert found["epsilon_run"] == ledger.epsilon(found["delta_run"], "desks")
    assert (found["code"] == "budget") == found["refused"]


@pytest.mark.parametrize(
    ("change", "privacy", "code", "why"),
    [
        (("", ""), CUSTOM.replace("1e-6", "1e-4"), "privacy_limit", "is above limits.delta"),
        (("delta = 1e-6", "delta = 0.01"), CUSTOM, "privacy_limit", "limits.delta is not below one over"),
        (
            ("min_noise_multiplier = 0.3", "min_noise_multiplier = 3.0"),
            CUSTOM,
            "privacy_limit",
            "is below this institution's limits.min_noise",
        ),
        (('unit = "record"', 'unit = "customer"'), CUSTOM, "privacy_limit", "protects one record"),
        (('allowed = ["minilm"]', 'allowed = ["other"]'), CUSTOM, "base_model", "not among"),
        (("allow_without_privacy = false", 'tasks = ["financial_ner"]'), CUSTOM, "task", "not among"),
    ],
)
def test_a_refusal_is_foretold_with_its_code_and_reason(
    spent: InstitutionDirectory,
    capsys: pytest.CaptureFixture[str],
    change: tuple[str, str],
    privacy: str,
    code: str,
    why: str,
) -> None:
    if change[0]:
        configure(spent, *change)
    path = run_file(spent, privacy=privacy)
    found = told(capsys, "forecast", path, "--home", spent.directory)
    assert (found["refused"], found["code"], found["rounds_that_fit"]) == (True, code, 0)
    assert why in found["why"]
    assert f"REFUSED ({code})" in said(capsys, "forecast", path, "--home", spent.directory)


def test_the_quorums_noise_gives_a_second_figure_against_those_who_see_only_the_global_models(
    home: InstitutionDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run_file(home)
    alone = told(capsys, "forecast", path, "--home", home.directory)
    assert (alone["others"], alone["epsilon_global_model"]) == (None, None)
    path.write_text(path.read_text() + "\n[aggregation]\nquorum = 5\n")
    found = told(capsys, "forecast", path, "--home", home.directory)
    event = DpSgdEvent.from_json(found["event_of_round"])
    shared = replace(event, noise_multiplier=event.noise_multiplier * math.sqrt(5), steps=3)
    expected = epsilon([replace(event, steps=3 * (event.steps - 1)), shared], found["delta_run"])
    assert found["others"] == 4
    assert found["epsilon_global_model"] == pytest.approx(expected, rel=1e-3)
    assert found["epsilon_global_model"] < found["epsilon_run"] == alone["epsilon_run"]
    assert "if 4 others or more each add" in said(capsys, "forecast", path, "--home", home.directory)
    configure(home, "allowed = []                   # of", 'allowed = ["after"]  # of')
    path.write_text(path.read_text() + '\n[personalisation]\nmethod = "after"\nsteps = 9\n')
    later = told(capsys, "forecast", path, "--home", home.directory)
    expected = epsilon([replace(event, steps=3 * (event.steps - 1) + 9), shared], later["delta_run"])
    assert later["epsilon_global_model"] == pytest.approx(expected, rel=1e-3)


def test_a_ledger_of_records_foretells_that_customers_are_refused(spent: InstitutionDirectory) -> None:
    configure(spent, 'unit = "record"', 'unit = "customer"')
    configure(spent, '[data]\ntrain = "train.csv"', '[data]\ntrain = "train.csv"\ncustomer_column = "text"')
    tables = {
        "run": {"name": "r", "seed": 1, "rounds": 1}, "task": {"name": "sentiment_analysis"},
        "training": {"local_steps": 1, "sampling_rate": 0.1, "learning_rate": 1.0},
        "privacy": {"mode": "custom", "unit": "customer", "noise_multiplier": 2.0, "clipping_norm": 1.0,
                    "delta": 1e-6},
    }  # fmt: skip
    config, settings = parse_run(tables, "test"), spent.settings()
    charges = read_charges(spent.ledger_path, spent.public_keys())
    found = forecast(config, settings, charges)
    assert found.num_units == 300
    assert found.event == event_of_round(config, settings, 300)
    assert found.refused is not None
    assert found.refused[0] == "budget"
    assert "protects each record" in found.refused[1]
    with (
        PrivacyLedger.open(spent.ledger_path, spent.keys()) as ledger,
        pytest.raises(BudgetExceeded, match="protects each record"),
    ):
        ledger.reserve(found.event, use(unit="customer"), settings.limits.budget)


def test_export_holds_every_training_and_is_the_owners_alone(
    spent: InstitutionDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("ledger.csv", "ledger.json"):
        assert told(capsys, "export", "--home", spent.directory, "--out", tmp_path / name)["trainings"] == 4
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    with (tmp_path / "ledger.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    whole = json.loads((tmp_path / "ledger.json").read_text())
    assert [row["steps_done"] for row in table] == ["20", "", "20", "20"]
    assert [row["run_id"] for row in whole["charges"]] == ["first", "first", "first", "second"]
    assert [float(row["epsilon_after"]) for row in table] == [epsilon([EVENT] * n, 1e-6) for n in (1, 2, 3, 4)]
    assert set(table[0]) == set(whole["charges"][0])
    charges = read_charges(spent.ledger_path, spent.public_keys())
    assert whole["statements"] == [statement(charges, "bank", run, LIMIT).to_json() for run in ("first", "second")]


def test_bad_input_is_one_line_and_exit_code_2(
    spent: InstitutionDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "key.json").write_text("{}")
    (tmp_path / "misspelt.toml").write_text("[run]\n[privcy]\n")
    for arguments, named in (
        (("show", "--home", tmp_path / "nowhere"), "nowhere"),
        (("verify", spent.ledger_path), "--key"),
        (("verify", tmp_path / "no.jsonl", "--key", spent.keys_path / "public.json"), "no.jsonl"),
        (("verify", spent.ledger_path, "--key", tmp_path / "key.json"), "key.json"),
        (("verify", spent.ledger_path, "--key", tmp_path / "absent.json"), "absent.json"),
        (("forecast", tmp_path / "absent.toml", "--home", spent.directory), "absent.toml"),
        (("forecast", tmp_path / "misspelt.toml", "--home", spent.directory), "[privcy]"),
        (("export", "--home", spent.directory, "--out", tmp_path / "ledger.pdf"), ".csv"),
        (("statement", "--home", spent.directory, "--run", "unknown"), "first, second"),
    ):
        line = said(capsys, *arguments, code=2)
        assert named in line
        assert line.count("\n") == 1


def test_the_statement_is_the_one_of_the_ledger_in_words_and_numbers(
    spent: InstitutionDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    made = told(capsys, "statement", "--home", spent.directory, "--run", "first")
    charges = read_charges(spent.ledger_path, spent.public_keys())
    assert made | {"epsilon_prv": None} == statement(charges, "bank", "first", LIMIT).to_json()
    assert told(capsys, "statement", "--home", spent.directory)["run_id"] == "second"
    words = said(capsys, "statement", "--home", spent.directory, "--run", "first")
    for part in ("Protected is one record", "Against the hub", "Not covered:", "for 10"):
        assert part in words


@pytest.mark.parametrize("action", ["show", "verify", "forecast", "export"])
def test_the_commands_start_without_torch(spent: InstitutionDirectory, action: str) -> None:
    arguments = {
        "forecast": ["forecast", str(run_file(spent)), "--home", str(spent.directory)],
        "export": ["export", "--home", str(spent.directory), "--out", str(spent.directory / "x.json")],
    }.get(action, [action, "--home", str(spent.directory)])
    code = (
        f"import sys; from client.cli import main; c = main(['budget', *{arguments!r}]); "
        "sys.exit(c or 9 * ('torch' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("others", "named"), [(["4096", "4096", "4096"], True), (["512", "512"], False)])
def test_the_forecast_names_an_institution_that_would_have_almost_no_say(
    home: InstitutionDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str], others: list[str], named: bool
) -> None:
    settings = home.settings_path.read_text().replace("# declared_units = 1024", "declared_units = 256")
    home.settings_path.write_text(settings)
    path = tmp_path / "run.toml"
    weighting = '[aggregation]\nweighting = "inverse_variance"\n'
    path.write_text(RUN.format(rounds=2, mode="custom", privacy=CUSTOM) + weighting)
    arguments = ["budget", "forecast", str(path), "--home", str(home.directory), "--others", *others]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert ("LITTLE SAY: bank would have less than a tenth" in printed) == named
    assert "share in the weights: 0." in printed
    assert main([*arguments, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["little_say"] == named
    # By inverse variance the mean has the noise of the root of the sum of squares.
    assert facts["noise_equivalent_units"] == pytest.approx(math.hypot(256, *map(int, others)))
    assert f"{facts['noise_equivalent_units']:,.0f} units, you declare 256" in printed


def test_under_secure_aggregation_forecast_and_ledger_have_a_figure_without_the_noise_of_others(
    home: InstitutionDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run_file(home, 10, "target", "target_epsilon = 3\nclipping_norm = 0.5\ndelta = 1e-6")
    text = path.read_text().replace("local_steps = 20", "local_steps = 1")
    path.write_text(text + "\n[aggregation]\nsecure = true\nhonest = 4\nthreshold = 4\n")
    found = told(capsys, "forecast", path, "--home", home.directory)
    assert (found["honest"], found["refused"]) == (4, True)
    assert found["epsilon_run"] <= 3 < 8 < found["epsilon_run_alone"] == found["epsilon_after_alone"]
    assert "8 at delta 1e-06 if all others work with the hub" in found["why"]
    configure(home, "# max_epsilon_alone = 8.0", "max_epsilon_alone = 20.0")
    found = told(capsys, "forecast", path, "--home", home.directory)
    assert not found["refused"]
    words = said(capsys, "forecast", path, "--home", home.directory)
    assert "this rests on 4 institutions of each sum, you among them" in words
    three = ("--home", home.directory, "--others", *["1024"] * 3)
    together = told(capsys, "forecast", path, *three)["noise_equivalent_units"]
    path.write_text(text)
    # The whole noise is added once, and not by each of four institutions.
    assert together == pytest.approx(2 * told(capsys, "forecast", path, *three)["noise_equivalent_units"])
    assert together == pytest.approx(4 * 1024)
    event, limits = DpSgdEvent.from_json(found["event_of_round"]), home.settings().limits
    with PrivacyLedger.open(home.ledger_path, home.keys()) as ledger:
        for number in range(10):
            charged = use(run_id="desks", round=number, honest=4)
            ledger.settle(ledger.reserve(event, charged, limits.budget, limits.budget_alone), 1)
        assert found["epsilon_run"] == pytest.approx(ledger.epsilon(1e-6), rel=2e-3)
        assert found["epsilon_run_alone"] == pytest.approx(ledger.epsilon_alone(1e-6), rel=2e-3)
    shown = told(capsys, "show", "--home", home.directory)
    assert shown["epsilon_spent"] < shown["epsilon_spent_alone"] < shown["max_epsilon_alone"] == 20
    assert shown["global_model"] == []
    assert "without it epsilon" in said(capsys, "show", "--home", home.directory)
    statement = told(capsys, "statement", "--home", home.directory)
    assert statement["epsilon_run_alone"] == shown["epsilon_spent_alone"]


def test_a_run_without_it_is_held_against_the_limit_without_the_noise_of_others_too(
    home: InstitutionDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    limits = home.settings().limits
    with PrivacyLedger.open(home.ledger_path, home.keys()) as ledger:
        ledger.settle(ledger.reserve(EVENT, use(honest=16), LIMIT, PrivacyLimit(100.0, 1e-6)), 20)
        with pytest.raises(BudgetExceeded, match="if all others work with the hub"):
            ledger.check(EVENT, use(run_id="plain"), limits.budget, limits.budget_alone)
    path = run_file(home, 1, "custom", CUSTOM)
    found = told(capsys, "forecast", path, "--home", home.directory)
    assert (found["refused"], found["code"], found["rounds_that_fit"]) == (True, "budget", 0)
    assert found["epsilon_after"] < 8 < found["epsilon_after_alone"]
    words = said(capsys, "forecast", path, "--home", home.directory)
    assert "without the noise of others: epsilon" in words
    assert "None" not in words
    assert told(capsys, "show", "--home", home.directory)["steps_left"] == 0
    assert "against the hub and everybody else" not in said(capsys, "show", "--home", home.directory)


def test_the_table_of_a_ledger_with_and_without_secure_aggregation_is_exported(
    home: InstitutionDirectory, tmp_path: Path
) -> None:
    with PrivacyLedger.open(home.ledger_path, home.keys()) as ledger:
        for honest in (None, 4, None):
            ledger.settle(ledger.reserve(EVENT, use(honest=honest), None), 20)
    out = tmp_path / "charges.csv"
    assert main(["budget", "export", "--home", str(home.directory), "--out", str(out)]) == 0
    with out.open(newline="") as file:
        assert [row["honest"] for row in csv.DictReader(file)] == ["", "4", ""]


def test_no_figure_against_the_hub_counts_the_noise_that_others_added_in_other_runs(home: InstitutionDirectory) -> None:
    with PrivacyLedger.open(home.ledger_path, home.keys()) as ledger:
        ledger.settle(ledger.reserve(EVENT, use(honest=16), None), 20)
        ledger.settle(ledger.reserve(EVENT, use(run_id="plain"), None), 20)
        charges = ledger.charges
    made = statement(charges, "bank", "plain", None)
    everything = epsilon([charge.event_alone for charge in charges], 1e-6)
    assert made.epsilon_cumulative is not None
    assert made.epsilon_cumulative < everything == made.epsilon_cumulative_alone
    assert {adversary.epsilon_all_runs for adversary in made.adversaries} == {everything}
