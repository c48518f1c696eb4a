"""Each module has a test that imports it, and tests lie under the path of the room that they test."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("common", "client", "server", "simulation")
ELSEWHERE = {"e2e", "reference", "tools", "earlier"}
"""Folders of `tests` that belong to no single package."""


def modules() -> set[str]:
    """Return the dotted names of all modules, packages' `__init__` excepted."""
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if path.name != "__init__.py"]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths}


def imports(tree: ast.AST) -> set[str]:
    """Return the dotted names that a test file imports, or names in a text such as "module:attribute"."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value:
            parts = node.value.partition(":")[0].split(".")
            names |= {".".join(parts[: end + 1]) for end in range(1, len(parts))}
    return names


def imported() -> set[str]:
    names: set[str] = set()
    for path in (ROOT / "tests").rglob("*.py"):
        if path != Path(__file__):
            names |= imports(ast.parse(path.read_text()))
    return names | {f"{name}.__main__" for name in names}


def test_each_module_is_imported_by_a_test() -> None:
    assert sorted(modules() - imported()) == [], "add a test that imports these modules"


@pytest.mark.parametrize("source", ["import client.agent", "from client import agent", 'x = "client.agent:main"'])
def test_each_way_of_naming_a_module_counts(source: str) -> None:
    assert "client.agent" in imports(ast.parse(source))
    assert "client.budget" not in imports(ast.parse(source))


def test_each_test_lies_under_the_path_of_a_room() -> None:
    folders = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    rooms = [folder for folder in folders if folder.parts and folder.parts[0] not in ELSEWHERE]
    assert [str(room) for room in sorted(rooms) if not list((ROOT / room).glob("*.py"))] == []
