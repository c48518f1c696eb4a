"""Every block of Python in the documentation runs, from the top of its page to the bottom, on small data."""

import re
from pathlib import Path

import pytest

from client.audit import checks
from common.base_models import resolve
from tests.tiny_models import save_tiny_model

ROOT = Path(__file__).parent.parent
WORDS = {
    "negative": ("loss", "falls", "weak"),
    "neutral": ("flat", "market"),
    "positive": ("profit", "rises", "strong"),
}


def blocks(page: Path) -> list[tuple[int, str]]:
    """Line number and code of each block that is marked as Python."""
    text = page.read_text()
    found = re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(text[: match.start(1)].count("\n"), match.group(1)) for match in found]


PAGES = [page for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if blocks(page)]


def write_data(directory: Path) -> None:
    """Write the files that the pages name: `train.csv`, `test.csv` and `filings/`."""
    labels = sorted(WORDS)
    for name, rows in (("train", 240), ("test", 60)):
        lines = [
            f"{WORDS[labels[n % 3]][n % 2]} of bank in {name} {n} {WORDS[labels[n % 3]][0]},{labels[n % 3]}"
            for n in range(rows)
        ]
        (directory / f"{name}.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    (directory / "filings").mkdir()
    paragraphs = [f"the goodwill of company {n} falls and its ebitda rises by {n} million" for n in range(120)]
    (directory / "filings" / "company.txt").write_text("\n\n".join(paragraphs) + "\n")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_block_of_python_on_the_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_data(tmp_path)
    tiny = save_tiny_model(tmp_path / "tiny")
    monkeypatch.setattr(resolve, "_packaged", lambda name: tiny)  # a model of some kilobytes in place of MiniLM
    monkeypatch.setattr(checks, "_NOISE_VALUES", 2000)
    monkeypatch.setattr(checks, "_SAMPLED_STEPS", 20)
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {"__name__": page.stem}
    for line, code in blocks(page):
        # The line numbers of a failure are those of the page.
        exec(compile("\n" * line + code, str(page), "exec"), scope)  # noqa: S102


def test_the_page_of_the_public_face_shows_every_name() -> None:
    import fedfin

    page = (ROOT / "docs" / "python.md").read_text()
    code = "".join(code for _, code in blocks(ROOT / "docs" / "python.md"))
    table = page.split("## The names")[1]
    for name in fedfin.__all__:
        assert f"fedfin.{name}" in code, name
        assert f"`{name}`" in table, name
