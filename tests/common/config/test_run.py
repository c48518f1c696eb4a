"""A run's configuration: every field wrong in turn, every valid one a round trip."""

import copy
import dataclasses
import datetime
import json
import math
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.config import run as run_module
from common.config.personalisation import PersonalisationConfig
from common.config.privacy import LEVELS
from common.config.run import RunConfig, parse_run
from common.config.sections import Section
from common.config.toml import load_toml
from common.errors import ConfigurationError
from common.tasks import TASKS
from tests.common.toml_text import to_toml

NAN, INF = math.nan, math.inf
HUGE = 10**400

VALID: dict[str, dict[str, Any]] = {
    "run": {"name": "desks", "seed": 1, "rounds": 3},
    "task": {"name": "sentiment_analysis"},
    "training": {"local_steps": 5, "sampling_rate": 0.25, "learning_rate": 4.0},
    "privacy": {"mode": "target", "target_epsilon": 8.0, "delta": 1e-4, "clipping_norm": 0.3},
}

# Wrong values of the right type, field by field. Wrong types are tried on every field besides.
WRONG: dict[str, list[Any]] = {
    "run.name": ["", " ", "a\nb", "../up", "x" * 81, "\u00e9t\u00e9"],
    "run.seed": [-1, 2**63, HUGE],
    "run.rounds": [0, -1, 1_000_001],
    "task.name": ["", "sentiment", "Sentiment_Analysis"],
    "task.labels": [["one"], ["a", "a"], ["a", ""], ["a", " b"], ["a", 3], "ab"],
    "task.answers": [{"a": ["up", "up"]}, {"a": []}, {"a": "up"}, {"a": ["up"], "b": [1]}],
    "model.base": ["", " ", "a\nb"],
    "model.pooling": ["max", ""],
    "model.max_tokens": [3, 0, -64, 131073],
    "model.dtype": ["float16", ""],
    "model.base_digest": ["", "0" * 63, "G" * 64, "A" * 64],
    "adapter.method": ["ia3", ""],
    "adapter.virtual_tokens": [0, -1, 513],
    "adapter.prompt_text": ["", " ", "a\nb"],
    "adapter.rank": [0, -8, 1025],
    "adapter.alpha": [0, -1.0, NAN, INF, HUGE],
    "adapter.dropout": [-0.1, 1.0, NAN],
    "adapter.target_modules": ["all_linear", [], ["query", "query"], [""], ["query", 1]],
    "adapter.layers": ["last:0", "last:-1", "last:x", "last", "first:2", "last:2 ", ""],
    "adapter.trained_factors": ["A", "b", ""],
    "adapter.new_tokens": [-1, 1_000_001],
    "training.local_steps": [0, -5],
    "training.local_epochs": [0.0, -1.0, NAN, INF],
    "training.sampling_rate": [0.0, -0.1, 1.0001, NAN],
    "training.expected_batch_size": [0, -1],
    "training.learning_rate": [0.0, -1e-3, NAN, INF],
    "training.head_learning_rate": [0, -1.0, NAN, INF],
    "training.optimizer": ["SGD", "adamax", ""],
    "training.adam_noise_correction": [True],  # beside optimizer = "sgd"
    "training.max_batch_tokens": [0, 3, 63],
    "privacy.mode": ["low", "None", ""],
    "privacy.unit": ["person", "Customer", ""],
    "privacy.noise_multiplier": [0.0, -1.0, NAN, INF],
    "privacy.clipping_norm": [0.0, -0.3, 1.6e-43, 9e-7, 1.1e6, NAN, INF],
    "privacy.target_epsilon": [0, -8.0, NAN, INF],
    "privacy.delta": [0.0, 1.0, -1e-4, 2, NAN],
    "aggregation.weighting": ["size", ""],
    "aggregation.server_optimizer": ["sgd", ""],
    "aggregation.server_learning_rate": [0.0, -1.0, NAN, INF],
    "aggregation.server_momentum": [-0.1, 1.0, NAN],
    "aggregation.server_decay_rounds": [0, -1],
    "aggregation.institutions_per_round": [0, -1],
    "aggregation.quorum": [0, -1],
    "aggregation.max_update_norm": [0.0, -1.0, NAN, INF],
    "aggregation.secure": [True],  # without an assumption
    "aggregation.honest": [0, 1, 1001],
    "aggregation.threshold": [0, 1, 1001],
    "aggregation.deadline_s": [0, -1.0, 604_801, NAN, INF],
    "aggregation.update_dtype": ["float16", "bf16", ""],
    "evaluation.every_rounds": [0, -1],
    "personalisation.method": ["own", ""],
    "personalisation.proximal_weight": [-1.0, 1e7, NAN, INF],
    "personalisation.steps": [0, -1, 1_000_001],
    "personalisation.learning_rate": [0.0, -1.0, NAN, INF],
    "personalisation.without_noise": [True],  # beside method = "none"
}
# A table and a nested list fit no field. Of the others, those that are some field's own type are left out below.
WRONG_TYPES: list[Any] = [{"a": 1}, [[1]], [1.5], datetime.date(2020, 1, 1), True, 3, 2.5, "a text", ["a", "b"]]
TYPES: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,)}


