"""Adapt a model to SEC filings within limits of time and memory, then use it to classify a sentence.

    python examples/sec_filings.py --data DIR --max-hours 2 --max-memory-gb 8

DIR holds the folder filings/ of plain text (.txt), and labelled sections of filings as train.csv and test.csv. Without
--data, small invented files are written. The same on the command line:

    fedfin-institution adapt --domain sec_filings --corpus DIR/filings \
        --max-hours 1.5 --max-memory-gb 8 --out runs/sec/base
    fedfin-institution finetune --task document_classification --train DIR/train.csv --test DIR/test.csv \
        --base-model runs/sec/base/base --max-hours 0.5 --max-memory-gb 8 --out runs/sec/sections
    fedfin-institution predict --adapter runs/sec/sections sentences.txt
"""

import argparse
from pathlib import Path

from synthetic import write_filings

import fedfin

SENTENCE = "We may be unable to refinance our debt on acceptable terms."
READING = 0.75
"""Share of the hours that is spent on reading filings. The rest is for the labelled sections."""


def main(arguments: list[str] | None = None) -> None:
    """Adapt, fine-tune, and classify one sentence."""
    parser = argparse.ArgumentParser(description="adapt a model to SEC filings")
    parser.add_argument("--data", type=Path, help="folder of filings/, train.csv and test.csv")
    parser.add_argument("--out", type=Path, default=Path("runs/sec"))
    parser.add_argument("--base-model", default="minilm")
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--max-hours", type=float, default=1.0)
    parser.add_argument("--max-memory-gb", type=float, default=8.0)
    args = parser.parse_args(arguments)
    data = args.data or write_filings(args.out.with_name("sec-data"))

    adapted = fedfin.adapt_to_domain(
        "sec_filings",
        data / "filings",
        args.out / "base",
        base_model=args.base_model,
        max_tokens=args.max_tokens,
        max_hours=READING * args.max_hours,
        max_memory_gb=args.max_memory_gb,
    )
    print(f"{adapted.new_tokens} words were added to the vocabulary")
    print(f"loss a word on filings: {adapted.before.loss_per_word:.2f} before, {adapted.after.loss_per_word:.2f} after")
    quality = adapted.quality
    print(f"adaptation quality {quality.quality:+.3f}: {quality.domain_gain:+.1%} on filings, tokens a word "
          f"{-quality.tokens_saved:+.1%}, loss on general text {quality.general_rise:+.1%}")  # fmt: skip
    for warning in adapted.warnings:
        print(f"warning: {warning}")

    train = fedfin.read_labelled(data / "train.csv", task="document_classification")
    test = fedfin.read_labelled(data / "test.csv", task="document_classification", labels=train.labels)
    job = fedfin.FineTuningJob(
        data=(fedfin.TaskData("document_classification", train, test),),
        out=args.out / "sections",
        base_model=adapted.base_model,
        max_tokens=args.max_tokens,
        max_hours=(1 - READING) * args.max_hours,
        max_memory_gb=args.max_memory_gb,
    )
    result = fedfin.finetune(job)
    print(f"sections: accuracy {result.metrics.accuracy:.3f} in {result.seconds:.0f} s")
    print(f"{fedfin.load_adapter(result.adapter).predict([SENTENCE])[0]}: {SENTENCE}")


if __name__ == "__main__":
    main()
