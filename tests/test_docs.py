"""The pages agree with the code: configuration keys, links, the captioned tree."""

import argparse
import dataclasses
import re
import shlex
import tomllib
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest

import client.cli
import server.cli
import simulation.cli
from client.institution import config as institution
from common.config.adapter import AdapterConfig, Method, PromptConfig
from common.config.aggregation import AggregationConfig, EvaluationConfig
from common.config.metrics import MetricsSettings
from common.config.personalisation import PersonalisationConfig
from common.config.privacy import PrivacyConfig
from common.config.run import parse_run
from common.config.sections import Range, Section
from common.config.token import TokenSettings
from common.config.training import ModelConfig, TrainingConfig
from common.tasks import TASKS
from server.hub import config as hub
from simulation.config import DataConfig, InstitutionsConfig, load_simulation
from tests.mutations import MUTATIONS

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "configuration.md").read_text()
RUN_SECTIONS = (
    ModelConfig, AdapterConfig, TrainingConfig, PrivacyConfig, AggregationConfig,
    EvaluationConfig, PersonalisationConfig, DataConfig, InstitutionsConfig,
)  # fmt: skip


def documented(heading: str) -> dict[str, tuple[str, str]]:
    """Keys of the table under a heading -> their values, and their default."""
    part = PAGE.split(f"\n## {heading}", 1)[1].split("\n## ", 1)[0]
    found = {}
    for line in part.splitlines():
        if line.startswith("| `"):
            keys, values, default = (cell.strip() for cell in line.strip("|").split("|")[:3])
            found.update(dict.fromkeys(re.findall("`([^`]+)`", keys), (values, default)))
    return found


def keys(section: type[Section]) -> list[str]:
    found = [field.name for field in dataclasses.fields(section)]
    if section is AdapterConfig:  # one table of the page holds every method
        found += [key for key in (*keys(PromptConfig), "preset") if key not in found]
    return found


@pytest.mark.parametrize("section", RUN_SECTIONS, ids=lambda section: section.section)
def test_every_key_of_a_run_is_documented_and_no_other(section: type[Section]) -> None:
    assert sorted(documented(f"[{section.section}]")) == sorted(keys(section))


def test_every_key_of_both_settings_files_is_documented_and_no_other() -> None:
    own: list[type[Section]] = [
        institution.DataConfig,
        institution.LocalModelConfig,
        institution.LimitsConfig,
        institution.ReleaseConfig,
        institution.PersonalConfig,
        MetricsSettings,
        TokenSettings,
    ]
    expected = {"institution.name"} | {f"{part.section}.{key}" for part in own for key in keys(part)}
    assert set(documented("institution.toml")) == expected
    theirs: list[type[Section]] = [
        hub.GatewaySettings,
        hub.CertificateSettings,
        hub.TestData,
        MetricsSettings,
        TokenSettings,
    ]
    assert set(documented("hub.toml")) == {f"{part.section}.{key}" for part in theirs for key in keys(part)}


@pytest.mark.parametrize("section", RUN_SECTIONS, ids=lambda section: section.section)
def test_a_plain_default_in_the_page_is_the_codes(section: type[Section]) -> None:
    page = documented(f"[{section.section}]")
    for field in dataclasses.fields(section):
        said = page[field.name][1]
        if isinstance(field.default, bool):
            assert said == str(field.default).lower(), field.name
        elif isinstance(field.default, int | float):
            assert float(said) == field.default, field.name
        elif isinstance(field.default, str):
            assert f"`{field.default}`" in said, field.name


def hints(section: type[Any]) -> dict[str, Any]:
    """The type of each key of a section, without None, and its range if it has one."""
    found = {
        key: hint
        for key, hint in get_type_hints(section, include_extras=True).items()
        if key in section.__dataclass_fields__
    }
    return found | hints(PromptConfig) | {"method": Method} if section is AdapterConfig else found


def parts(hint: Any) -> tuple[tuple[Any, ...], Range | None]:
    """The kinds that a type allows, and the range of its numbers."""
    limits = None
    if get_origin(hint) is Annotated:
        hint, limits = get_args(hint)
    kinds = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return tuple(kind for kind in kinds if kind is not types.NoneType), limits


FILES = {
    **{f"[{section.section}]": (section, "") for section in RUN_SECTIONS},
    "institution.toml data": (institution.DataConfig, "data."),
    "institution.toml model": (institution.LocalModelConfig, "model."),
    "institution.toml limits": (institution.LimitsConfig, "limits."),
    "institution.toml release": (institution.ReleaseConfig, "release."),
    "institution.toml personalisation": (institution.PersonalConfig, "personalisation."),
    "hub.toml gateway": (hub.GatewaySettings, "gateway."),
    "hub.toml certificates": (hub.CertificateSettings, "certificates."),
    "hub.toml data": (hub.TestData, "data."),
}


@pytest.mark.parametrize("place", FILES)
def test_the_allowed_values_in_the_page_are_the_codes(place: str) -> None:
    """Choices are listed completely, and a number's bounds are those that the parser checks."""
    section, prefix = FILES[place]
    page = documented(place.split()[0])
    for key, hint in hints(section).items():
        kinds, limits = parts(hint)
        said = page[prefix + key][0]
        if len(kinds) == 1 and get_origin(kinds[0]) is Literal:
            assert sorted(re.findall("`([^`]+)`", said)) == sorted(get_args(kinds[0])), key
        if kinds == (bool,):
            assert said == "true, false", key
        if limits is not None and key != "clipping_norm":  # 0 is allowed there only without privacy
            bounds = [float(number.replace(",", "")) for number in re.findall(r"\b\d[\d,]*\b", said)]
            assert bounds in ([limits.low], [limits.low, limits.high]) or "power of two" in said, key
            assert limits.above == ("above" in said or "between" in said), key
            assert limits.below == ("below" in said or "between" in said), key