def sections(run: type[Section] = RunConfig) -> dict[str, dataclasses.Field[Any]]:
    """Every field of the configuration as `section.key`, read off the dataclasses."""
    found: dict[str, dataclasses.Field[Any]] = {}
    for field in dataclasses.fields(run):
        kinds = [kind for kind in get_args(field.type) or (field.type,) if isinstance(kind, type)]
        if kinds and all(issubclass(kind, Section) for kind in kinds):
            for kind in kinds:
                found |= sections(kind)
        else:
            found[run.place(field.name)] = field
    return found


PROMPT = ("adapter.virtual_tokens", "adapter.prompt_text")


def changed(place: str, value: Any) -> dict[str, dict[str, Any]]:
    """The valid tables with one value replaced, and without the keys that this value excludes."""
    tables = copy.deepcopy(VALID)
    section, key = place.split(".")
    if place in PROMPT:
        return tables | {"adapter": {"method": "p_tuning", key: value}}
    excluded = {"local_epochs": "local_steps", "expected_batch_size": "sampling_rate"}
    tables[section].pop(excluded.get(key, ""), None) if section in tables else None
    tables.setdefault(section, {})[key] = value
    if key == "noise_multiplier":
        tables["privacy"] |= {"mode": "custom"}
        del tables["privacy"]["target_epsilon"]
    return tables


def fits(value: Any, place: str) -> bool:
    """Whether `value` is of a type that `place` takes, so that only its content could be wrong."""
    hint = str(sections()[place].type)
    if type(value) is list:
        return "tuple[str" in hint and all(isinstance(v, str) for v in value)
    # Of the texts a base model's name is free, and its digest a text. "a text" is a valid name.
    if type(value) is str:
        return place in ("run.name", "model.base", "model.base_digest", "adapter.prompt_text")
    return any(name in hint.split("Range")[0] and type(value) in kinds for name, kinds in TYPES.items())


def refused(tables: dict[str, Any]) -> str:
    with pytest.raises(ConfigurationError) as caught:
        parse_run(tomllib.loads(to_toml(tables)), "desks.toml")
    message = str(caught.value)
    assert message.startswith("desks.toml: ")
    assert "\n" not in message
    assert len(message) < 400
    return message


def test_every_field_has_wrong_values_here() -> None:
    assert set(WRONG) == set(sections())


@pytest.mark.parametrize(("place", "value"), [(place, value) for place, values in WRONG.items() for value in values])
def test_a_wrong_value_is_refused_by_name(place: str, value: Any) -> None:
    assert f" {place} " in refused(changed(place, value))


@pytest.mark.parametrize("place", sorted(sections()))
def test_a_value_of_the_wrong_type_is_refused_by_name(place: str) -> None:
    tried = [value for value in WRONG_TYPES if not fits(value, place)]
    assert len(tried) >= 4
    for value in tried:
        assert f" {place} " in refused(changed(place, value))


