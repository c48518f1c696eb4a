"""A docstring describes the parameters that there are, each once."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("fedfin", "common", "client", "server", "simulation", "tools", "benchmarks")
Described = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def faults(source: str) -> Iterator[str]:
    """What docstrings of this source say that does not hold."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, Described) or not (text := ast.get_docstring(node)):
            continue
        for title in ("Args:", "Returns:", "Raises:"):
            if len(re.findall(rf"^{title}$", text, re.MULTILINE)) > 1:
                yield f"{node.name}: {title} twice"
        section = re.search(r"^Args:\n((?: +.*\n?|\n)*)", text, re.MULTILINE)
        described = re.findall(r"^    (\w+(?:, \w+)*): ", section[1], re.MULTILINE) if section else []
        for name in ", ".join(described).split(", ") if described else []:
            if name not in parameters(node):
                yield f"{node.name}: no parameter {name}"


def parameters(node: Described) -> set[str]:
    """Of a function, or of a class: those of `__init__` and its fields."""
    if isinstance(node, ast.ClassDef):
        targets = [part.target for part in node.body if isinstance(part, ast.AnnAssign)]
        fields = {target.id for target in targets if isinstance(target, ast.Name)}
        inits = [part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"]
        # A class without fields and without `__init__` has those of its base.
        return fields.union(*(parameters(init) for init in inits)) or _Everything()
    given = node.args
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    return {argument.arg for argument in every if argument is not None}


class _Everything(set[str]):
    def __contains__(self, name: object) -> bool:
        return True


MODULES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


def test_docstrings_describe_the_parameters_that_there_are() -> None:
    found = [f"{path.relative_to(ROOT)}: {fault}" for path in MODULES for fault in faults(path.read_text())]
    assert not found


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ('def f(a):\n    """F.\n\n    Args:\n        b: B.\n    """', "f: no parameter b"),
        ('def f(a):\n    """F.\n\n    Args:\n        a: A.\n\n    Args:\n        a: A.\n    """', "f: Args: twice"),
        ('class C:\n    """C.\n\n    Args:\n        b: B.\n    """\n\n    a: int', "C: no parameter b"),
    ],
)
def test_a_docstring_that_is_wrong_is_found(source: str, fault: str) -> None:
    assert list(faults(source)) == [fault]
