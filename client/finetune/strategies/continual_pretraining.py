"""Train a base model on the text of a domain before it is given a task, and measure every step.

Steps: words are added to the vocabulary. If an encoder's files lack a scoring head, one is warmed up on the frozen
encoder, so that the metrics "before" show the encoder's knowledge. Then hidden tokens are predicted (a decoder predicts
each next token), while LoRA, new embedding rows and the encoder's head are trained. The adapter is folded into a new
base model. (Gururangan et al. 2020, arXiv 2004.10964.)
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from client.finetune.job import FineTuningJob, TaskData
from client.finetune.result import FineTuningResult
from client.finetune.strategies.domain_terms import TermList, read_terms, write_terms
from client.finetune.strategies.encoder_watch import base_vectors, similarity
from client.finetune.strategies.finish import finish
from client.finetune.strategies.linear_probe import linear_probe
from client.finetune.strategies.output_directory import refuse_foreign
from client.finetune.strategies.quality import forgotten, quality_of
from client.finetune.strategies.scaffold import train, validator
from client.finetune.strategies.session import Session, open_session, prepare_session
from client.finetune.training.plan import Minibatch, TrainingSet, grouped_minibatches
from common.adapters.adapted_model import AdaptedModel, adapt
from common.adapters.warm_up import needs_warm_up, warm_up
from common.base_models.architecture import is_decoder, read_config
from common.base_models.extend import tokens_per_word, write_extended_base, write_merged_base
from common.base_models.load import load_base
from common.base_models.pretrained import load_tokenizer
from common.base_models.provenance import read_provenance
from common.base_models.resolve import resolve_base
from common.config.adapter import AdapterConfig
from common.config.training import ModelConfig
from common.data.corpora import general_text
from common.errors import CheckpointError, ConfigurationError
from common.evaluation.evaluate import evaluate_language_model
from common.files import write_json
from common.protocol.adapter_codec import Tensors
from common.tasks import Task, task
from common.tokenization.windows import in_windows

__all__ = ["AdaptationJob", "objective", "run"]

_OWN = ("terms.toml", "extended", "start.npz", "before.json", "training", "base", "result.json")
_MASKINGS = 4
"""Number of ways in which the tokens of each text are hidden from an encoder. A step draws one of them."""
_WARM_UP_TEXTS = 600
_WARM_UP_EPOCHS = 3
_MEASURED_TEXTS = 400


@dataclass(frozen=True, kw_only=True)
class AdaptationJob(FineTuningJob):
    """Continual pretraining of a base model. `data` is the corpus: one entry of the task `objective(base_model)`.

    Attributes:
        terms: Words to add to the vocabulary. None adds no words.
        general: Texts on which forgetting is measured. None takes `common.data.corpora.general_text`.
        public: Whether the corpus is public text. Only then may a federation use the new base model.
    """

    terms: TermList | None = None
    general: tuple[str, ...] | None = None
    public: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.data[0].task.head.is_language_modelling:
            raise ConfigurationError(
                f"continual_pretraining: its data is text without labels, not {self.data[0].task.name}"
            )
        if self.privacy is not None:
            raise ConfigurationError(
                "continual_pretraining: it trains privately in a federation; alone, without privacy"
            )


def objective(base_model: str) -> Task:
    """Return the task of a base model on plain text: a decoder predicts each next token, an encoder hidden tokens.

    Raises:
        ModelError: it is absent, or its files cannot be read.
    """
    decoder = is_decoder(read_config(base_model, resolve_base(base_model)))
    return task("causal_language_modelling" if decoder else "masked_language_modelling")


def run(job: AdaptationJob) -> FineTuningResult:
    """Leave in `job.out`: `base` (a base model), `training/adapter` (PEFT, with its tokenizer), `terms.toml`,
    `result.json`.

    Raises:
        FedfinError: one line naming the input that is wrong.
    """
    # Before anything is written.
    refuse_foreign(job.out, _OWN)
    prepare_session(_inner(job, job.base_model))
    whole, job = job, _in_windows(job)
    base = _extended(job)
    session = open_session(_inner(job, base))
    if session.done is not None and (job.out / "base").is_dir():
        return _result(job, session.done)
    start, before = _before(job, base)
    session.model.load(session.model.initial() | start)
    trained = _train(session)
    after = _measured(session.model, job)
    outcome = finish(session, _figures(job, base, before, after) | {"read": _reading(whole, job)}, trained)
    session.model.base.tokenizer.save_pretrained(outcome.adapter)
    write_merged_base(session.model, session.manifest.base_model, job.out / "base", private=not job.public)
    return _result(job, outcome)


def _result(job: AdaptationJob, outcome: FineTuningResult) -> FineTuningResult:
    """Return the result with the probes and the sentence vectors of the new base model, and the quality of all."""
    base = str((job.out / "base").resolve())
    measured: dict[str, Any] = {**outcome.measured, "probes": _probed(job, base)}
    if "general_similarity" not in measured:
        measured["general_similarity"] = _similarity(job, base)
    measured["quality"] = quality_of(measured).to_json()
    outcome = replace(outcome, measured=measured, base_model=base, warnings=forgotten(measured))
    write_json(job.out / "result.json", outcome.to_json(), 0o600)
    return outcome


def _extended(job: AdaptationJob) -> str:
    """Return the base model with the new words, which is made once. Without words, return the base model itself."""
    if job.terms is None or not job.terms.words:
        return job.base_model
    out, noted = (job.out / "extended").resolve(), job.out / "terms.toml"
    if noted.exists() and read_terms(noted) != job.terms:
        raise CheckpointError(f"{job.out}: it was begun with other words: choose another output directory")
    if not out.is_dir():
        write_terms(noted, job.terms)
        write_extended_base(job.base_model, job.terms.words, out, private=job.terms.release == "private")
    return str(out)


def _in_windows(job: AdaptationJob) -> AdaptationJob:
    """Return the job with long texts cut into pieces that the model reads whole, on both sides."""
    tokenizer, most = load_tokenizer(job.base_model), _max_tokens(job)
    train, test = (in_windows(rows, tokenizer, most) for rows in (job.data[0].train, job.data[0].test))
    return replace(job, data=(TaskData(job.data[0].task, train, test),))


def _reading(whole: AdaptationJob, cut: AdaptationJob) -> dict[str, Any]:
    """Return how many texts were read as how many pieces, and the number of left out parts of the files by kind."""
    before, after = whole.data[0], cut.data[0]
    return {
        "texts": len(before.train) + len(before.test),
        "pieces": len(after.train) + len(after.test),
        "left_out": dict(before.train.left_out),
    }


def _inner(job: AdaptationJob, base: str) -> FineTuningJob:
    fields = {name: getattr(job, name) for name in FineTuningJob.__dataclass_fields__}
    changed = {"base_model": base, "out": job.out / "training", "max_tokens": _max_tokens(job), "probes": ()}
    return FineTuningJob(**fields | changed)


def _before(job: AdaptationJob, base: str) -> tuple[Tensors, dict[str, Any]]:
    """Return the weights of a warmed-up head for `base`, and the metrics of the original base model. Computed once.

    A decoder has its own head, which stays as it is: no weights.
    """
    kept, notes = job.out / "start.npz", job.out / "before.json"
    if not (kept.exists() and notes.exists()):
        original, figures = _warmed(job, job.base_model)
        start = original if base == job.base_model else _warmed(job, base)[0]
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez(kept, **start)  # type: ignore[arg-type]
        write_json(notes, figures | {"probes": _probed(job, job.base_model)}, 0o600)
    with np.load(kept) as arrays:
        return {name: arrays[name] for name in arrays.files}, json.loads(notes.read_text())


def _warmed(job: AdaptationJob, base: str) -> tuple[Tensors, dict[str, Any]]:
    kind = job.data[0].task
    loaded = load_base(ModelConfig(base=base, max_tokens=_max_tokens(job)), kind, 0)
    # Only a head is trained here. A model without one gets an adapter that changes nothing.
    layers = "last:1" if kind.head.generates else "none"
    adapter = AdapterConfig(
        rank=1, alpha=1, dropout=0.0, target_modules="all-linear", layers=layers, trained_factors="AB"
    )
    model = adapt(loaded, adapter, kind, seed=job.seed)
    texts = _texts(job.data[0])[:_WARM_UP_TEXTS]
    if needs_warm_up(model):
        warm_up(model, [*texts, *_general(job)[: len(texts) // 4]], epochs=_WARM_UP_EPOCHS, seed=job.seed)
    head = model.head_names()
    return {name: weights for name, weights in model.export().items() if name in head}, _measured(model, job)


def _measured(model: AdaptedModel, job: AdaptationJob) -> dict[str, Any]:
    """Return the metrics on held-out text of the domain and on general text. The loss a word compares vocabularies."""
    tokenizer = model.base.tokenizer
    sets = {"domain": [e.text for e in job.data[0].test.examples if hasattr(e, "text")], "general": _general(job)}
    found: dict[str, Any] = {}
    for name, texts in sets.items():
        some = texts[:: max(1, len(texts) // _MEASURED_TEXTS)][:_MEASURED_TEXTS]
        counts = evaluate_language_model(model, model.with_lm_labels(model.encode(some)))
        rate = tokens_per_word(tokenizer, some)
        loss = counts.loss / max(1, counts.tokens)
        found[name] = {
            "perplexity": counts.perplexity,
            "accuracy": counts.accuracy,
            "loss_per_word": loss * rate,
            "tokens_per_word": rate,
        }
    return found


def _probed(job: AdaptationJob, base: str) -> dict[str, dict[str, float]]:
    return {each.task.name: linear_probe(base, each, _max_tokens(job)) for each in job.probes}


def _similarity(job: AdaptationJob, base: str) -> float | None:
    """Return how similar the vectors of general sentences are to those of the original base model."""
    if job.data[0].task.head.generates:
        return None  # a decoder writes the next word: its loss on general text shows what it forgot
    texts, length = _general(job), _max_tokens(job)
    return similarity(base_vectors(job.base_model, texts, length), base_vectors(base, texts, length))


def _train(session: Session) -> dict[str, float]:
    model = session.model
    [part] = session.parts
    tokens = model.encode(_texts(TaskData(part.data.task, part.train, part.data.test)))
    ways = 1 if part.data.task.head.generates else _MASKINGS
    sets = [TrainingSet(model.with_lm_labels(tokens, 1 + way), model.logits) for way in range(ways)]
    deal = partial(_minibatches, sets, session.settings.batch_size)
    return train(session, sets, validator(session, part.data.task, part.validation), minibatches=deal)


def _minibatches(parts: Sequence[TrainingSet], size: int, generator: np.random.Generator) -> list[Minibatch]:
    batches = grouped_minibatches(parts[0].tokens.lengths, size, generator)
    return [((int(generator.integers(len(parts))), chosen),) for chosen in batches]


def _figures(job: AdaptationJob, base: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    rise = after["general"]["loss_per_word"] / before["general"]["loss_per_word"] - 1
    return {
        "before": before,
        "after": after,
        "new_tokens": read_provenance(base).new_tokens if base != job.base_model else 0,
        "general_loss_rise": rise,
    }


def _texts(data: TaskData) -> list[str]:
    return [example.text for example in data.train.examples if hasattr(example, "text")]


def _general(job: AdaptationJob) -> list[str]:
    return list(job.general) if job.general is not None else general_text()


def _max_tokens(job: AdaptationJob) -> int:
    return job.max_tokens or 128
