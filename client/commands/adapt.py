"""`fedfin-institution adapt`: a base model reads a domain's text and becomes another base model."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client.commands.options import add_log_to, add_probe, probes_of, refuse_absent
from common import cli

if TYPE_CHECKING:
    from client.finetune.domain import AdaptationResult
    from client.finetune.job import TaskData
    from client.finetune.strategies.domain_terms import TermList
    from client.finetune.strategies.quality import AdaptationQuality

__all__ = ["add", "add_corpus", "add_how", "corpus_of", "report", "terms_of"]

_DOMAINS = ("sec_filings", "analyst_reports", "earnings_calls", "prospectuses")


def add(commands: cli.Commands) -> None:
    """`adapt`."""
    text = "take a base model to a financial domain: words, then continual pretraining, each step measured"
    example = "adapt --domain sec_filings --corpus filings/ --out runs/filings"
    parser = cli.subcommand(commands, "adapt", _run, text, example)
    parser.add_argument(
        "--corpus", required=True, type=Path, metavar="PATH", help="a file or folder of text of the domain"
    )
    add_corpus(parser, required=True)
    add_probe(parser)
    how = add_how(parser)
    how.add_argument("--epochs", type=int, default=1, metavar="N", help="passes over the corpus (default: 1)")
    how.add_argument("--learning-rate", type=float, metavar="RATE", help="default: by the model's size")
    parser.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="output directory (rerun the same command to resume)"
    )


def add_corpus(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Add the options of the text, of its held-out part and of the added terms."""
    corpus = parser.add_argument_group("the corpus")
    corpus.add_argument(
        "--domain", choices=_DOMAINS, required=required, help="domain whose terms are added to the vocabulary"
    )
    corpus.add_argument("--column", metavar="NAME", help="text column of tables (default: text)")
    group = "column of tables whose equal values (a company, a year) are held out together"
    corpus.add_argument("--group-column", metavar="NAME", help=group)
    held_out = "text to measure on (default: a tenth of --corpus)"
    corpus.add_argument("--held-out", type=Path, metavar="PATH", help=held_out)
    reference = "general text that shows forgetting (default: descriptions of countries)"
    corpus.add_argument("--reference-text", type=Path, metavar="PATH", help=reference)
    corpus.add_argument("--max-texts", type=int, metavar="N", help="read at most N texts, drawn by the seed")
    corpus.add_argument(
        "--public", action="store_true", help="the text is public, so the resulting model may be shared"
    )
    words = parser.add_argument_group("terms (beside the built-in list of the domain)")
    words.add_argument("--terms", type=Path, metavar="FILE", help="more terms: one a line, or a term file")
    words.add_argument(
        "--max-mined-terms",
        type=int,
        default=150,
        metavar="N",
        help="add at most N frequent terms of the corpus (default: 150)",
    )
    words.add_argument("--no-new-words", action="store_true", help="leave the vocabulary as it is")


def add_how(parser: argparse.ArgumentParser) -> Any:
    """The options that say how a model is trained, as an argument group."""
    how = parser.add_argument_group("how")
    how.add_argument("--base-model", default="minilm", metavar="NAME", help="minilm (default), a directory, or a name")
    most = "tokens of a text (default: 128; longer text of the domain is read in pieces)"
    how.add_argument("--max-tokens", type=int, default=128, metavar="N", help=most)
    how.add_argument("--batch-size", type=int, metavar="N", help="texts a step (default: by the model's size)")
    how.add_argument("--rank", type=int, metavar="R", help="rank of LoRA (default: 16)")
    how.add_argument("--layers", metavar="WHICH", help="blocks with LoRA: all (default), or last:K")
    how.add_argument(
        "--max-hours", type=float, metavar="H", help="stop after H hours (the number of steps is planned to fit)"
    )
    how.add_argument(
        "--max-memory-gb",
        type=float,
        metavar="GB",
        help="refuse a training that is expected to need more, and never use more",
    )
    how.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1")
    how.add_argument("--seed", type=int, default=0, metavar="N", help="seed of order and initialisation (default: 0)")
    add_log_to(how)
    return how


