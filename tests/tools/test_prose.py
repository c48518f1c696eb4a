"""Rates of prose habits: which sentences count, and where they are shown."""

from pathlib import Path

import pytest

from tools import prose
from tools.prose_sources import passages

NOUN_CLAUSES = (
    "Return what is promised.",
    "Say what was spent by whom.",
    "What a run costs at most.",
    "The cost of what is read.",
    "Do you know what is promised?",
    "# What is promised",
    "It differs from what `x` says.",
)
NO_NOUN_CLAUSES = (
    "What is it?",
    "Which rows, and what is left of them?",
    "1. What newly leaves an institution?",
    "For what?",
    'The word "what" is counted.',
    'A phrase such as "what is left" is quoted.',
    "what: name of the input",
    "Call `what(x)` first.",
    "A what-if analysis, somewhat whatever.",
)
CONDITIONS = (
    "None where there is none.",
    "Where no size is declared, its divisor follows from the rows.",
    "Where the kernel can, processes are ended.",
    "The table is empty; where another process was faster, its directory stands.",
    "Infinite where all such tests can succeed.",
    "False where unsupported.",
    "It waits, where possible, for others.",
    "The hidden states, where the model has any, are kept.",
    "`recall` where a label is negative.",
    "Take 32 where words carry labels.",
)
PLACES = (
    "The directory where the adapter is saved.",
    "Return the path of the file, where each line holds one object.",
    "Where the data lies.",
    "Say where the run stands, for the audit log.",
    "From where it began.",
    "Continue at the exact round where it stopped.",
    "Tokens where texts are cut.",
    "The number of places where to look.",
    "The noise is q times C, where q is the sampling rate.",
    "The noise is q times C, where `q` is the sampling rate.",
    "Where is it?",
    'Write "if", never "where none is set".',
    "where: place in the file",
    "Use `np.where(x)`, or np.where(x, 0, 1).",
)


def counted(tmp_path: Path, text: str, habit: str, name: str = "page.md") -> list[int]:
    """Lines at which `habit` was found in a file that holds `text`."""
    (tmp_path / name).write_text(text)
    return [found.line for part in passages(tmp_path / name) for found in prose.find(part) if found.habit == habit]


@pytest.mark.parametrize("sentence", NOUN_CLAUSES)
def test_what_in_place_of_a_noun_is_counted(tmp_path: Path, sentence: str) -> None:
    assert counted(tmp_path, sentence, "what") == [1]


@pytest.mark.parametrize("sentence", NO_NOUN_CLAUSES)
def test_what_in_questions_names_and_code_is_not_counted(tmp_path: Path, sentence: str) -> None:
    assert counted(tmp_path, sentence, "what") == []


@pytest.mark.parametrize("sentence", CONDITIONS)
def test_where_for_if_is_counted(tmp_path: Path, sentence: str) -> None:
    assert counted(tmp_path, sentence, "where") == [1]


@pytest.mark.parametrize("sentence", PLACES)
def test_where_for_a_place_is_not_counted(tmp_path: Path, sentence: str) -> None:
    assert counted(tmp_path, sentence, "where") == []


def test_semicolons_of_prose_are_counted_and_those_of_code_are_not(tmp_path: Path) -> None:
    page = "One; two.\n\n```\na; b\n```\n\nCall `a; b` &amp; see [x](y;z). Three; four; five.\n\n| a; b | `c;` |\n"
    assert counted(tmp_path, page, "semicolon") == [1, 7, 7, 9]


PYTHON = '''"""Read what is left.

    >>> print("what a; b")
    what a; b

After `what`; it ends.
"""

import os  # what is loaded first; noqa is cut  # noqa: F401

LIMIT = 3
"""Where none is set, this one holds."""


def f(text: str = "what; where there is none") -> None:
    """Return `x`.

    Args:
        text: what is read; None where there is none.
        what: name of the input.
    """
    # A question of two lines: what
    # is it?
    # type: ignore[what]
    print(text)  # pragma: no cover; what
'''


def test_docstrings_and_comments_are_read_and_other_strings_are_not(tmp_path: Path) -> None:
    assert counted(tmp_path, PYTHON, "what", "a.py") == [1, 19, 9]
    assert counted(tmp_path, PYTHON, "where", "a.py") == [12, 19]
    assert counted(tmp_path, PYTHON, "semicolon", "a.py") == [6, 19, 9]


def test_code_tables_links_and_directives_of_a_page_hold_no_words(tmp_path: Path) -> None:
    page = "Two words.\n\n| `a` |\n|---|\n\n[one](what/a/page.md)\n\n::: fedfin\n    options:\n      what: x\n\nOne\n"
    (tmp_path / "page.md").write_text(page)
    assert [prose.count_words(part.text) for part in passages(tmp_path / "page.md")] == [4]
    assert counted(tmp_path, page, "what") == []


def test_the_rates_are_per_thousand_words_and_a_reached_limit_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text("What is left. " + "Plain words stand here. " * 250)
    assert prose.main([str(page)]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["docs", "1,003", "1.0", "0.0", "0.0", "0.0", "0.0"]
    page.write_text("What is left. " * 3 + "Plain words stand here. " * 250)
    assert prose.main([str(page), "--list"]) == 1
    shown = capsys.readouterr().out
    assert f"{page}:1: what: What is left." in shown
    assert "too many: what:" in shown


def test_a_path_that_does_not_exist_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prose.main([str(tmp_path / "nothing.md")]) == 2
    assert capsys.readouterr().err.endswith("nothing.md: no such file or folder: check the path\n")


def test_the_whole_project_is_measured_by_default() -> None:
    measured = {str(path.relative_to(prose.ROOT)) for path in prose.sources()}
    assert {
        "README.md",
        "docs/privacy.md",
        "common/errors.py",
        "tools/prose.py",
        "tests/tools/test_prose.py",
    } <= measured
    assert all((prose.ROOT / folder).is_dir() for folder in prose.PYTHON if folder != "fedfin")
