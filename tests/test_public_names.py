"""The public face: exactly these names, each of them lazy, each of them the object that type checkers see."""

import ast
import importlib
import json
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import fedfin
import fedfin.types
from common import installation
from common.cli import build_parser, main

NAMES = [
    "AdapterOptions",
    "Dataset",
    "FineTuningJob",
    "PrivacyOptions",
    "RunConfig",
    "TaskData",
    "TrainingOptions",
    "accounting",
    "adapt_to_domain",
    "audit",
    "errors",
    "finetune",
    "load_adapter",
    "read_labelled",
    "read_ledger",
    "simulate",
]
FACES = (fedfin, fedfin.types)


def typed_imports(face: ModuleType) -> dict[str, str]:
    """By name, "module:attribute" of each import in the face's `if TYPE_CHECKING` block."""
    tree = ast.parse(Path(str(face.__file__)).read_text())
    [block] = [node for node in tree.body if isinstance(node, ast.If)]
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.asname or alias.name: f"{node.module}:{alias.name}" for node in imports for alias in node.names}


def in_a_new_process(code: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, **options)


def test_the_face_has_exactly_these_names_in_order() -> None:
    assert fedfin.__all__ == NAMES == sorted(NAMES)
    assert len(NAMES) <= 16
    assert dir(fedfin) == NAMES
    assert fedfin.types.__all__ == sorted(fedfin.types.__all__) == dir(fedfin.types)


@pytest.mark.parametrize("face", FACES, ids=lambda face: face.__name__)
def test_each_name_is_the_object_that_type_checkers_see(face: ModuleType) -> None:
    typed = typed_imports(face)
    assert sorted(typed) == face.__all__
    for name, place in typed.items():
        module, _, attribute = place.partition(":")
        package = importlib.import_module(module)
        seen = getattr(package, attribute, None) or importlib.import_module(f"{module}.{attribute}")
        assert getattr(face, name) is seen, name


def test_every_public_function_and_class_has_a_docstring() -> None:
    for face in FACES:
        for name in face.__all__:
            assert (getattr(face, name).__doc__ or "").strip(), name


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'fedfin' has no attribute 'fine_tune'"):
        fedfin.fine_tune  # noqa: B018


def test_importing_fedfin_loads_neither_models_nor_flower() -> None:
    code = "import sys, json, fedfin, fedfin.types; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(in_a_new_process(code).stdout)
    heavy = {"torch", "transformers", "peft", "flwr", "opacus", "numpy", "scipy", "datasets", "pandas"}
    assert not heavy & set(loaded)


def test_the_names_without_models_load_without_torch() -> None:
    code = (
        "import sys, fedfin\n"
        "for name in ('AdapterOptions', 'Dataset', 'FineTuningJob', 'PrivacyOptions', 'RunConfig', 'TaskData',\n"
        "             'TrainingOptions', 'accounting', 'errors', 'finetune', 'read_labelled', 'read_ledger'):\n"
        "    getattr(fedfin, name)\n"
        "print('torch' in sys.modules, 'flwr' in sys.modules)"
    )
    assert in_a_new_process(code).stdout.split() == ["False", "False"]


def test_type_checkers_follow_the_names_into_every_installed_package() -> None:
    root = Path(str(fedfin.__file__)).parent.parent
    packaged = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    for package in ("fedfin", *installation.PACKAGES):
        assert (root / package / "py.typed").is_file(), package
        assert "py.typed" in packaged[package], package


def write_distribution(site: Path, name: str, record: str, top_level: str | None = None) -> None:
    folder = site / f"{name}-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (folder / "RECORD").write_text(record)
    if top_level is not None:
        (folder / "top_level.txt").write_text(top_level)


@pytest.mark.parametrize("top_level", [None, "common\nother\n"])
def test_another_distribution_with_a_package_of_our_name_is_refused(tmp_path: Path, top_level: str | None) -> None:
    write_distribution(tmp_path, "shared-tools", "common/text.py,,\nother/__init__.py,,\n", top_level)
    (tmp_path / "common").mkdir()
    (tmp_path / "common" / "text.py").write_text("")
    code = f"import sys; sys.path.append({str(tmp_path)!r}); import fedfin"
    refused = in_a_new_process(code)
    assert refused.returncode == 1
    assert refused.stderr.strip().splitlines()[-1] == (
        'ImportError: fedfin: distribution shared-tools brings a package called "common", which fedfin has too: '
        "install fedfin in an environment of its own"
    )


def test_a_package_of_our_name_in_front_of_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "client").mkdir()
    (tmp_path / "client" / "__init__.py").write_text("")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import fedfin"
    message = in_a_new_process(code).stderr.strip().splitlines()[-1]
    assert message.startswith(f'ImportError: fedfin: package "client" is imported from {tmp_path}/client, not from ')


def test_the_commands_refuse_another_distribution_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert installation.foreign_package() is None
    monkeypatch.setattr("common.cli.foreign_package", lambda: "distribution x brings a package: leave it out")
    monkeypatch.setattr("sys.argv", ["fedfin-x"])

    def add(commands: Any) -> None:
        commands.add_parser("go").set_defaults(run=lambda _: 0)

    parser = build_parser("fedfin-x", "text", "go", [add])
    assert main(parser, ["go"], "") == 2
    assert capsys.readouterr().err == "fedfin-x: distribution x brings a package: leave it out\n"
