"""`make docs`: the site shows the repository's pages unchanged, needs no network, and has no broken link."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

import fedfin
import fedfin.types
from fedfin import accounting
from tools.site_pages import ROOT, TOP_PAGES, separate_lists, site_links

SITE_PAGES = {site: ROOT / source for source, site in TOP_PAGES.items()} | {
    path.name: path for path in sorted((ROOT / "docs").glob("*.md"))
}
BLOCKS = ("h1", "h2", "h3", "p", "ul", "ol", "li", "table", "tr", "th", "td", "pre", "strong", "em")


def build(project: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it."""
    out = tmp_path_factory.mktemp("site")
    done = build(ROOT, out)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return out


def article(site: Path, page: str) -> str:
    html = (site / page).with_suffix(".html").read_text(encoding="utf-8")
    return html.split("<article", 1)[1].split("</article>", 1)[0]


@pytest.mark.parametrize("page", [page for page in SITE_PAGES if page != "api.md"])
def test_a_page_has_the_blocks_that_a_repository_host_shows(site: Path, page: str) -> None:
    """Lists, tables, paragraphs and headings are counted beside CommonMark's."""
    hosted = MarkdownIt("commonmark").enable("table").render(SITE_PAGES[page].read_text(encoding="utf-8"))
    shown = article(site, page)
    counts = [{tag: len(re.findall(rf"<{tag}[ >]", html)) for tag in BLOCKS} for html in (hosted, shown)]
    assert counts[1] == counts[0]


def test_no_page_loads_anything_from_the_network(site: Path) -> None:
    loads = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*?(?:src|href)=[\"']?(?:https?:)?//[^>]*>")
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > len(SITE_PAGES)
    assert {str(page): loads.findall(page.read_text(encoding="utf-8")) for page in pages} == {
        str(page): [] for page in pages
    }


def test_the_search_index_lies_on_the_site(site: Path) -> None:
    assert "privacy.html" in (site / "search" / "search_index.json").read_text(encoding="utf-8")


def test_the_api_page_describes_every_public_name_and_no_other(site: Path) -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    described = re.findall(r"^::: (\S+)$", page, re.MULTILINE)
    accounted = {f"fedfin.types.{name}" for name in fedfin.types.__all__ if name in accounting.__all__}
    results = {f"fedfin.types.{name}" for name in fedfin.types.__all__} - accounted
    assert sorted(described) == sorted({f"fedfin.{name}" for name in fedfin.__all__} | results)
    headings = re.findall(r'id="(fedfin\.[^"]+)"', article(site, "api.md"))
    assert [name for name in described if name not in headings] == []
    assert {"fedfin.accounting.epsilon", "fedfin.errors.DataError", "fedfin.Dataset.of"} <= set(headings)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of everything that the site is made from, to be changed: pages as files, packages as links."""
    for name in ("docs", "tools", "examples"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("fedfin", "client", "common", "server", "simulation"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ("mkdocs.yml", "pyproject.toml", *TOP_PAGES):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


FAULTS = (
    ("docs/privacy.md", "[gone](no-such-page.md)", "no-such-page.md"),
    ("docs/privacy.md", "[gone](operations.md#no-such-part)", "no-such-part"),
    ("docs/privacy.md", "[gone](/no-such-place)", "no-such-place"),
    ("README.md", "[gone](docs/no-such-guide.md)", "no-such-guide.md"),
    ("README.md", "[gone](tools/no_such_file.py)", "no_such_file.py"),
    ("docs/unlisted.md", "# A page that no menu names", "unlisted.md"),
)


def test_each_fault_is_named_and_ends_the_build_and_a_link_to_any_file_is_none(project: Path) -> None:
    for page, text, _ in (*FAULTS, ("docs/privacy.md", "[x](../pyproject.toml)", "")):
        with (project / page).open("a", encoding="utf-8") as file:
            file.write(f"\n{text}\n")
    done = build(project, project / "site")
    assert done.returncode != 0
    assert [said for *_, said in FAULTS if said not in done.stderr] == []
    assert done.stderr.count("WARNING") == len(FAULTS), done.stderr
    assert (project / "site" / "repository" / "pyproject.toml").is_file()
    assert 'href="repository/pyproject.toml"' in article(project / "site", "privacy.md")


def test_links_lead_to_the_same_page_on_the_site_as_in_the_repository() -> None:
    def changed(link: str, page: str) -> str:
        return site_links(f"[x]({link})", page)[4:-1]

    assert changed("docs/privacy.md#the-ledger", "index.md") == "privacy.md#the-ledger"
    assert changed("CONTRIBUTING.md", "index.md") == "contributing.md"
    assert changed("../README.md", "privacy.md") == "index.md"
    assert changed("../CHANGELOG.md#x", "privacy.md") == "changelog.md#x"
    assert changed("privacy.md", "decisions.md") == "privacy.md"
    assert changed("../mkdocs.yml", "decisions.md") == "repository/mkdocs.yml"
    assert changed("mkdocs.yml", "index.md") == "repository/mkdocs.yml"
    assert changed("https://example.org/docs/a.md", "index.md") == "https://example.org/docs/a.md"
    assert changed("#the-ledger", "privacy.md") == "#the-ledger"
    assert changed("../no-such-file", "privacy.md") == "../no-such-file"


def test_a_list_right_below_a_line_of_text_is_set_apart() -> None:
    assert separate_lists("a\n- b\n- c\n  d\n- e") == "a\n\n- b\n- c\n  d\n- e"
    assert separate_lists("```\na\n- b\n```") == "```\na\n- b\n```"
    assert separate_lists("a\n\n1. b") == "a\n\n1. b"