@pytest.mark.parametrize("place", sorted(sections()))
def test_a_misspelt_key_is_refused_and_the_nearest_offered(place: str) -> None:
    section, key = place.split(".")
    tables = changed(place, 1)
    tables[section][key + "x"] = tables[section].pop(key)
    message = refused(tables)
    assert f"{section}.{key}x is not a known key" in message
    assert f"did you mean {key}?" in message


@pytest.mark.parametrize("section", ["run", "task", "training", "privacy"])
def test_what_has_no_default_is_asked_for(section: str) -> None:
    for key in VALID[section]:
        tables = copy.deepcopy(VALID)
        del tables[section][key]
        assert f" {section}.{key} is missing" in refused(tables)
    tables = copy.deepcopy(VALID)
    del tables[section]
    assert f" {section}." in refused(tables)


def test_an_unknown_section_and_a_section_that_is_no_table_are_refused() -> None:
    assert "[trainig] is not a known section: did you mean training?" in refused(VALID | {"trainig": {}})
    for section in ("run", "task", "model", "adapter", "training", "privacy", "aggregation", "evaluation"):
        assert f" {section} is 3: write it as a table" in refused(VALID | {section: 3})


PRIVATE = VALID["privacy"]
COMBINATIONS: dict[str, tuple[str, dict[str, Any], str]] = {
    "both lengths": ("training", {"local_epochs": 1.0}, "training.local_steps stands beside training.local_epochs"),
    "both batches": ("training", {"expected_batch_size": 8}, "training.sampling_rate stands beside"),
    "batch size under privacy": (
        "training",
        {"expected_batch_size": 8, "sampling_rate": None},
        "training.expected_batch_size is given, but under differential privacy",
    ),
    "dropout under privacy": ("adapter", {"dropout": 0.1}, "adapter.dropout is 0.1, but under differential privacy"),
    "small budget": ("training", {"max_batch_tokens": 63}, "training.max_batch_tokens is 63, less than one text"),
    "B of nothing": (
        "adapter",
        {"layers": "none", "trained_factors": "B"},
        'adapter.trained_factors is "B", but layers = "none"',
    ),
    "quorum": ("aggregation", {"quorum": 3, "institutions_per_round": 2}, "aggregation.quorum is 3, but"),
    "mode is a mode": ("privacy", {"mode": "high", "target_epsilon": None}, "privacy.clipping_norm is 0.3, but"),
    "noise and target": ("privacy", {"noise_multiplier": 1.0}, "privacy.noise_multiplier is given, but"),
    "epsilon of none": ("privacy", {"mode": "none", "clipping_norm": None}, "privacy.target_epsilon is given, but"),
    "clip of none": ("privacy", {"mode": "none", "target_epsilon": None}, "privacy.clipping_norm is given, but"),
    "epsilon of custom": ("privacy", {"mode": "custom", "noise_multiplier": 1.0}, "privacy.target_epsilon is given"),
    "unit of none": (
        "privacy",
        {"mode": "none", "unit": "customer", "clipping_norm": None, "target_epsilon": None, "delta": None},
        'privacy.unit is "customer", but mode = "none" protects nothing',
    ),
    "correction of sgd": ("training", {"adam_noise_correction": True}, "training.adam_noise_correction is true, but"),
    "decay": (
        "aggregation",
        {"server_decay_rounds": 10_000},
        "aggregation.server_decay_rounds is 10000, but the run has",
    ),
    "masked bfloat16": (
        "aggregation",
        {"secure": True, "honest": 2, "threshold": 3, "update_dtype": "bfloat16"},
        'aggregation.update_dtype is "bfloat16", but with secure = true updates travel as masked integers',
    ),
    "five levels": ("task", {"name": "risk_classification", "labels": ["a", "b"]}, "task.labels holds 2"),
    "labels of no task": ("task", {"name": "multi_task", "labels": ["a", "b"]}, "write task/label"),
    "labels of a summary": ("task", {"name": "document_summarization", "labels": ["a", "b"]}, "task.labels is given"),
}


@pytest.mark.parametrize("case", COMBINATIONS)
def test_values_that_do_not_go_together_are_refused(case: str) -> None:
    section, change, expected = COMBINATIONS[case]
    tables = copy.deepcopy(VALID)
    table = tables.setdefault(section, {})
    table |= change
    for key in [key for key, value in table.items() if value is None]:
        del table[key]
    assert expected in refused(tables)


