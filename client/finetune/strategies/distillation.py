"""Train a smaller student on the predicted probabilities of a teacher (Hinton et al. 2015, arXiv 1503.02531).

The loss of a text is weight x T^2 x KL(teacher at T || student at T) + (1 - weight) x cross entropy of its label. The
factor T^2 keeps the gradients of both parts in proportion at every temperature T.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from client.finetune.job import FineTuningJob
from client.finetune.result import FineTuningResult
from client.finetune.strategies.finish import finish
from client.finetune.strategies.output_directory import refuse_foreign
from client.finetune.strategies.scaffold import train, validator
from client.finetune.strategies.session import Session, open_session, prepare_session
from client.finetune.training.plan import TrainingSet
from common.adapters.adapted_model import AdaptedModel
from common.adapters.restore import load_adapter
from common.adapters.target_modules import block_stacks
from common.base_models.architecture import read_config
from common.base_models.extend import save_base
from common.base_models.pretrained import load_pretrained
from common.base_models.provenance import Provenance, read_provenance
from common.base_models.resolve import resolve_base
from common.errors import ConfigurationError, ModelError
from common.evaluation.evaluator import make_evaluator
from common.tokenization.batches import TokenizedSet, token_batches

__all__ = ["DistillationJob", "distillation_losses", "refuse_student", "run", "teacher_logits", "write_student"]


@dataclass(frozen=True, kw_only=True)
class DistillationJob(FineTuningJob):
    """Distillation into `base_model`, which should be smaller than the teacher's.

    Attributes:
        teacher: Directory of a fine-tuned adapter for the same task and labels.
        student_blocks: Number of blocks of `base_model` to keep, evenly spaced (as in DistilBERT). None keeps all.
        temperature: A value above 1 softens the probabilities of both sides.
        weight: Of the teacher's probabilities, 0 to 1. The labels have the rest.
    """

    teacher: Path
    student_blocks: int | None = None
    temperature: float = 2.0
    weight: float = 0.7

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.privacy is not None:
            raise ConfigurationError(
                "distillation: it trains without privacy: the teacher's answers are about the rows"
            )
        if not self.temperature > 0 or not 0 <= self.weight <= 1:
            raise ConfigurationError("distillation: temperature must be above 0, weight between 0 and 1")
        if not self.data[0].task.head.labels_texts:
            raise ConfigurationError(f"distillation: {self.data[0].task.name} does not put a label on a text")


def run(job: DistillationJob) -> FineTuningResult:
    """Train the student on the job's rows. The metrics include the teacher's, and the share of equal predictions.

    Raises:
        ConfigurationError: The teacher has another task or other labels.
        FedfinError: One line that names the wrong input.
    """
    fields = {name: getattr(job, name) for name in FineTuningJob.__dataclass_fields__}
    # Before anything is written.
    refuse_foreign(job.out, ("student", "student_base"))
    prepare_session(FineTuningJob(**fields))
    if job.student_blocks is not None:
        refuse_student(job.base_model, job.student_blocks)
    teacher = _teacher(job)
    base = _student_base(job)
    session = open_session(FineTuningJob(**{**fields, "base_model": base, "out": job.out / "student"}))
    if session.done is not None:
        return session.done
    [part] = session.parts
    trained = _train(session, job, teacher)
    metrics = make_evaluator(session.model, part.data.task, part.data.test)()
    taught = make_evaluator(teacher, part.data.task, part.data.test)()
    answers = [_answers(model, part.data.test.examples) for model in (teacher, session.model)]
    agreement = float(np.mean(answers[0] == answers[1]))
    sizes = {"teacher": teacher.parameters_total, "student": session.model.parameters_total}
    found: dict[str, Any] = {**metrics, "teacher": taught, "agreement": agreement, "parameters": sizes}
    return finish(session, found, trained)


def distillation_losses(logits: Tensor, labels: Tensor, taught: Tensor, temperature: float, weight: float) -> Tensor:
    """Return the (B,) losses of a student.

    Args:
        logits: (B, C), of the student.
        labels: (B,) classes.
        taught: (B, C) logits of the teacher.
        temperature: Above 0.
        weight: Of the teacher's part, 0 to 1.
    """
    student = nn.functional.log_softmax(logits / temperature, dim=-1)
    teacher = nn.functional.log_softmax(taught / temperature, dim=-1)
    soft = nn.functional.kl_div(student, teacher, reduction="none", log_target=True).sum(-1)
    hard = nn.functional.cross_entropy(logits, labels, reduction="none")
    return weight * temperature**2 * soft + (1 - weight) * hard


@torch.no_grad()
def teacher_logits(model: AdaptedModel, tokens: TokenizedSet, max_batch_tokens: int = 8192) -> Tensor:
    """Return the (N, C) logits of every example, in order, on the CPU."""
    model.eval_mode()
    rows: dict[int, Tensor] = {}
    for indices in token_batches(tokens.lengths, np.arange(len(tokens)), max_batch_tokens):
        logits = model.logits(tokens.batch(indices, model.base.device)).float().cpu()
        rows |= {int(index): logits[row] for row, index in enumerate(indices)}
    return torch.stack([rows[index] for index in range(len(tokens))])


def refuse_student(base: str, blocks: int) -> None:
    """Refuse a number of blocks that a student of `base` cannot have, before anything is trained.

    Raises:
        ModelError: `base` has no more than `blocks` blocks.
    """
    depth = int(read_config(base, resolve_base(base)).num_hidden_layers)
    if not 0 < blocks < depth:
        raise ModelError(f"base model {base}: a student keeps 1 to {depth - 1} of its {depth} blocks, not {blocks}")


def write_student(base: str, blocks: int, out: Path) -> None:
    """Write `base` with `blocks` of its transformer blocks, evenly spaced and the last among them, to `out`.

    Raises:
        ModelError: `base` has more than one stack of blocks, or no more than `blocks` blocks.
    """
    refuse_student(base, blocks)
    model, tokenizer = load_pretrained(base)
    stacks = block_stacks(model)
    if len(stacks) != 1:
        raise ModelError(f"base model {base}: it has {len(stacks)} stacks of blocks: give a student model of your own")
    path, stack = next(iter(stacks.items()))
    kept = [round((place + 1) * len(stack) / blocks) - 1 for place in range(blocks)]
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, nn.ModuleList([stack[index] for index in kept]))
    model.config.num_hidden_layers = blocks
    before = read_provenance(base)
    save_base(model, tokenizer, out, Provenance(base, before.new_tokens, before.private_text))


def _teacher(job: DistillationJob) -> AdaptedModel:
    model, recipe, _ = load_adapter(job.teacher, "cpu" if job.device == "auto" else job.device)
    [data] = job.data
    if recipe.tasks.get(data.task.name) != data.train.labels or len(recipe.tasks) != 1:
        raise ConfigurationError(
            f"{job.teacher}: it was trained for {', '.join(recipe.tasks)} with other labels than the rows': give a "
            f"teacher of {data.task.name}"
        )
    return model


def _student_base(job: DistillationJob) -> str:
    if job.student_blocks is None:
        return job.base_model
    out = (job.out / "student_base").resolve()
    if not out.is_dir():
        write_student(job.base_model, job.student_blocks, out)
    return str(out)


def _train(session: Session, job: DistillationJob, teacher: AdaptedModel) -> dict[str, float]:
    model, [part] = session.model, session.parts
    tokens = model.encode_dataset(part.train)
    labels = torch.tensor([int(label) for label in tokens.labels or ()])
    taught = teacher_logits(teacher, teacher.encode_dataset(part.train))

    def losses(logits: Tensor, rows: Tensor) -> Tensor:
        place, chosen = logits.device, rows.cpu()
        return distillation_losses(
            logits, labels[chosen].to(place), taught[chosen].to(place), job.temperature, job.weight
        )

    # The loss looks up label and teacher's logits by the number of the row, so the numbers take the labels' place.
    numbered = replace(tokens, labels=tuple(np.array(row, dtype=np.int64) for row in range(len(tokens))))
    sets = [TrainingSet(numbered, model.logits, loss=losses)]
    return train(session, sets, validator(session, part.data.task, part.validation))


def _answers(model: AdaptedModel, examples: Sequence[Any]) -> Any:
    return teacher_logits(model, model.encode([example.text for example in examples])).argmax(-1).numpy()
