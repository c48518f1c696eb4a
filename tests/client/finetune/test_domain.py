"""A base model is adapted to a domain with one call, and the result states the changes."""

from pathlib import Path

import pytest

from client.commands import adapt
from client.finetune import FineTuningJob, TaskData, TrainingOptions, finetune
from client.finetune.domain import adapt_to_domain, read_domain
from client.finetune.training.time_budget import TimeBudgetExceeded
from common.data.datasets import Dataset
from common.errors import ConfigurationError, DataError, FedfinError
from tests.client.commands.institution_commands import command_line
from tests.client.finetune.strategies.test_continual_pretraining import corpus, labelled
from tests.tiny_models import save_tiny_model

main = command_line(adapt.add)

TRAINING = TrainingOptions(epochs=3, batch_size=8, learning_rate=0.01, validation=0.0)


@pytest.fixture
def base(tmp_path: Path) -> str:
    return str(save_tiny_model(tmp_path / "base"))


@pytest.fixture
def general(tmp_path: Path) -> Path:
    path = tmp_path / "general.txt"
    path.write_text("the net of a market in strong million\n\ncompany to its by weak\n")
    return path


def test_texts_in_memory_become_a_base_model_that_a_task_is_trained_on(
    base: str, general: Path, tmp_path: Path
) -> None:
    probe = TaskData("document_classification", labelled(), labelled(20, seed=1))
    adapted = adapt_to_domain(
        "sec_filings", corpus(80), tmp_path / "out", base_model=base, reference_text=general, max_mined_terms=4,
        max_tokens=32, training=TRAINING, probes=[probe], max_hours=1.0, max_memory_gb=64.0,
    )  # fmt: skip
    assert adapted.after.loss_per_word < adapted.before.loss_per_word
    assert adapted.new_tokens > 0
    assert set(adapted.probes_before) == set(adapted.probes_after) == {"document_classification"}
    assert adapted.general_loss_rise == pytest.approx(
        adapted.general_after.loss_per_word / adapted.general_before.loss_per_word - 1
    )
    job = FineTuningJob(
        data=(probe,), out=tmp_path / "task", base_model=adapted.base_model, training=TrainingOptions(epochs=4)
    )
    assert finetune(job).predict(["profit rises profit"]) in (["up"], ["down"])


def test_the_call_and_the_command_read_the_same_corpus_and_words(base: str, tmp_path: Path) -> None:
    (tmp_path / "texts.csv").write_text("text\n" + "\n".join(e.text for e in corpus(60).examples) + "\n")
    general = tmp_path / "general.txt"
    general.write_text("the net of a market in strong million\n\ncompany to its by weak\n")
    adapt_to_domain(
        "sec_filings", tmp_path / "texts.csv", tmp_path / "call", base_model=base, reference_text=general,
        max_tokens=32, max_mined_terms=3,
    )  # fmt: skip
    command = ["adapt", "--domain", "sec_filings", "--corpus", str(tmp_path / "texts.csv"), "--base-model", base]
    options = [
        "--reference-text",
        str(general),
        "--max-tokens",
        "32",
        "--max-mined-terms",
        "3",
        "--out",
        str(tmp_path / "command"),
    ]
    assert main([*command, *options, "--json"]) == 0
    for name in ("terms.toml", "before.json"):
        assert (tmp_path / "call" / name).read_bytes() == (tmp_path / "command" / name).read_bytes()


def test_bad_input_is_one_line_before_anything_is_written(base: str, tmp_path: Path) -> None:
    def refused(**changes: object) -> FedfinError:
        values = {
            "domain": "sec_filings",
            "corpus": corpus(40),
            "out": tmp_path / "out",
            "base_model": base,
            "max_tokens": 32,
        }
        with pytest.raises(FedfinError) as caught:
            adapt_to_domain(**(values | changes))
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "out").exists()
        return caught.value

    assert isinstance(refused(domain="weather"), ConfigurationError)
    assert isinstance(refused(corpus=tmp_path / "absent"), DataError)
    assert isinstance(refused(corpus=Dataset.of(["one text"])), DataError)
    assert "max_texts is 3" in str(refused(max_texts=3))
    assert "max_hours is -1" in str(refused(max_hours=-1.0))
    assert "max_memory_gb is 0.001: this training needs about" in str(refused(max_memory_gb=0.001))


def test_hours_that_are_too_few_end_in_one_line(base: str, general: Path, tmp_path: Path) -> None:
    with pytest.raises(TimeBudgetExceeded):
        adapt_to_domain(
            "sec_filings", corpus(60), tmp_path / "out", base_model=base, reference_text=general, max_hours=1e-9,
            max_tokens=32,
        )  # fmt: skip


def test_texts_are_held_out_by_their_hash(base: str) -> None:
    first, again = (read_domain(corpus(200), base) for _ in range(2))
    assert first == again
    assert 5 <= len(first.test) <= 40
    assert not {e.text for e in first.train.examples} & {e.text for e in first.test.examples}
