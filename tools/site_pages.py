"""Hooks of MkDocs: the site shows the pages of the repository as they are.

`README.md` becomes the first page. Links between pages, and from a page to any file of the repository, work on the site
as they do on a repository host.
"""

import logging
import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

__all__ = ["on_files", "on_page_markdown", "on_startup", "separate_lists", "site_links"]

ROOT = Path(__file__).parent.parent

TOP_PAGES = {
    "README.md": "index.md",
    "SECURITY.md": "security.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
"""Pages outside `docs/`, by path in the repository, with their path on the site."""

_LINK = re.compile(r"(?<=\]\()(?!\w+:|#|/)([^)\s#]+)(?=[)#])")
_ITEM = re.compile(r"(?:[-*+]|1\.)\s")


def on_startup(**_: Any) -> None:
    """Print warnings only. The option `--quiet` would hide them, and `--strict` would not see them."""
    logging.getLogger("mkdocs").setLevel(logging.WARNING)


def on_files(files: "Files", config: "MkDocsConfig") -> "Files":
    """Add the pages outside `docs/`, and the files of the repository to which pages link."""
    from mkdocs.structure.files import File

    for source, target in TOP_PAGES.items():
        files.append(File.generated(config, target, abs_src_path=str(ROOT / source)))
    linked: set[str] = set()
    for file in files.documentation_pages():
        linked |= {path for path in _targets(file.content_string, file.src_uri) if not _is_page(path)}
    for path in sorted(linked):
        if (ROOT / path).is_file():
            files.append(File.generated(config, f"repository/{path}", abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return the text of a page with the links and lists of the site."""
    return separate_lists(site_links(markdown, page.file.src_uri))


def site_links(markdown: str, page: str) -> str:
    """Return `markdown` with its relative links changed from paths in the repository to paths on the site.

    Args:
        markdown: Text of a page.
        page: Path of the page on the site, such as "index.md".
    """
    return _LINK.sub(lambda match: _site_path(_repository_path(match[1], page), match[1]), markdown)


def separate_lists(markdown: str) -> str:
    """Return `markdown` with an empty line before each list, which MkDocs needs and repository hosts do not."""
    lines, fenced = list[str](), False
    for line in markdown.split("\n"):
        fenced ^= line.lstrip().startswith("```")
        before = lines[-1] if lines else ""
        if not fenced and _ITEM.match(line) and before.strip() and not (before[0] == " " or _ITEM.match(before)):
            lines.append("")
        lines.append(line)
    return "\n".join(lines)


def _targets(markdown: str, page: str) -> set[str]:
    """Return the paths in the repository to which a page links."""
    return {_repository_path(match[1], page) for match in _LINK.finditer(markdown)}


def _repository_path(link: str, page: str) -> str:
    """Return the path in the repository of a relative link. A path that leads out of it begins with ".."."""
    folder = PurePosixPath() if page in TOP_PAGES.values() else PurePosixPath("docs", page).parent
    parts = list[str]()
    for part in (folder / link).parts:
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)


def _is_page(path: str) -> bool:
    return path in TOP_PAGES or path.startswith("docs/")


def _site_path(path: str, link: str) -> str:
    """Return the path on the site of a file of the repository. Return `link` if there is no such file."""
    if path in TOP_PAGES:
        return TOP_PAGES[path]
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"repository/{path}" if (ROOT / path).is_file() else link
