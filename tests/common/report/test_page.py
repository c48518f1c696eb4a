"""A report is one page that runs nothing, loads nothing and shows nothing that is absent."""

import re

from common.report.html import Html, tag
from common.report.page import facts, figure, figures, page
from common.report.style import STYLE


def test_the_page_escapes_its_text_and_forbids_scripts_and_loading() -> None:
    text = page("a <b> & c", tag("p", "<script>alert(1)</script>"))
    assert text.startswith("<!doctype html>\n<html")
    assert "<title>a &lt;b&gt; &amp; c</title>" in text
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    [policy] = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    assert "default-src" in policy
    assert "script" not in policy
    assert "http" not in text.replace("http-equiv", "")


def test_the_style_sheet_loads_nothing_and_closes_every_brace() -> None:
    assert not re.search(r"url\(|@import|expression|</", STYLE)
    assert STYLE.count("{") == STYLE.count("}")
    assert "COLOURS" not in STYLE
    assert {int(number) for number in re.findall(r"svg \.line\.s(\d)", STYLE)} == set(range(8))


def test_every_colour_that_is_used_is_defined_on_screen_in_the_dark_and_in_print() -> None:
    used = set(re.findall(r"var\((--[\w-]+)\)", STYLE))
    light, dark, printed = (set(re.findall(r"(--[\w-]+):", part)) for part in STYLE.split(":root")[1:])
    assert used <= light
    assert light == dark | {"--on-alarm"}
    assert printed <= light


def test_absent_values_are_left_out_and_an_empty_list_is_nothing() -> None:
    rows = [("epsilon", "3.0"), ("delta", ""), ("rounds", "–")]
    for render, name in ((figures, "figures"), (facts, "facts")):
        text = str(render(rows))
        assert f'class="{name}"' in text
        assert "3.0" in text
        assert "delta" not in text
        assert "rounds" not in text
        assert render(rows[1:]) == Html("")


def test_a_figure_without_a_plot_is_nothing() -> None:
    assert figure("loss", Html("")) == Html("")
    assert "<figcaption>loss</figcaption>" in str(figure("loss", tag("svg")))
