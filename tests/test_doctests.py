"""Every example in a docstring gives the output that is written under it."""

import doctest
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("fedfin", "common", "client", "server", "simulation")


def modules_with_examples() -> list[str]:
    """Names of all modules of the project with a doctest prompt in their text, found without importing them."""
    files = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    with_prompt = [path for path in files if re.search(r"^\s*>>> ", path.read_text(), re.MULTILINE)]
    dotted = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in with_prompt]
    return [name.removesuffix(".__init__") for name in dotted]


def test_there_are_modules_with_examples() -> None:
    assert len(modules_with_examples()) >= 4


@pytest.mark.parametrize("name", modules_with_examples())
def test_each_example_gives_the_output_written_under_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # an example that writes a file leaves nothing in the checkout
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0, "the prompt stands outside of a docstring"
    assert result.failed == 0
