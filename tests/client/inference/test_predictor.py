"""A saved adapter loads with one call, answers with one call, and is measured with one call."""

from pathlib import Path

import pytest

from client.finetune import FineTuningJob, FineTuningResult, TaskData, TrainingOptions, finetune
from client.inference.predictor import Predictor, load_adapter
from common.data.datasets import Dataset
from common.errors import ConfigurationError, DataError, ModelError
from tests.client.finetune.example_data import TinyModels, task_data

TASK = "sentiment_analysis"


@pytest.fixture(scope="module")
def data() -> TaskData:
    return task_data(TASK, 120, 40)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, data: TaskData) -> FineTuningResult:
    path = tmp_path_factory.mktemp("trained")
    job = FineTuningJob(
        data=(data,), out=path / "out", base_model=TinyModels(path)("bert"), training=TrainingOptions(epochs=4)
    )
    return finetune(job)


def test_the_adapter_loads_from_itself_and_from_the_directory_around_it(trained: FineTuningResult) -> None:
    texts = ["profit rises strong", "loss falls weak"]
    answers = [load_adapter(place).predict(texts) for place in (trained.adapter, str(trained.adapter.parent))]
    assert answers[0] == answers[1] == trained.predict(texts)
    assert [each.label for each in load_adapter(trained.adapter).classify(texts)] == answers[0]


def test_it_measures_what_the_training_measured(trained: FineTuningResult, data: TaskData) -> None:
    assert load_adapter(trained.adapter).evaluate(data.test) == trained.metrics


@pytest.fixture(scope="module")
def model(trained: FineTuningResult) -> Predictor:
    return load_adapter(trained.adapter)


def test_one_text_in_place_of_a_list_is_refused(model: Predictor) -> None:
    for call in (model.predict, model.classify):
        with pytest.raises(DataError, match="give a list of texts"):
            call("profit rises")
        with pytest.raises(DataError, match="give a list of texts"):
            call([1])  # type: ignore[list-item]


def test_rows_with_other_labels_are_refused(model: Predictor) -> None:
    with pytest.raises(DataError, match=r"read it with labels=model\.labels"):
        model.evaluate(Dataset.of(["profit", "loss"], ["up", "down"]))
    with pytest.raises(DataError, match="there are no examples"):
        model.evaluate(Dataset((), model.labels, "none"))


def test_no_adapter_no_device_and_no_such_task_are_one_line(trained: FineTuningResult, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no adapter of fedfin"):
        load_adapter(tmp_path)
    with pytest.raises(ConfigurationError, match='device is "tpu", which this machine does not have'):
        load_adapter(trained.adapter, device="tpu")
    with pytest.raises(ConfigurationError, match="name one that this adapter serves: sentiment_analysis"):
        load_adapter(trained.adapter, "risk_classification")


def test_words_are_no_text_to_classify(tmp_path: Path) -> None:
    job = FineTuningJob(
        data=(task_data("financial_ner", 60, 20),),
        out=tmp_path / "out",
        base_model=TinyModels(tmp_path)("bert"),
        training=TrainingOptions(epochs=1),
    )
    words = load_adapter(finetune(job).adapter)
    assert len(words.predict(["the bank rises"])[0].split()) == 3
    with pytest.raises(ConfigurationError, match="puts no label on a text: use predict"):
        words.classify(["the bank rises"])
