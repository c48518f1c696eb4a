"""The report: nothing in it can act, and it agrees with the files, above all if they say "not private"."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import CheckpointError
from common.report.formatting import format_epsilon
from server.report.report import write_report
from server.report.run_files import load_run
from tests.server.report.report_example import DOES_NOT_COVER, write_audit, write_example

VOID = {"meta"}


class Page(HTMLParser):
    """Elements, attributes and words of a page. Fails on tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def report(out: Path) -> Page:
    page = Page(write_report(out).read_text(encoding="utf-8"))
    assert page.open == []
    return page


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    evil = [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "&lt;b&gt; ]]> </style></svg><script>",
        "a\u202eb\x00\ud800c",
    ]
    names = dict(zip(("retail_bank", "commodities_desk", "credit_fund", "fx_desk"), evil, strict=True))
    out = write_example(tmp_path, rename=names)
    change(out / "result.json", name=evil[0], task=evil[1], labels=evil)
    change(out / "config.json", model={"base": evil[1]}, seed=evil[2])
    history = json.loads((out / "history.json").read_text())
    (out / "history.json").write_text(json.dumps([r | {"adapter_digest": '" onclick="alert(1)'} for r in history]))
    (out / "config.toml").write_text(f"# {evil[0]} {evil[2]}")
    page = report(out)
    kinds = {tag for tag, _ in page.tags}
    assert not kinds & {"script", "img", "iframe", "object", "link", "embed"}
    assert not [key for _, attributes in page.tags for key in attributes if key.startswith("on")]
    assert evil[0] in page.text
    assert evil[1] in page.text
    assert "\u202e" not in page.text


def test_page_loads_nothing_from_anywhere(tmp_path: Path) -> None:
    text = write_report(write_example(tmp_path)).read_text()
    page = Page(text)
    links = [
        v
        for _, attributes in page.tags
        for k, v in attributes.items()
        if k in {"href", "src", "srcset", "data", "xlink:href"}
    ]
    assert links
    assert all(link and link.startswith("#") for link in links)
    assert "url(" not in text
    assert "@import" not in text
    assert "http" not in text.replace("http-equiv", "")
    anchors = {attributes.get("id") for _, attributes in page.tags}
    assert {link[1:] for link in links if link} <= anchors


def test_same_files_give_the_same_bytes_and_no_path_of_this_machine(tmp_path: Path) -> None:
    first = write_report(write_example(tmp_path / "a")).read_bytes()
    second = write_report(write_example(tmp_path / "b")).read_bytes()
    assert first == second
    assert str(tmp_path).encode() not in first
    assert b"/home/someone" not in first


def test_headline_compares_with_the_best_institution_alone(tmp_path: Path) -> None:
    text = report(write_example(tmp_path)).text
    assert (
        "Four institutions together reached 77.4 % accuracy on the hub's test set after 6 rounds, 10.4 points above"
        in text
    )
    assert "the best of them alone (retail_bank, 67.0 %)" in text
    assert "no institution's ε exceeded 8.000 for one record, at δ = 0.0001" in text


def test_headline_names_both_figures_of_secure_aggregation(tmp_path: Path) -> None:
    out = write_example(tmp_path)
    change(out / "result.json", epsilon_alone={"retail_bank": 14.9, "fx_desk": 13.0})
    text = report(out).text
    assert (
        "exceeded 8.000 for one record, at δ = 0.0001, under the assumption of secure aggregation, and 14.900" in text
    )
    assert "Without the noise of others 14.900" in " ".join(text.split())


def test_headline_does_not_hide_a_loss(tmp_path: Path) -> None:
    out = write_example(tmp_path)
    change(out / "result.json", accuracy=0.60)
    assert "7.0 points below the best of them alone" in report(out).text


def test_an_answer_that_nobody_asked_for_is_told(tmp_path: Path) -> None:
    out = write_example(tmp_path)
    history = json.loads((out / "history.json").read_text())
    history[0]["outcomes"]["stranger"] = "refused:unknown_sender"
    (out / "history.json").write_text(json.dumps(history))
    text = report(out).text
    assert "stranger refused:unknown_sender" in text
    assert "the sender is not enrolled" in text