def test_least_noise_goes_with_privacy_alone() -> None:
    said = refused(VALID | {"aggregation": {"weighting": "inverse_variance"}, "privacy": {"mode": "none"}})
    assert 'aggregation.weighting is "inverse_variance", but privacy.mode = "none" adds no noise' in said


def test_adams_bias_is_corrected_under_privacy_alone() -> None:
    training = VALID["training"] | {"optimizer": "adam", "adam_noise_correction": True}
    assert parse_run(VALID | {"training": training}, "desks.toml").training.adam_noise_correction
    said = refused(VALID | {"training": training, "privacy": {"mode": "none"}})
    assert 'training.adam_noise_correction is true, but privacy.mode = "none" adds no noise' in said


def run(**tables: dict[str, Any]) -> RunConfig:
    return parse_run(VALID | tables, "desks.toml")


@pytest.mark.parametrize("mode", LEVELS)
def test_a_level_fixes_noise_and_clip(mode: str) -> None:
    privacy = run(privacy={"mode": mode, "delta": 1e-5}).privacy
    assert (privacy.noise_multiplier, privacy.clipping_norm) == {"high": (1.0, 1.0), "standard": (0.5, 2.0)}[mode]


@pytest.mark.parametrize("name", TASKS)
def test_the_adapter_comes_from_the_task_and_the_privacy_level(name: str) -> None:
    preset = TASKS[name]
    private, plain = (
        run(task={"name": name}, privacy=privacy).adapter for privacy in (VALID["privacy"], {"mode": "none"})
    )
    assert (private.rank, private.alpha) == (plain.rank, plain.alpha) == (preset.rank, preset.alpha)
    assert (private.dropout, private.trained_factors) == (0.0, "B")
    assert (plain.dropout, plain.trained_factors) == (preset.dropout, "AB")
    assert run(task={"name": name}).labels == preset.labels


def test_a_choice_beats_the_default_it_replaces() -> None:
    given = {"rank": 4, "alpha": 1, "dropout": 0.2, "trained_factors": "AB", "target_modules": ["query"]}
    adapter = run(adapter=given, privacy={"mode": "none"}).adapter
    assert (adapter.rank, adapter.alpha, adapter.dropout, adapter.trained_factors) == (4, 1.0, 0.2, "AB")
    assert adapter.target_modules == ("query",)
    assert run(adapter={"layers": "none"}).adapter.trained_factors == "AB"


def test_one_meaning_has_one_digest_and_another_has_another() -> None:
    first = run(adapter={"alpha": 16, "dropout": -0.0})
    assert first.digest() == run(adapter={"alpha": 16.0}).digest()
    assert first.digest() == run(model={"base": "minilm"}, evaluation={}).digest()
    assert len({first.digest(), run(model={"max_tokens": 65}).digest(), run(adapter={"rank": 9}).digest()}) == 3


def test_a_changed_copy_is_checked_as_a_file_is() -> None:
    valid = run()
    with pytest.raises(ConfigurationError, match=r"run\.rounds is 0"):
        dataclasses.replace(valid, rounds=0)
    with pytest.raises(ConfigurationError, match=r"task\.labels holds 1"):
        dataclasses.replace(valid, labels=("one",))


