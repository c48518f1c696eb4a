"""The hub's metrics are those of the whole test set, and of its parts if there is more than one."""

import pytest

from common.adapters.adapted_model import AdaptedModel, adapt
from common.base_models.load import load_base
from common.config.run import RunConfig
from common.data.datasets import Dataset, merge
from common.tasks import task
from server.results.evaluation import HubEvaluator
from tests.tiny_models import save_tiny_model

LABELS = ("negative", "positive")
ONE = Dataset.of(["profit rises", "loss widens", "profit grew"], ["positive", "negative", "positive"], name="one")
TWO = Dataset.of(["shares fall", "sales flat"], ["negative", "positive"], name="two")


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> AdaptedModel:
    directory = save_tiny_model(tmp_path_factory.mktemp("base") / "base")
    config = RunConfig.from_tables(
        {
            "run": {"name": "tiny", "seed": 1, "rounds": 1},
            "task": {"name": "sentiment_analysis"},
            "model": {"base": str(directory), "max_tokens": 16},
            "adapter": {"rank": 2, "target_modules": "all-linear", "layers": "last:1"},
            "training": {"local_steps": 1, "sampling_rate": 0.5, "learning_rate": 1.0},
            "privacy": {"mode": "none"},
        }
    )
    kind = task(config.task)
    return adapt(load_base(config.model, kind, LABELS), config.adapter, kind, seed=1)


def test_the_whole_is_the_sum_of_its_parts(adapted: AdaptedModel) -> None:
    tensors = adapted.initial()
    parts = HubEvaluator(adapted, {"one": ONE, "two": TWO})(tensors)
    whole = HubEvaluator(adapted, {"test": merge([ONE, TWO], "test")})(tensors)
    assert parts.metrics == whole.metrics
    assert set(parts.by_institution) == {"one", "two"}
    right = 3 * parts.by_institution["one"]["accuracy"] + 2 * parts.by_institution["two"]["accuracy"]
    assert parts.metrics["accuracy"] == pytest.approx(right / 5)


def test_a_single_part_has_no_metrics_of_its_own(adapted: AdaptedModel) -> None:
    assert HubEvaluator(adapted, {"test": ONE})(adapted.initial()).by_institution == {}