def test_refusals_are_named_by_round_with_their_meaning(tmp_path: Path) -> None:
    text = report(write_example(tmp_path)).text
    assert "fx_desk failed:silent" in text
    assert text.count("commodities_desk declined:budget") == 2
    assert "privacy budget; nothing was trained" in text
    assert "silent" not in report(write_example(tmp_path / "whole", refuse=False)).text


def test_statement_names_unit_adjacency_sampler_noise_delta_and_accountant(tmp_path: Path) -> None:
    text = report(write_example(tmp_path)).text
    for words in (
        "Protected is one record", "adding or removing one record", "(Poisson sampling)", "probability 0.125",
        "clipped to norm 1", "0.7214 times that norm", "Source of the noise: operating system", "at δ = 0.0001",
        "PLD, dp-accounting 0.6.0", "Cross-check by PRV: 7.996", "In each of 120 steps", "RDP: 8.900",
        "at most 27.07% at 1.0% false alarms", "1.782 standard deviations apart", "ε = 19.651 for 2",
        "Against the hub: ε = 8.000 (all runs: ∞). Seen: every adapter.", "fingerprint of the data: 9f2c44aa01be",
        *DOES_NOT_COVER,
    ):  # fmt: skip
        assert words in text, words
    assert "NOT PRIVATE" not in text


@pytest.mark.parametrize("name", ["num_units", "population"])
def test_a_report_does_not_say_how_many_records_a_statement_counts(tmp_path: Path, name: str) -> None:
    """Statements of earlier releases call the number "population"."""
    out = write_example(tmp_path)
    counts = {name: 73_911, f"delta_times_{name}": 7.3911}
    change(out / "institutions" / "bank-1" / "statement.json", **counts)
    assert all(number not in report(out).text.replace("\u202f", "") for number in ("73911", "73,911", "7.39"))


def test_fixed_noise_is_called_not_private_before_anything_else(tmp_path: Path) -> None:
    page = report(write_example(tmp_path, noise="fixed"))
    assert page.text.index("NOT PRIVATE") < page.text.index("institutions together reached")
    assert ("div", {"class": "banner alarm", "role": "alert"}) in page.tags
    assert "no institution's ε exceeded" not in page.text
    assert page.text.count("With real noise this would be the promise") == 4
    assert "byte for byte" in page.text


def test_one_statement_of_fixed_noise_is_enough_for_the_warning(tmp_path: Path) -> None:
    out = write_example(tmp_path)
    change(out / "institutions" / "bank-2" / "statement.json", noise_source="fixed seed: NOT PRIVATE")
    text = report(out).text
    assert "NOT PRIVATE: fixed noise seed The noise of credit_fund was drawn" in text
    assert text.count("With real noise this would be the promise") == 1


def test_run_without_privacy_says_so_and_claims_no_epsilon(tmp_path: Path) -> None:
    out = write_example(tmp_path)
    change(out / "config.json", privacy={"mode": "none"})
    change(
        out / "result.json", epsilon=dict.fromkeys(json.loads((out / "result.json").read_text())["epsilon"]), delta=None
    )
    change_all = [out / "institutions" / f"bank-{i}" / "statement.json" for i in range(4)]
    for path in change_all:
        change(path, epsilon_run=None, epsilon_cumulative=None, sampler="shuffled", covers=[])
    history = json.loads((out / "history.json").read_text())
    (out / "history.json").write_text(json.dumps([r | {"epsilon": {}} for r in history]))
    text = report(out).text
    assert "No differential privacy This run trained without" in text
    assert "Protected is one" not in text
    assert "no institution's ε" not in text


def test_equal_lines_are_one_line_named_after_all(tmp_path: Path) -> None:
    text = report(write_example(tmp_path, equal=True, refuse=False)).text
    assert "all 4 institutions" in text


@given(st.floats(0, 1e9))
def test_epsilon_is_never_shown_smaller_than_it_is(value: float) -> None:
    assert float(format_epsilon(value)) >= value - 1e-8
    assert float(format_epsilon(value)) - value <= 0.0010001 + value * 1e-12