def _run(args: argparse.Namespace) -> int:
    refuse_absent(args, "corpus", "held_out", "reference_text", "terms", "probe_train", "probe_test")
    from client.finetune.domain import adapt_to_domain
    from client.finetune.job import AdapterOptions, TrainingOptions
    from client.finetune.training.time_budget import describe_time_budget
    from client.tracking.progress_bar import ProgressBar

    probes = probes_of(args)
    with ProgressBar(quiet=args.json) as progress:
        adapted = adapt_to_domain(
            args.domain,
            args.corpus,
            args.out,
            base_model=args.base_model,
            public=args.public,
            held_out=args.held_out,
            column=args.column,
            group_column=args.group_column,
            max_texts=args.max_texts,
            reference_text=args.reference_text,
            terms=args.terms,
            max_mined_terms=args.max_mined_terms,
            new_words=not args.no_new_words,
            probes=probes,
            max_tokens=args.max_tokens,
            adapter=AdapterOptions(rank=args.rank, layers=args.layers),
            training=TrainingOptions(
                epochs=args.epochs, batch_size=args.batch_size, learning_rate=args.learning_rate, validation=0.05
            ),
            seed=args.seed,
            device=args.device,
            max_hours=args.max_hours,
            max_memory_gb=args.max_memory_gb,
            log_to=args.log_to,
            observers=(progress,),
        )
    if args.json:
        cli.print_json(adapted.result.to_json())
        return 0
    print(f"base model {adapted.base_model}\nadapter    {adapted.adapter}")
    if hours := describe_time_budget(adapted.result.train_metrics):
        print(f"hours      {hours}")
    print(report(adapted))
    for each in adapted.result.recommendations:
        print(f"next time  {each['advice']}: {each['because']}")
    print(f"report     {adapted.result.report}")
    return 0


def corpus_of(args: argparse.Namespace, path: Path) -> "TaskData":
    """Split the corpus into training texts and test texts, by group if there are groups."""
    from client.finetune.domain import read_domain

    return read_domain(
        path,
        args.base_model,
        held_out=args.held_out,
        column=args.column,
        group_column=args.group_column,
        max_texts=args.max_texts,
        seed=args.seed,
    )


def terms_of(args: argparse.Namespace, corpus: "TaskData", base_model: str) -> "TermList | None":
    """The words to add: of the domain, of a file, and mined from the corpus. They are private if any of them is."""
    from client.finetune.domain import domain_terms

    if args.no_new_words:
        return None
    return domain_terms(args.domain, corpus, base_model, args.terms, args.max_mined_terms, public=args.public)


def report(adapted: "AdaptationResult") -> str:
    """Return the metrics before and after, and the warnings, as text for a person."""
    lines = [f"new words  {adapted.new_tokens}", f"read       {adapted.texts:,} texts in {adapted.pieces:,} pieces"]
    lines += [f"left out   {count:,} {kind}" for kind, count in adapted.left_out.items()]
    sides = {
        "domain": (adapted.before, adapted.after),
        "general": (adapted.general_before, adapted.general_after),
    }
    for name, (before, after) in sides.items():
        for figure in ("perplexity", "loss_per_word", "tokens_per_word"):
            lines.append(f"{name}: {figure:16} {getattr(before, figure):10.3f} -> {getattr(after, figure):.3f}")
    for name, new in adapted.probes_after.items():
        old = adapted.probes_before[name]
        lines.append(
            f"{name}, a linear head: accuracy {old.accuracy:.3f} -> {new.accuracy:.3f}, macro F1 "
            f"{old.macro_f1:.3f} -> {new.macro_f1:.3f}"
        )
    lines += _quality(adapted.quality)
    return "\n".join([*lines, *(f"WARNING    {warning}" for warning in adapted.warnings)])


def _quality(quality: "AdaptationQuality") -> list[str]:
    parts = [f"domain loss a word {-quality.domain_gain:+.1%}", f"tokens a word {-quality.tokens_saved:+.1%}"]
    if quality.probe_change is not None:
        parts.append(f"linear head {100 * quality.probe_change:+.1f} points")
    parts.append(f"general loss a word {quality.general_rise:+.1%}")
    if quality.similarity is not None:
        parts.append(f"general sentence vectors {quality.similarity:.2f}")
    return [f"quality    {quality.quality:+.3f} ({', '.join(parts)})"]
