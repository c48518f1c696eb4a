"""Plots: each mark is at the place of its number, and no number breaks one."""

import itertools
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.report.html import Html
from common.report.plots import Bar, Line, Reference, bars, line_plot, merged

WIDTH = 860


def numbers(svg: Html, pattern: str) -> list[float]:
    return [float(n) for n in re.findall(pattern, svg)]


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True).filter(lambda v: not 1e18 < abs(v) < 1e999), max_size=8))
def test_any_values_give_well_formed_svg_inside_its_frame(values: list[float]) -> None:
    svg = line_plot([Line("a", tuple(enumerate(values)))], "d", "round", [Reference("r", 0.5)])
    if not svg:
        return
    ElementTree.fromstring(svg)  # noqa: S314 - our own markup
    assert "nan" not in svg
    height = numbers(svg, r'viewBox="0 0 860 (\d+)"')[0]
    assert all(0 <= y <= height for y in numbers(svg, r' cy="([-\d.]+)"'))
    assert all(0 <= x <= WIDTH for x in numbers(svg, r' cx="([-\d.]+)"'))


def test_heights_are_in_proportion_to_values() -> None:
    svg = line_plot([Line("a", ((1, 0.2), (2, 0.4), (3, 0.8)))], "d", "round")
    low, middle, high = numbers(svg, r' cy="([-\d.]+)"')
    assert low > middle > high
    assert (middle - high) / (low - middle) == pytest.approx(2, abs=0.01)


def test_bars_start_at_zero_and_are_in_proportion() -> None:
    svg = bars([Bar("a", 0.25), Bar("b", 0.5, strong=True), Bar("c", 0.75)], "d")
    one, two, three = numbers(svg, r'width="([\d.]+)"')
    assert two == pytest.approx(2 * one, abs=0.3)
    assert three == pytest.approx(3 * one, abs=0.3)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=14))
def test_labels_never_lie_on_each_other_nor_outside(values: list[float]) -> None:
    lines = [Line(f"bank {i}", ((1, v),)) for i, v in enumerate(values)]
    svg = line_plot(lines, "d", "round", [Reference("limit", 0.0)])
    places = sorted(float(y) for y in re.findall(r'<text x="[\d.]+" y="([-\d.]+)" class="end', svg))
    assert len(places) == len(values) + 1
    assert all(after - before > 14 for before, after in itertools.pairwise(places))
    axis = numbers(svg, r'y="([\d.]+)" class="tick" text-anchor="middle"')[0]
    assert places[0] > 8
    assert places[-1] < axis


def test_axis_numbers_differ_however_close_the_values() -> None:
    svg = line_plot([Line("a", ((1, 0.80001), (2, 0.80004)))], "d", "round")
    ticks = re.findall(r'text-anchor="end">([\d.]+)<', svg)
    assert len(ticks) == len(set(ticks)) >= 3


def test_equal_lines_are_merged_and_others_are_not() -> None:
    same = ((1.0, 2.0),)
    lines = [Line("a", same), Line("b", ((1.0, 3.0),)), Line("c", same)]
    assert [line.label for line in merged(lines)] == ["a, c", "b"]
    assert [line.label for line in merged([Line(n, same) for n in "abc"])] == ["all 3"]


def test_nothing_to_plot_is_nothing() -> None:
    assert line_plot([], "d", "round") == ""
    assert bars([], "d") == ""
    assert bars([Bar("a", float("nan"))], "d") == ""
