"""Section [personalisation]: what goes together, and a run without it has the digest that it always had."""

from dataclasses import asdict
from typing import Any

import pytest

from common.canonical import canonical
from common.config.personalisation import METHODS, PersonalisationConfig
from common.config.run import RunConfig, parse_run
from common.errors import ConfigurationError

BASE: dict[str, Any] = {
    "run": {"name": "x", "seed": 1, "rounds": 2},
    "task": {"name": "sentiment_analysis"},
    "training": {"local_steps": 1, "sampling_rate": 0.1, "learning_rate": 1.0},
    "privacy": {"mode": "target", "target_epsilon": 8.0, "clipping_norm": 1.0, "delta": 1e-4},
}
VALID: dict[str, dict[str, Any]] = {
    "prior": {},
    "head": {},
    "proximal": {"proximal_weight": 0.5},
    "after": {"steps": 3, "learning_rate": 0.1, "without_noise": True},
}


@pytest.mark.parametrize("method", METHODS[1:])
def test_a_personal_part_survives_the_signed_configuration(method: str) -> None:
    config = parse_run({**BASE, "personalisation": {"method": method, **VALID[method]}}, "test")
    assert RunConfig.from_json(config.to_json()) == config
    assert RunConfig.from_tables(config.to_tables()) == config


def test_a_run_without_the_later_sections_and_keys_keeps_its_digest() -> None:
    config = parse_run(BASE, "test")
    values = asdict(config)
    del values["personalisation"], values["answers"]
    for key in ("secure", "honest", "threshold", "update_dtype"):
        del values["aggregation"][key]
    assert config.to_json() == canonical(values).decode()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"personalisation": {"method": "proximal"}}, "proximal_weight is missing"),
        ({"personalisation": {"method": "after"}}, "steps is missing"),
        ({"personalisation": {"method": "prior", "steps": 3}}, "steps is given, but method"),
        ({"personalisation": {"learning_rate": 0.5}}, "learning_rate is given, but method"),
        ({"personalisation": {"method": "head", "without_noise": True}}, "without_noise is true, but method"),
        (
            {"personalisation": {"method": "head"}, "adapter": {"layers": "none"}},
            'method is "head", but with adapter.layers = "none" nothing would travel',
        ),
        (
            {
                "personalisation": {"method": "after", "steps": 1, "without_noise": True},
                "privacy": {"mode": "none"},
            },
            "without_noise is true, but privacy.mode",
        ),
        (
            {"personalisation": {"method": "prior"}, "task": {"name": "masked_language_modelling"}},
            "has no single set of labels",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^test: personalisation\.") as refused:
        parse_run({**BASE, **changes}, "test")
    assert why in str(refused.value)
    assert "\n" not in str(refused.value)


def test_only_steps_with_noise_are_charged_to_the_run() -> None:
    assert PersonalisationConfig(method="after", steps=3).noised_steps == 3
    assert PersonalisationConfig(method="after", steps=3, without_noise=True).noised_steps == 0
    assert PersonalisationConfig(method="proximal", proximal_weight=1.0).noised_steps == 0
    unnoised = [
        PersonalisationConfig(method="prior"),
        PersonalisationConfig(method="after", steps=3, without_noise=True),
    ]
    assert all(part.is_unnoised for part in unnoised)
