"""The mean over institutions and the worst one beside the figure over all rows, and who pays for almost no say."""

import pytest

from common.report.by_institution import (
    describe_losers,
    describe_say,
    describe_spreads,
    figures_by_institution,
    little_say,
    losers,
    mean_shares,
    spread,
    spreads,
)
from common.report.privacy_statement import paragraphs
from common.report.records import ResultRecord, RoundRecord, Spread
from common.report.statement_record import StatementRecord

ROUNDS = (
    RoundRecord(round=1, weights={"large": 0.75, "small": 0.25}, by_institution={"large": {"accuracy": 0.5}}),
    RoundRecord(round=2),
    RoundRecord(
        round=3,
        weights={"large": 1.0},
        by_institution={"large": {"accuracy": 0.8}, "small": {"accuracy": 0.4}},
    ),
)


def test_a_share_is_the_mean_over_the_rounds_that_counted_and_absence_is_no_share() -> None:
    assert mean_shares(ROUNDS) == {"large": 0.875, "small": 0.125}
    assert mean_shares(()) == {}


@pytest.mark.parametrize(("share", "named"), [(0.049, ("small",)), (0.051, ())])
def test_an_institution_below_a_tenth_of_an_equal_share_is_named(share: float, named: tuple[str, ...]) -> None:
    assert little_say({"large": 1 - share, "small": share}) == named
    assert ("small has less than a tenth of an equal share" in describe_say(named)) == bool(named)


def test_every_institution_counts_alike_in_the_mean_and_the_worst_is_named() -> None:
    found = spread({"a": {"accuracy": 0.75}, "b": {"accuracy": 0.25}, "c": {"accuracy": 0.5}})
    assert found == Spread(metric="accuracy", mean=0.5, worst=0.25, institution="b")


def test_the_worst_perplexity_is_the_largest() -> None:
    found = spread({"a": {"perplexity": 10.0}, "b": {"perplexity": 30.0}})
    assert found == Spread(metric="perplexity", mean=20.0, worst=30.0, institution="b")


def test_one_institution_has_no_spread_and_neither_have_rows_that_belong_to_nobody() -> None:
    assert spread({"a": {"accuracy": 1.0}}) is None
    assert spreads(figures_by_institution(ROUNDS[1:2], {"a": None, "b": None}, {}, {})) == {}


def test_the_sentence_holds_the_figure_over_all_rows_the_mean_and_the_worst() -> None:
    institutions = figures_by_institution(ROUNDS, {"large": 8.0, "small": 8.0}, {}, {})
    assert [(each.name, each.share, each.epsilon) for each in institutions] == [
        ("large", 0.875, 8.0),
        ("small", 0.125, 8.0),
    ]
    result = ResultRecord(metrics={"accuracy": 0.75}, over_institutions=spreads(institutions))
    (line,) = describe_spreads(result)
    assert line == (
        "global model, accuracy: 0.750 over all rows, 0.600 mean over institutions, 0.400 at the worst (small)"
    )


@pytest.mark.parametrize(
    ("alone", "shared", "personal", "behind"),
    [
        (0.80, 0.80, None, {}),
        (0.80, 0.796, None, {}),
        (0.80, 0.794, None, {"alone": 0.6}),
        (0.80, 0.60, 0.80, {}),
        (0.80, 0.90, 0.70, {"alone": 10.0, "shared": 20.0}),
        (0.60, 0.90, 0.85, {"shared": 5.0}),
        (None, 0.90, 0.85, {"shared": 5.0}),
        (None, 0.90, None, {}),
    ],
)
def test_who_ends_half_a_point_below_alone_or_the_global_model_loses(
    alone: float | None, shared: float, personal: float | None, behind: dict[str, float]
) -> None:
    last = RoundRecord(round=1, weights={"bank": 1.0}, by_institution={"bank": {"accuracy": shared}})
    found = figures_by_institution(
        [last],
        {"bank": None},
        {} if alone is None else {"bank": {"accuracy": alone}},
        {} if personal is None else {"bank": {"accuracy": personal}},
    )
    assert {name: round(100 * value, 6) for name, value in found[0].behind.items()} == behind
    assert losers(found) == (("bank",) if behind else ())
    models = {"alone": "alone", "shared": "the global model"}
    assert (describe_losers(found) == "") == (not behind)
    for name, points in behind.items():
        assert models[name] in describe_losers(found)
        assert f"{points:.1f}" in describe_losers(found)
    assert ("global" in describe_losers(found)) == ("shared" in behind)


@pytest.mark.parametrize("share", [0.004, 0.2])
def test_a_statement_has_the_share_beside_the_epsilon_and_names_little_say(share: float) -> None:
    record = StatementRecord(epsilon_run=8.0, steps=10, delta=1e-4, share=share, members=5)
    words = " ".join(paragraphs(record))
    assert f"a mean share of {share:.3f} in the weights" in words
    assert "An equal share of 5 institutions is 0.200" in words
    assert ("LITTLE SAY" in words) == (share < 0.02)


def test_a_statement_without_a_stated_share_says_nothing_about_it() -> None:
    assert "share" not in " ".join(paragraphs(StatementRecord(epsilon_run=8.0, steps=10, delta=1e-4)))