@pytest.mark.parametrize("text", ["", "[]", "3", "{", '{"name": NaN}', '{"seed": 1, "seed": 2}', "[" * 100_000, "null"])
def test_json_that_is_no_configuration_is_one_line(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        RunConfig.from_json(text)
    assert "\n" not in str(caught.value)


def test_json_has_one_layout_and_no_keys_besides() -> None:
    values = json.loads(run().to_json())
    for extra, hint in ({"run": VALID["run"]}, "rounds"), ({"privcy": {}}, "privacy"):
        with pytest.raises(ConfigurationError, match=f"is not a known key: did you mean {hint}"):
            RunConfig.from_json(json.dumps(values | extra))


@pytest.mark.parametrize("place", sorted(sections()))
def test_json_goes_through_the_same_checks(place: str) -> None:
    keys = {"task.name": "task", "task.labels": "labels"}
    section, key = place.split(".")
    values = json.loads(run(adapter={"method": "p_tuning" if place in PROMPT else "lora"}).to_json())
    values.setdefault("personalisation", dataclasses.asdict(PersonalisationConfig()))  # left out if it is the default
    table = values if section in ("run", "task") else values[section]
    key = keys.get(place, key)
    table[key] = {"a": 1}
    with pytest.raises(ConfigurationError, match=rf" {place} is a table"):
        RunConfig.from_json(json.dumps(values))
    table[f"{key}_"] = table.pop(key)
    with pytest.raises(ConfigurationError, match=f"{key}_ is not a known key"):
        RunConfig.from_json(json.dumps(values))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"[run]\nname = \n", "line 2"),
        (b"[run]\nseed = 1\nseed = 2\n", "line 3"),
        (b"[run\n", "line 1"),
        (b"a = " + b"[" * 10_000, "not TOML"),
        (b"a = " + b"9" * 5_000, "not TOML"),
        (b'[run]\nname = "\xff"\n', "UTF-8"),
    ],
)
def test_a_file_that_is_not_toml_is_one_line(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "run.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=expected) as caught:
        load_toml(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_an_absent_file_and_a_directory_are_one_line(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.toml", tmp_path):
        with pytest.raises(ConfigurationError, match="TOML file"):
            load_toml(path)


POSITIVE = st.floats(1e-9, 1e9)
NAMES = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=20)


def optional(**values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=values)


@st.composite
def valid_tables(draw: st.DrawFn) -> dict[str, dict[str, Any]]:
    """Any valid file, field by field. `test_valid_tables_reach_every_field` holds it to that."""
    mode = draw(st.sampled_from(["high", "standard", "target", "custom", "none"]))
    privacy: dict[str, Any] = {"mode": mode}
    if mode != "none":
        privacy["delta"] = draw(st.floats(1e-12, 0.999))
        privacy |= draw(optional(unit=st.sampled_from(["record", "customer"])))
    if mode in ("target", "custom"):
        privacy["clipping_norm"] = draw(st.floats(1e-6, 1e6))
        key, values = {"target": ("target_epsilon", POSITIVE), "custom": ("noise_multiplier", st.floats(1e-9, 1000))}[
            mode
        ]
        privacy[key] = draw(values)
    name = draw(st.sampled_from(sorted(TASKS)))
    table: dict[str, Any] = {"name": name}
    if not TASKS[name].head.writes_text and draw(st.booleans()):
        table["labels"] = draw(st.lists(NAMES, min_size=5, max_size=8, unique=True))
        if name == "multi_task":
            tasks = ("sentiment_analysis", "risk_classification")
            table["labels"] = [f"{tasks[place % 2]}/{label}" for place, label in enumerate(table["labels"])]
    if name == "instruction_tuning" and draw(st.booleans()):
        table["answers"] = {draw(st.sampled_from(["trend", "topic"])): ["up", draw(st.sampled_from(["down", "flat"]))]}
    layers = draw(st.sampled_from(["all", "none", "last:1", "last:12"]))
    modules = st.sampled_from(["task", "all-linear"]) | st.lists(NAMES, min_size=1, max_size=3, unique=True)
    adapter: dict[str, Any] = draw(
        optional(
            rank=st.integers(1, 1024),
            alpha=POSITIVE,
            dropout=st.floats(0, 0.99) if mode == "none" else st.just(0.0),
            target_modules=modules,
        )
    )
    if layers != "none" and draw(st.booleans()):
        adapter["trained_factors"] = draw(st.sampled_from(["AB", "B"]))
    if mode == "none" and layers != "none" and draw(st.booleans()):
        adapter["new_tokens"] = draw(st.integers(0, 1_000_000))
    adapter |= {"layers": layers}
    if not TASKS[name].head.is_language_modelling:
        adapter |= draw(optional(method=st.sampled_from(["lora", "qlora"])))
        if draw(st.booleans()):
            adapter = {"method": "p_tuning"} | draw(optional(virtual_tokens=st.integers(1, 512), prompt_text=NAMES))
    length: dict[str, Any] = draw(st.sampled_from([{"local_steps": 7}, {"local_epochs": 0.5}]))
    batch: dict[str, Any] = draw(st.sampled_from([{"sampling_rate": 1}, {"sampling_rate": 1e-3}]))
    training = draw(
        optional(
            head_learning_rate=POSITIVE,
            optimizer=st.sampled_from(["sgd", "adamw", "adam"]),
            max_batch_tokens=st.integers(512, 2**40),
        )
    )
    if mode != "none" and training.get("optimizer", "sgd") != "sgd":
        training |= draw(optional(adam_noise_correction=st.booleans()))
    aggregation = draw(
        optional(
            weighting=st.sampled_from(["declared_units", "uniform"] + ["inverse_variance"] * (mode != "none")),
            server_optimizer=st.sampled_from(["none", "momentum", "adam"]),
            server_learning_rate=POSITIVE,
            server_momentum=st.floats(0, 0.999),
            server_decay_rounds=st.just(1),
            institutions_per_round=st.integers(5, 99),
            quorum=st.integers(1, 5),
            max_update_norm=POSITIVE,
            deadline_s=st.floats(1, 604_800),
            update_dtype=st.sampled_from(["float32", "bfloat16"]),
        )
    )
    model = optional(
        base=NAMES,
        pooling=st.sampled_from(["mean", "native"]),
        max_tokens=st.integers(4, 512),
        dtype=st.sampled_from(["float32", "bfloat16"]),
        base_digest=st.sampled_from(["0" * 64, "9f" * 32]),
    )
    if privacy["mode"] == "none" and draw(st.booleans()):
        batch = {"expected_batch_size": 64}
    personal: dict[str, Any] = {"method": "none"}
    if adapter.get("method", "lora") == "lora":
        after = {"method": "after", "steps": 3, "learning_rate": 0.1, "without_noise": mode != "none"}
        personal = draw(st.sampled_from([personal, {"method": "proximal", "proximal_weight": 1.0}, after]))
    if mode != "none" and draw(st.booleans()):
        aggregation = {key: value for key, value in aggregation.items() if "server" in key}
        aggregation |= {"secure": True, "honest": 4, "threshold": draw(st.integers(4, 1000))}
        length, personal = {"local_steps": 1}, {"method": "none"}
        training = {**training, "optimizer": "sgd"}
        training.pop("adam_noise_correction", None)
    return {
        "personalisation": personal,
        "run": {"name": "a run", "seed": draw(st.integers(0, 2**63 - 1)), "rounds": draw(st.integers(1, 10**6))},
        "task": table,
        "model": draw(model),
        "adapter": adapter,
        "training": training | length | batch | {"learning_rate": draw(POSITIVE)},
        "privacy": privacy,
        "aggregation": aggregation,
        "evaluation": draw(optional(every_rounds=st.integers(1, 99))),
    }


@given(valid_tables())
def test_toml_to_run_to_json_to_run_is_the_same_run(tables: dict[str, dict[str, Any]]) -> None:
    first = parse_run(tomllib.loads(to_toml(tables)), "any.toml")
    for section, table in tables.items():
        for key, value in table.items():
            held = getattr(first, "task" if (section, key) == ("task", "name") else key, None)
            held = held if section in ("run", "task") else getattr(getattr(first, section), key)
            if key == "answers":
                value = {kind: tuple(allowed) for kind, allowed in value.items()}
            assert held == (tuple(value) if isinstance(value, list) else value)
    second = RunConfig.from_json(first.to_json())
    assert second == first
    assert second.to_json() == first.to_json()
    assert second.digest() == first.digest()


def test_valid_tables_reach_every_field() -> None:
    reached: set[str] = set()

    @settings(max_examples=400)
    @given(valid_tables())
    def collect(tables: dict[str, dict[str, Any]]) -> None:
        reached.update(f"{section}.{key}" for section, table in tables.items() for key in table)

    collect()
    assert reached == set(sections())


def test_the_surface_is_sorted_and_exists() -> None:
    assert all(hasattr(run_module, name) for name in run_module.__all__)