def test_infinite_epsilon_is_shown_and_not_plotted(tmp_path: Path) -> None:
    out = write_example(tmp_path)
    history = json.loads((out / "history.json").read_text())
    for record in history:
        record["epsilon"]["fx_desk"] = float("inf")
    (out / "history.json").write_text(json.dumps(history))
    change(
        out / "institutions" / "bank-3" / "statement.json", epsilon_run=float("inf"), epsilon_cumulative=float("inf")
    )
    text = report(out).text
    assert "no institution's ε exceeded ∞" in text
    assert "nan" not in text.lower().replace("finance", "")


OPTIONAL = [
    "result.json",
    "history.json",
    "config.json",
    "versions.json",
    "run.json",
    "data.json",
    "config.toml",
    "institutions",
]


@pytest.mark.parametrize("absent", OPTIONAL)
def test_an_absent_file_leaves_its_part_empty(tmp_path: Path, absent: str) -> None:
    out = write_example(tmp_path)
    (out / absent).rename(tmp_path.parent / f"{tmp_path.name}-{absent}")
    assert "Privacy statements" in report(out).text


@pytest.mark.parametrize("kept", ["result.json", "history.json", "config.json"])
def test_one_file_is_enough_for_a_page(tmp_path: Path, kept: str) -> None:
    out = write_example(tmp_path)
    for path in sorted(out.rglob("*"), reverse=True):
        if path.is_dir():
            path.rmdir()
        elif path.name != kept:
            path.unlink()
    assert "What was run" in report(out).text


def test_without_any_statement_the_standing_limits_are_still_named(tmp_path: Path) -> None:
    out = write_example(tmp_path)
    for path in out.glob("institutions/*/statement.json"):
        path.unlink()
    text = report(out).text
    for words in ("no amplification", "hyperparameters", "test set, which is taken to be public", "one record"):
        assert words in text, words


def test_missing_statement_is_said_and_claims_nothing(tmp_path: Path) -> None:
    out = write_example(tmp_path)
    (out / "institutions" / "bank-1" / "statement.json").unlink()
    text = report(out).text
    assert text.count("No statement was found") == 1
    assert text.count("Protected is one record") == 3


def test_an_audit_is_shown_with_what_it_cannot_show(tmp_path: Path) -> None:
    out = write_example(tmp_path)
    assert "What an attacker finds" not in report(out).text
    write_audit(out)
    text = report(out).text
    for words in (
        "No attack refuted what the run claims",
        "156 of them right",
        "with confidence 0.95, ε is at least 0.55; claimed is 2.000",
        "not the guarantee",
        "could not have shown more than 4.67",
        "read 50 of 50 tokens if nothing protected it",
        "profit <warning>",
    ):
        assert words in text, words
    assert "another configuration" not in text


def test_what_an_audit_refuted_is_said_first_and_marked_at_its_place(tmp_path: Path) -> None:
    out = write_example(tmp_path)
    write_audit(out, failed=["canaries", "noise scale"], planted=True, noise_multiplier=0.0, config_digest="0" * 64)
    text = report(out).text
    assert "Refuted: canaries, noise scale." in text
    assert "was planted" in text
    assert "made for another configuration" in text
    assert "No attack refuted" not in text
    assert text.count("fails") == 1


@pytest.mark.parametrize("wrong", [{"checks": [3]}, {"lower_bound": "x"}, {"inversion": []}, {"failed": "noise"}])
def test_a_damaged_audit_is_one_line(tmp_path: Path, wrong: dict[str, Any]) -> None:
    out = write_example(tmp_path)
    write_audit(out, **wrong)
    with pytest.raises(CheckpointError, match=r"audit\.json"):
        write_report(out)


def test_facts_about_the_rows_of_a_simulation_are_on_the_page(tmp_path: Path) -> None:
    out = write_example(tmp_path)
    assert "are left out of the training" not in report(out).text
    first = next(iter(load_run(out).institutions))
    note = "3 training rows have a text of the test rows, and are left out of the training."
    (out / "data.json").write_text(json.dumps({"names": {first: "Τράπεζα <Άλφα>"}, "notes": [note]}))
    assert note in report(out).text
    assert f"{first} (Τράπεζα <Άλφα>)" in report(out).text
    assert "<Άλφα>" not in (out / "report.html").read_text()
