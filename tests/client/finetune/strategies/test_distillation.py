"""A student that matches its teacher, and the loss that makes it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from client.finetune.job import FineTuningJob, TaskData, TrainingOptions
from client.finetune.strategies import distillation, single_task
from client.finetune.strategies.distillation import DistillationJob, distillation_losses, teacher_logits, write_student
from common.adapters.restore import load_adapter
from common.base_models.load import load_classifier
from common.errors import ConfigurationError, ModelError
from common.tasks import task
from tests.client.finetune.strategies.test_continual_pretraining import labelled
from tests.tiny_models import save_tiny_model

KIND = task("document_classification")


def settings(tmp_path: Path) -> dict[str, Any]:
    base = tmp_path / "base"
    if not base.exists():
        save_tiny_model(base, layers=4)
    training = TrainingOptions(epochs=5, batch_size=8, learning_rate=0.01, validation=0.0)
    data = (TaskData(KIND, labelled(), labelled(20, seed=1)),)
    return {"base_model": str(base), "max_tokens": 32, "training": training, "data": data}


def test_the_loss_is_that_of_the_paper() -> None:
    rng = np.random.default_rng(0)
    student, teacher, labels = rng.normal(size=(4, 3)), rng.normal(size=(4, 3)), np.array([0, 1, 2, 1])
    temperature, weight = 3.0, 0.6

    def softmax(values):
        exps = np.exp(values - values.max(1, keepdims=True))
        return exps / exps.sum(1, keepdims=True)

    p, q = softmax(teacher / temperature), softmax(student / temperature)
    soft = (p * np.log(p / q)).sum(1) * temperature**2
    hard = -np.log(softmax(student)[np.arange(4), labels])
    found = distillation_losses(torch.tensor(student), torch.tensor(labels), torch.tensor(teacher), temperature, weight)
    np.testing.assert_allclose(found.numpy(), weight * soft + (1 - weight) * hard, rtol=1e-6)


def test_a_student_who_answers_as_the_teacher_has_nothing_left_to_learn() -> None:
    logits = torch.randn(5, 3, requires_grad=True)
    loss = distillation_losses(logits, torch.zeros(5, dtype=torch.long), logits.detach(), 2.0, 1.0)
    loss.sum().backward()
    assert float(loss.detach().abs().max()) < 1e-5
    assert float(logits.grad.abs().max()) < 1e-5


def test_a_smaller_student_matches_its_teacher(tmp_path: Path) -> None:
    common = settings(tmp_path)
    teacher = single_task.run(FineTuningJob(out=tmp_path / "teacher", **common))
    outcome = distillation.run(
        DistillationJob(
            out=tmp_path / "out",
            strategy="distillation",
            teacher=teacher.adapter,
            student_blocks=2,
            **common,
        )
    )
    assert outcome.measured["agreement"] >= 0.95
    assert outcome.measured["parameters"]["student"] < outcome.measured["parameters"]["teacher"]
    # It answers like the teacher in probabilities too, on texts neither was trained on.
    tokens = load_adapter(teacher.adapter)[0].encode([e.text for e in labelled(20, seed=2).examples])
    sides = [load_adapter(path)[0] for path in (teacher.adapter, outcome.adapter)]
    probabilities = [torch.softmax(teacher_logits(model, tokens), -1) for model in sides]
    assert float((probabilities[0] - probabilities[1]).abs().mean()) < 0.1
    assert outcome.predict(["loss falls falls", "profit rises rises"]) == ["down", "up"]


def test_a_students_blocks_are_the_bases_own_and_evenly_spaced(tmp_path: Path) -> None:
    base = save_tiny_model(tmp_path / "base", layers=4)
    write_student(str(base), 2, tmp_path / "student")
    whole, student = (load_classifier(str(path), 2) for path in (base, tmp_path / "student"))
    for place, index in ((0, 1), (1, 3)):
        for (name, kept), (_, original) in zip(
            student.encoder.encoder.layer[place].named_parameters(),
            whole.encoder.encoder.layer[index].named_parameters(),
            strict=True,
        ):
            assert torch.equal(kept, original), name
    with pytest.raises(ModelError, match="keeps 1 to 3"):
        write_student(str(base), 4, tmp_path / "other")


def test_a_teacher_of_another_task_is_refused(tmp_path: Path) -> None:
    common = settings(tmp_path)
    teacher = single_task.run(FineTuningJob(out=tmp_path / "teacher", **common))
    rows = labelled()
    other = TaskData(task("risk_classification"), rows, labelled(20, seed=1))
    with pytest.raises(ConfigurationError, match="teacher"):
        distillation.run(
            DistillationJob(
                out=tmp_path / "x", strategy="distillation", teacher=teacher.adapter, **{**common, "data": (other,)}
            )
        )
