"""Adapt a base model to a financial domain: read the corpus, gather its words, train, and measure the change."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from client.finetune import AdapterOptions, FineTuningResult, TaskData, TrainingOptions, finetune
from client.finetune.strategies.continual_pretraining import AdaptationJob, objective
from client.finetune.strategies.domain_terms import TermList, curated, mine, read_terms
from client.finetune.strategies.quality import AdaptationQuality, quality_of
from client.tracking.kinds import LogKind
from common.base_models.pretrained import load_tokenizer
from common.data.corpora import read_corpus, read_split, read_text_dataset, split_held_out
from common.data.datasets import Dataset, Example
from common.errors import ConfigurationError, DataError
from common.evaluation.task_metrics import Metrics
from common.events import Observer

__all__ = ["AdaptationResult", "TextMeasures", "adapt_to_domain", "domain_terms", "read_domain"]

HELD_OUT = 0.1
"""Share of the groups, or else of the texts, that is measured on."""
_VALIDATION = 0.05
_FEWEST_TEXTS = 20


@dataclass(frozen=True, kw_only=True)
class TextMeasures:
    """How well a language model predicts some texts.

    Attributes:
        perplexity: Of the hidden tokens, or of each next one.
        accuracy: Share of these tokens that it predicts right.
        loss_per_word: In nats. It compares models of different vocabularies.
        tokens_per_word: Of the model's tokenizer.
    """

    perplexity: float
    accuracy: float
    loss_per_word: float
    tokens_per_word: float


@dataclass(frozen=True, kw_only=True)
class AdaptationResult:
    """A base model that was adapted to a domain.

    Attributes:
        base_model: Directory of the new base model, for `FineTuningJob.base_model`.
        adapter: Directory of the adapter that was folded into it.
        new_tokens: Number of words that were added to its vocabulary.
        texts, pieces: Number of texts of the corpus, and of the pieces of at most `max_tokens` that they were read in.
        left_out: Number of parts of the corpus that were not read, by kind.
        before, after: On the held-out texts of the domain.
        general_before, general_after: On general English.
        general_loss_rise: Share by which the loss a word on general English rose.
        probes_before, probes_after: Metrics of a linear head on the base model, by task.
        quality: Gain on the domain minus losses elsewhere, with its parts.
        warnings: Forgotten skills, one sentence each.
        result: The training itself.
    """

    base_model: str
    adapter: Path
    new_tokens: int
    texts: int
    pieces: int
    left_out: Mapping[str, int]
    before: TextMeasures
    after: TextMeasures
    general_before: TextMeasures
    general_after: TextMeasures
    general_loss_rise: float
    probes_before: Mapping[str, Metrics]
    probes_after: Mapping[str, Metrics]
    quality: AdaptationQuality
    warnings: tuple[str, ...]
    result: FineTuningResult

    @classmethod
    def of(cls, result: FineTuningResult) -> Self:
        """Return the typed form of the measurements of continual pretraining."""
        before, after = result.measured["before"], result.measured["after"]
        read = result.measured.get("read", {"texts": 0, "pieces": 0, "left_out": {}})  # earlier records lack it
        return cls(
            base_model=result.base_model,
            adapter=result.adapter,
            new_tokens=result.measured["new_tokens"],
            texts=read["texts"],
            pieces=read["pieces"],
            left_out=read["left_out"],
            before=TextMeasures(**before["domain"]),
            after=TextMeasures(**after["domain"]),
            general_before=TextMeasures(**before["general"]),
            general_after=TextMeasures(**after["general"]),
            general_loss_rise=result.measured["general_loss_rise"],
            probes_before=_metrics(before.get("probes", {})),
            probes_after=_metrics(result.measured.get("probes", {})),
            quality=quality_of(result.measured),
            warnings=result.warnings,
            result=result,
        )


def _metrics(records: Mapping[str, Mapping[str, Any]]) -> dict[str, Metrics]:
    return {name: Metrics.from_json(record) for name, record in records.items()}


def adapt_to_domain(
    domain: str,
    corpus: Path | str | Dataset,
    out: Path | str,
    *,
    base_model: str = "minilm",
    public: bool = False,
    held_out: Path | str | Dataset | None = None,
    column: str | None = None,
    group_column: str | None = None,
    max_texts: int | None = None,
    reference_text: Path | str | None = None,
    terms: Path | str | None = None,
    max_mined_terms: int = 150,
    new_words: bool = True,
    probes: Sequence[TaskData] = (),
    max_tokens: int = 128,
    adapter: AdapterOptions | None = None,
    training: TrainingOptions | None = None,
    seed: int = 0,
    device: str = "auto",
    max_hours: float | None = None,
    max_memory_gb: float | None = None,
    log_to: LogKind | None = None,
    observers: Sequence[Observer] = (),
) -> AdaptationResult:
    """Let a base model read a domain's text, and leave a new base model. The same call continues an interrupted one.

    Args:
        domain: "sec_filings", "analyst_reports", "earnings_calls" or "prospectuses": whose words are added.
        corpus: A file or folder of text, or a data set of texts without labels.
        out: Output directory.
        base_model: "minilm", "smollm2", a directory, or a Hugging Face name.
        public: Whether anybody may read the text. Otherwise no federation takes the result as its base model.
        held_out: Texts to measure on. If None, a tenth of `corpus`.
        column: Name of the text's column in tables.
        group_column: Name of a column in tables whose values are held out whole, such as the company.
        max_texts: Read at most this many texts, drawn by the seed.
        reference_text: Text on which forgetting is measured. If None, `common.data.corpora.general_text`.
        terms: A file with more words to add, one a line.
        max_mined_terms: Most words that are taken from the texts themselves.
        new_words: Whether words are added at all.
        probes: Labelled tasks that a linear head on the base model is measured on, before and after.
        max_tokens: Most tokens that are read at once. Longer texts are read in several pieces.
        adapter: Options of LoRA. If None, the defaults for the model.
        training: Options of the training. If None, one pass over the text.
        max_hours: Training is planned to fit in this many hours, and ends in time.
        max_memory_gb: A training that needs more memory is refused or stopped.
        log_to: "tensorboard", "mlflow" or "wandb": also log each step for this tool, below `out`.
        observers: Called for every step and epoch.

    Raises:
        FedfinError: One line that names the wrong input.
    """
    data = read_domain(
        corpus, base_model, held_out=held_out, column=column, group_column=group_column, max_texts=max_texts, seed=seed
    )
    words = domain_terms(domain, data, base_model, terms, max_mined_terms, public=public) if new_words else None
    job = AdaptationJob(
        data=(data,),
        out=Path(out),
        strategy="continual_pretraining",
        base_model=base_model,
        max_tokens=max_tokens,
        adapter=adapter or AdapterOptions(),
        training=training or TrainingOptions(epochs=1, validation=_VALIDATION),
        seed=seed,
        device=device,
        max_hours=max_hours,
        max_memory_gb=max_memory_gb,
        log_to=log_to,
        terms=words,
        general=None if reference_text is None else tuple(read_corpus(Path(reference_text))),
        probes=tuple(probes),
        public=public,
        observers=tuple(observers),
    )
    return AdaptationResult.of(finetune(job))


def read_domain(
    corpus: Path | str | Dataset,
    base_model: str,
    *,
    held_out: Path | str | Dataset | None = None,
    column: str | None = None,
    group_column: str | None = None,
    max_texts: int | None = None,
    seed: int = 0,
) -> TaskData:
    """Read a corpus, and divide it into texts to learn from and texts to measure on. See `adapt_to_domain`.

    Raises:
        DataError: The text cannot be read, or is too little to hold some out.
        ConfigurationError: `max_texts` is too small.
    """
    if held_out is not None:
        train, test = (_read(each, column) for each in (corpus, held_out))
    elif isinstance(corpus, Dataset):
        train, test = _split(corpus)
    else:
        train, test = read_split(Path(corpus), column, group_column, HELD_OUT)
    if max_texts is not None:
        if max_texts < _FEWEST_TEXTS:
            raise ConfigurationError(f"max_texts is {max_texts}: give --max-texts {_FEWEST_TEXTS} or more")
        examples = list(train.examples)
        random.Random(seed).shuffle(examples)  # noqa: S311 - an order, not a secret
        train = replace(train, examples=tuple(examples[:max_texts]))
    return TaskData(objective(base_model), train, test)


def domain_terms(
    domain: str,
    corpus: TaskData,
    base_model: str,
    terms: Path | str | None = None,
    max_mined_terms: int = 150,
    *,
    public: bool = False,
) -> TermList:
    """Return the words to add: of the domain's list, of a file, and mined from the corpus. Private if any of them is.

    Raises:
        ConfigurationError: There is no such domain.
        DataError: The file cannot be read.
    """
    lists = [curated(domain)]
    if terms is not None:
        lists.append(read_terms(Path(terms)))
    if max_mined_terms > 0:
        texts = [example.text for example in corpus.train.examples if isinstance(example, Example)]
        lists.append(mine(texts, load_tokenizer(base_model), max_mined_terms, "public" if public else "private"))
    words = tuple(dict.fromkeys(word for each in lists for word in each.words))
    private = any(each.release == "private" for each in lists)
    return TermList(words, "private" if private else "public", "; ".join(each.source for each in lists))


def _read(texts: Path | str | Dataset, column: str | None) -> Dataset:
    return texts if isinstance(texts, Dataset) else read_text_dataset(Path(texts), column)


def _split(texts: Dataset) -> tuple[Dataset, Dataset]:
    """Hold out a tenth of a data set by each text's hash, as `read_split` does with a file."""
    sides = split_held_out([example.text for example in texts.examples if isinstance(example, Example)], HELD_OUT)
    train, test = (replace(texts, examples=tuple(Example(text, 0) for text in side), labels=()) for side in sides)
    if not len(train) or not len(test):
        raise DataError(f"{texts.name}: too few texts to hold some out: give held_out")
    return train, test
