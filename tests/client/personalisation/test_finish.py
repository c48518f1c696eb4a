"""Further steps have the mechanism of the rounds, and a model that cannot have its part is refused first."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from client.federation.planning import event_of_round
from client.institution.config import PersonalConfig
from client.personalisation import after
from client.personalisation.finish import begin
from client.personalisation.part import PersonalPart
from common.config.run import RunConfig, parse_run
from common.errors import AssignmentRefused
from common.protocol.messages import RefusalCode
from tests.client.institution.example_config import institution_config


def config(**personal: Any) -> RunConfig:
    return parse_run(
        {
            "run": {"name": "tiny", "seed": 3, "rounds": 2},
            "task": {"name": "sentiment_analysis"},
            "training": {"local_steps": 2, "sampling_rate": 0.02, "learning_rate": 0.5, "head_learning_rate": 0.25},
            "privacy": {"mode": "target", "target_epsilon": 4.0, "clipping_norm": 0.5, "delta": 1e-5},
            "personalisation": personal,
        },
        "test",
    )


def job(run: RunConfig, model: Any = None) -> Any:
    officer = PersonalConfig(allowed=("after", "prior"), allow_without_noise=True)
    settings = institution_config("bank", declared_units=1024, personalisation=officer)
    data = SimpleNamespace(units=lambda _: 1000)
    return SimpleNamespace(config=run, institution=settings, data=data, round=3, run_id="run 1", model=model)


@pytest.mark.parametrize(
    ("personal", "rates", "noised"),
    [
        ({"method": "after", "steps": 5}, (0.5, 0.25), True),
        ({"method": "after", "steps": 5, "learning_rate": 0.125}, (0.125, 0.125), True),
        ({"method": "after", "steps": 5, "without_noise": True}, (0.5, 0.25), False),
    ],
)
def test_further_steps_have_the_noise_and_sampling_of_the_rounds(
    personal: dict[str, Any], rates: tuple[float, float], noised: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(after, "charge_and_train", lambda *arguments: asked.append(arguments))
    run = config(**personal)
    after.train_further(job(run))
    ((_, event, plan, num_units),) = asked
    of_round = event_of_round(run, job(run).institution, 1000)
    assert (event.steps, plan.steps, num_units) == (5, 5, 1000)
    assert (event.noise_multiplier, event.sampling_probability) == (
        of_round.noise_multiplier,
        of_round.sampling_probability,
    )
    assert (plan.learning_rate, plan.head_learning_rate) == rates
    assert (plan.dp is not None) == noised
    if plan.dp is not None:
        assert (plan.dp.noise_multiplier, plan.dp.steps) == (event.noise_multiplier, 5)


def test_a_head_without_a_bias_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    model = SimpleNamespace(output_bias=lambda: None)
    with pytest.raises(AssignmentRefused, match="no bias to correct") as refused:
        begin(job(config(method="prior"), model), PersonalPart(tmp_path))
    assert refused.value.code == RefusalCode.CONFIG
    assert list(tmp_path.iterdir()) == []