def test_the_page_lists_the_keys_of_the_run_and_every_task_that_a_federation_trains() -> None:
    assert list(documented("[run]")) == ["name", "seed", "rounds"]
    tasks = documented("[task]")
    assert list(tasks) == ["name", "labels", "answers"]
    assert re.findall("`([^`]+)`", tasks["name"][0]) == list(TASKS)


def test_the_file_to_start_from_is_a_valid_one(tmp_path: Path) -> None:
    text = PAGE.split("```toml\n")[1].split("```")[0]
    (tmp_path / "first.toml").write_text(text)
    assert load_simulation(tmp_path / "first.toml").run.privacy.target_epsilon == 8.0
    tables = tomllib.loads(text)
    tables["privacy"] = {"mode": "none"}
    tables["training"] = {
        "local_epochs": 1, "expected_batch_size": 16, "optimizer": "adam", "learning_rate": 1e-3
    }  # fmt: skip
    del tables["data"]
    assert parse_run(tables, "the page").adapter.trained_factors == "AB"


PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
SHOWN = [*PAGES, *sorted((ROOT / "benchmarks").glob("*.toml")), *sorted((ROOT / "examples").rglob("*.sh"))]
PROGRAMS = {
    "fedfin-hub": server.cli.parser,
    "fedfin-institution": client.cli.parser,
    "fedfin-simulate": simulation.cli.parser,
}
FOREIGN = {"--strict", "--exclude", "--groups", "--system", "--user-group"}
"""Options of other programs on our pages: mypy, tar, useradd."""


def options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Every option of a command and of its subcommands."""
    for action in parser._actions:
        yield from action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from options(command)


def commands(page: Path) -> list[list[str]]:
    """The words of each of our commands in the code blocks of a page, without redirections and shell variables."""
    blocks = "\n".join(re.findall(r"```(?:bash|sh|text|console)?\n(.*?)```", page.read_text(), flags=re.DOTALL))
    lines = [re.sub(r"^\$ ", "", line).strip() for line in blocks.replace("\\\n", " ").splitlines()]
    split = [shlex.split(line, comments=True) for line in lines if line.startswith("fedfin-")]
    return [words for words in split if not any(set("|<>[$") & set(word) or word == "..." for word in words)]


@pytest.mark.parametrize("page", SHOWN, ids=lambda path: path.name)
def test_every_option_on_a_page_exists(page: Path) -> None:
    known = {option for make in PROGRAMS.values() for option in options(make())} | FOREIGN
    for file in [*(ROOT / "benchmarks").rglob("*.py"), *(ROOT / "tools").rglob("*.py")]:
        known.update(re.findall(r'"(--[a-z][a-z0-9-]*)"', file.read_text()))
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", page.read_text())) - known == set()


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "errors.md"], ids=lambda path: path.name)
def test_every_command_in_a_code_block_parses(page: Path) -> None:
    for words in commands(page):
        try:
            PROGRAMS[words[0]]().parse_args(words[1:])
        except SystemExit:
            pytest.fail(f"the command line refuses: {shlex.join(words)}")


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda p: p.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), target


TREE = (ROOT / "README.md").read_text().split("## The house")[1].split("```")[1]


def test_the_captioned_tree_has_one_caption_for_each_room_and_no_other() -> None:
    captioned: list[str] = []
    for line in TREE.strip("\n").splitlines():
        name, _, caption = line.strip().partition(" ")
        depth = (len(line) - len(line.lstrip())) // 2
        assert name.endswith("/"), line
        assert caption.strip(), line
        parents = captioned[-1].split("/")[:depth] if depth else []
        captioned.append("/".join([*parents, name.rstrip("/")]))
    packages = [path.parent for path in ROOT.glob("*/__init__.py")]
    rooms = [path.parent.relative_to(ROOT) for package in packages for path in package.rglob("__init__.py")]
    assert sorted(captioned) == sorted(map(str, rooms))


@pytest.mark.parametrize("page", ["privacy.md", "threat-model.md"])
def test_every_test_that_a_page_names_exists(page: str) -> None:
    """A row names files by their path in `tests/`, each followed by names of tests in it, which may end in "…"."""
    text = (ROOT / "docs" / page).read_text().split("\n## Mutations")[0]
    rows = [line for line in text.splitlines() if re.search(r"`[\w/]*test_\w+`", line)]
    assert len(rows) > 10
    for row in rows:
        for file, names in re.findall(r"`((?:\w+/)*test_\w+)`(?:: ((?:`(?!test_)[^`/]+`(?:, )?)+))?", row):
            path = ROOT / "tests" / f"{file}.py"
            assert path.is_file(), file
            tests = re.findall(r"^def test_(\w+)", path.read_text(), re.M)
            for name in re.findall("`([^`]+)`", names):
                wanted = re.compile(name.removesuffix("…") + (r"\w*" if name.endswith("…") else ""))
                assert any(map(wanted.fullmatch, tests)), f"{file}: {name}"


def test_every_mutation_is_in_the_page_with_its_test() -> None:
    table = (ROOT / "docs" / "privacy.md").read_text().split("\n## Mutations")[1]
    listed = re.findall(r"^\| (\d+) \| (.+?) \| `(.+?)`: `(.+?)` \|$", table, re.M)
    expected = [
        (str(number), mutation.fault, mutation.test[0].removeprefix("tests/").removesuffix(".py"), mutation.test[1])
        for number, mutation in enumerate(MUTATIONS, start=1)
    ]
    assert listed == expected
