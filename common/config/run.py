"""The configuration of a run: the hub's TOML file as frozen, validated values.

The hub signs `RunConfig.digest()` into every message. An institution parses the same values through the same
checks and holds them against its own limits. Nothing here is an institution's to keep secret.
"""

import functools
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from common.canonical import canonical, parse_object
from common.config.adapter import VIRTUAL_TOKENS, AdapterConfig, AdapterSettings, PromptConfig, adapter_kind
from common.config.aggregation import AggregationConfig, EvaluationConfig
from common.config.answers import check_answers
from common.config.personalisation import PersonalisationConfig
from common.config.privacy import PrivacyConfig, fixed_by
from common.config.sections import Range, Section, build, check_value, error_prefix, format_value, refuse_unknown
from common.config.toml import load_toml
from common.config.training import ModelConfig, TrainingConfig
from common.errors import ConfigurationError
from common.presets import preset
from common.tasks import MULTI_TASK, Task, task, tasks_of

__all__ = ["RUN_SECTIONS", "RunConfig", "parse_run"]


@dataclass(frozen=True, kw_only=True)
class RunConfig(Section):
    """Everything that hub and institutions agree on.

    labels: in the order of the model's outputs. They may be empty until the hub has seen its data.
    answers: by kind of instruction, the answers that its rows may have. Kinds that are not named answer freely.
    """

    section = "run"
    name: str
    seed: Annotated[int, Range(0, 2**63 - 1)]
    rounds: Annotated[int, Range(1, 1_000_000)]
    task: str
    labels: tuple[str, ...] = ()
    answers: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    model: ModelConfig
    adapter: AdapterSettings
    training: TrainingConfig
    privacy: PrivacyConfig
    aggregation: AggregationConfig = field(default_factory=AggregationConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    personalisation: PersonalisationConfig = field(default_factory=PersonalisationConfig)

    @classmethod
    def place(cls, key: str) -> str:
        return {"task": "task.name", "labels": "task.labels", "answers": "task.answers"}.get(key, f"run.{key}")

    def check(self) -> None:
        if not re.fullmatch("[A-Za-z0-9][A-Za-z0-9 _.-]{0,79}", self.name):
            self.refuse("name", f"is {format_value(self.name)}: use at most 80 letters, digits, spaces, and . _ -")
        kind = task(self.task)
        if self.labels and kind.head.writes_text:
            self.refuse("labels", f"is given, but {self.task} writes text: leave it out")
        check_answers(self.answers, kind, "task.answers")
        if kind.name == MULTI_TASK:
            tasks_of(self.labels)
        least = max(kind.high_risk, default=1) + 1
        if 0 < len(self.labels) < least:
            self.refuse("labels", f"holds {len(self.labels)} label: {self.task} needs at least {least}")
        self._check_personalisation(kind)
        if self.privacy.mode != "none" and self.training.sampling_rate is None:
            # With a batch size, q and so noise and epsilon are functions of the exact number of rows.
            way = "is given, but under differential privacy it would give row counts away: give sampling_rate"
            self.training.refuse("expected_batch_size", way)
        self._check_adapter(kind)
        if self.aggregation.secure:
            self._check_secure()
        if self.privacy.mode == "none" and self.aggregation.weighting == "inverse_variance":
            way = 'is "inverse_variance", but privacy.mode = "none" adds no noise: use "declared_units"'
            self.aggregation.refuse("weighting", way)
        if (self.aggregation.server_decay_rounds or 0) > self.rounds:
            way = f"is {self.aggregation.server_decay_rounds}, but the run has {self.rounds} rounds: lower it"
            self.aggregation.refuse("server_decay_rounds", way)
        if self.privacy.mode == "none" and self.training.adam_noise_correction:
            self.training.refuse(
                "adam_noise_correction", 'is true, but privacy.mode = "none" adds no noise: leave it out'
            )
        if self.training.max_batch_tokens < self.model.max_tokens:
            budget = f"is {self.training.max_batch_tokens}, less than one text of model.max_tokens"
            self.training.refuse("max_batch_tokens", f"{budget} = {self.model.max_tokens}: raise it")

    def _check_adapter(self, kind: Task) -> None:
        """Refuse settings of the adapter that do not go with the task or with the privacy of the run."""
        adapter, private = self.adapter, self.privacy.mode != "none"
        if kind.head.is_language_modelling and adapter.method != "lora":
            adapter.refuse("method", f'is "{adapter.method}", but {kind.name} trains with "lora" alone: use that')
        if isinstance(adapter, PromptConfig) or not private:
            return
        if adapter.new_tokens:
            way = "is given, but under differential privacy new rows stay at the mean of their pieces: leave it out"
            adapter.refuse("new_tokens", way)
        if adapter.dropout:
            # Its masks follow from the run's seed and an example's place in its batch: one more would move all others.
            way = f"is {adapter.dropout:g}, but under differential privacy nothing may be dropped: leave it out"
            adapter.refuse("dropout", way)

    def _check_secure(self) -> None:
        """Refuse a run of which no sum of noised gradients could be taken."""
        way = "with aggregation.secure = true"
        if self.privacy.mode == "none":
            self.aggregation.refuse("secure", 'is true, but privacy.mode = "none" has no integers to add: set a mode')
        if self.training.local_steps != 1:
            steps = "is not 1" if self.training.local_steps is None else f"is {self.training.local_steps}"
            why = "a second step needs the sum of the first, and a noise that no other institution adds to"
            self.training.refuse("local_steps", f"{steps}, but {way} a round has one step ({why}): set it to 1")
        if self.training.optimizer != "sgd":
            self.training.refuse("optimizer", f'is "{self.training.optimizer}", but {way} the hub steps: use "sgd"')
        if self.personalisation.method != "none":
            method = f'is "{self.personalisation.method}"'
            self.personalisation.refuse("method", f"{method}, but {way} nothing stays inside: leave it out")

    def _check_personalisation(self, kind: Task) -> None:
        """Refuse a personal part that this run cannot have."""
        personal = self.personalisation
        method = f'is "{personal.method}", but'
        if personal.method in ("prior", "head") and (not kind.head.is_linear or kind.name == MULTI_TASK):
            personal.refuse("method", f"{method} {kind.name} has no single set of labels: use proximal or after")
        if personal.method != "none" and self.adapter.method != "lora":
            personal.refuse(
                "method", f'{method} adapter.method = "{self.adapter.method}" has no personal part: use lora'
            )
        if personal.method == "head" and isinstance(self.adapter, AdapterConfig) and self.adapter.layers == "none":
            personal.refuse("method", f'{method} with adapter.layers = "none" nothing would travel: train an adapter')
        if personal.without_noise and self.privacy.mode == "none":
            personal.refuse("without_noise", 'is true, but privacy.mode = "none" adds no noise anyway: leave it out')

    def to_json(self) -> str:
        """Canonical JSON: equal configurations give equal text.

        A run without a personal part, secure aggregation, bfloat16 updates or declared answers has no such section or
        keys.
        """
        return self._json

    @functools.cached_property
    def _json(self) -> str:
        values = asdict(self)
        if not self.aggregation.secure:
            for key in ("secure", "honest", "threshold"):
                del values["aggregation"][key]
        if self.aggregation.update_dtype == "float32":
            del values["aggregation"]["update_dtype"]
        if self.personalisation == PersonalisationConfig():
            del values["personalisation"]
        if not self.answers:
            del values["answers"]
        return canonical(values).decode()

    def to_tables(self) -> dict[str, dict[str, Any]]:
        """Return the tables of a TOML file that describes this run. `from_tables` reads them."""
        tables: dict[str, dict[str, Any]] = {"run": {}, "task": {}}
        for key, value in json.loads(self.to_json()).items():
            section, _, inner = self.place(key).partition(".")
            if isinstance(value, dict) and section == "run":
                tables[key] = {name: each for name, each in value.items() if each is not None}
            else:
                tables[section][inner] = value
        return tables

    @classmethod
    def from_tables(cls, tables: Mapping[str, Mapping[str, Any]]) -> "RunConfig":
        """Return the run that the sections of a TOML file describe, given as mappings.

        Raises:
            ConfigurationError: One line that names `section.key`, the fault and the remedy.
        """
        return parse_run(tables, "run configuration")

    @classmethod
    def read(cls, path: Path | str) -> "RunConfig":
        """Read the run from the TOML file of a hub or of a simulation. Sections about rows are left out.

        Raises:
            ConfigurationError: One line that names the file, `section.key`, the fault and the remedy.
        """
        tables = load_toml(Path(path))
        with error_prefix(str(path)):
            refuse_unknown(tables, (*RUN_SECTIONS, "data", "institutions"))
        return parse_run({name: table for name, table in tables.items() if name in RUN_SECTIONS}, str(path))

    def digest(self) -> str:
        """SHA-256 of `to_json()`, in hex."""
        return self._digest

    @functools.cached_property
    def _digest(self) -> str:
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @classmethod
    def from_json(cls, text: str) -> "RunConfig":
        """The inverse of `to_json`, through the same checks as a TOML file.

        Raises:
            ConfigurationError: not a configuration, or one that cannot be used.
        """
        source = "run configuration (JSON)"
        try:
            given = parse_object(text)
        except ValueError as error:
            raise ConfigurationError(f"{source}: not one JSON object: {error}") from None
        with error_prefix(source):
            refuse_unknown(given, cls.__dataclass_fields__, "run")
        layout: dict[str, Any] = {"run": {}, "task": {}}
        for key, value in given.items():
            section, _, inner = cls.place(key).partition(".")
            if key in RUN_SECTIONS and key != "task":
                layout[key] = value
            else:
                layout[section][inner] = value
        return parse_run(layout, source)


RUN_SECTIONS = (
    "run", "task", "model", "adapter", "training", "privacy", "aggregation", "evaluation", "personalisation",
)  # fmt: skip


def parse_run(mapping: Mapping[str, Any], source: str) -> RunConfig:
    """Return the run that the tables of its file describe. `source` names the file in messages.

    Raises:
        ConfigurationError: one line that names `source`, `section.key`, the fault and the remedy.
    """
    with error_prefix(source):
        refuse_unknown(mapping, RUN_SECTIONS)
        tables = {name: _table(mapping, name) for name in RUN_SECTIONS}
        refuse_unknown(tables["run"], ("name", "seed", "rounds"), "run")
        refuse_unknown(tables["task"], ("name", "labels", "answers"), "task")
        for section, key in (("run", "name"), ("run", "seed"), ("run", "rounds"), ("task", "name")):
            if key not in tables[section]:
                raise ConfigurationError(f"{section}.{key} is missing: add it under [{section}]")
        kind = task(check_value(tables["task"]["name"], str, "task.name"))
        privacy = build(PrivacyConfig, fixed_by(tables["privacy"].get("mode")) | tables["privacy"])
        filled = _defaults(kind, privacy.mode != "none", tables)
        return RunConfig(
            **tables["run"],
            task=kind.name,
            labels=tables["task"].get("labels", kind.labels),
            answers=tables["task"].get("answers", {}),
            model=build(ModelConfig, filled["model"]),
            adapter=build(adapter_kind(filled["adapter"]["method"]), filled["adapter"]),
            training=build(TrainingConfig, filled["training"]),
            privacy=privacy,
            aggregation=build(AggregationConfig, tables["aggregation"]),
            evaluation=build(EvaluationConfig, tables["evaluation"]),
            personalisation=build(PersonalisationConfig, tables["personalisation"]),
        )


def _defaults(kind: Task, private: bool, tables: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The sections of which the task's preset fills in some values."""
    method = tables["adapter"].get("method", "lora")
    adapter: Any = adapter_kind(method)
    start = asdict(preset(kind, private=private, prompt=adapter is PromptConfig))
    own: dict[str, Any] = {"model": ModelConfig, "training": TrainingConfig}
    filled = {
        name: {key: value for key, value in start.items() if key in own[name].__dataclass_fields__} | tables[name]
        for name in own
    }
    return filled | {"adapter": {"method": method} | _adapter(kind, private, adapter, tables["adapter"])}


def _adapter(kind: Task, private: bool, adapter: Any, table: Mapping[str, Any]) -> dict[str, Any]:
    """The values of [adapter], with those of a preset for absent ones: the task's own, or the one of `preset`."""
    given = dict(table)
    named = given.pop("preset", None)
    values = asdict(
        preset(
            kind if named is None else task(check_value(named, str, "adapter.preset"), "adapter.preset"),
            private=private,
        )
    )
    if given.get("layers") == "none":
        values["trained_factors"] = "AB"
    if adapter is PromptConfig:
        if named is not None:
            raise ConfigurationError("adapter.preset is given, but a soft prompt has none of its values: leave it out")
        values = {"virtual_tokens": VIRTUAL_TOKENS[given["method"]]}
    for key in given:
        if key in {*AdapterConfig.__dataclass_fields__, *PromptConfig.__dataclass_fields__} - {
            *adapter.__dataclass_fields__
        }:
            raise ConfigurationError(
                f"adapter.{key} is given, but {given.get('method', 'lora')} has none: leave it out, or choose another "
                "method"
            )
    return {key: value for key, value in values.items() if key in adapter.__dataclass_fields__} | given


def _table(mapping: Mapping[str, Any], name: str) -> dict[str, Any]:
    given = mapping.get(name, {})
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"{name} is {format_value(given)}: write it as a table, [{name}]")
    return dict(given)
