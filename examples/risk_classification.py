"""Fine-tune a model for risk classification by LoRA, with a rank of its own.

    python examples/risk_classification.py --data DIR --rank 20

DIR holds train.csv and test.csv with the columns text and label. Without --data, small invented files are written.
The same on the command line:

    fedfin-institution finetune --task risk_classification --train DIR/train.csv --test DIR/test.csv \
        --rank 20 --out runs/risk
    fedfin-institution predict --adapter runs/risk notes.txt
"""

import argparse
from pathlib import Path

from synthetic import write_risk

import fedfin

NOTES = ["Creditors filed for insolvency on Monday.", "Cash covers all debt for years to come."]


def main(arguments: list[str] | None = None) -> None:
    """Fine-tune, print the metrics on the test rows, and classify two notes."""
    parser = argparse.ArgumentParser(description="LoRA for risk classification")
    parser.add_argument("--data", type=Path, help="folder of train.csv and test.csv")
    parser.add_argument("--out", type=Path, default=Path("runs/risk"))
    parser.add_argument("--base-model", default="minilm")
    parser.add_argument("--rank", type=int, default=20)
    parser.add_argument("--epochs", type=int)
    args = parser.parse_args(arguments)
    data = args.data or write_risk(args.out.with_name("risk-data"))

    train = fedfin.read_labelled(data / "train.csv", task="risk_classification")
    test = fedfin.read_labelled(data / "test.csv", task="risk_classification", labels=train.labels)
    job = fedfin.FineTuningJob(
        data=(fedfin.TaskData("risk_classification", train, test),),
        out=args.out,
        base_model=args.base_model,
        adapter=fedfin.AdapterOptions(rank=args.rank),
        training=fedfin.TrainingOptions(epochs=args.epochs),
    )
    result = fedfin.finetune(job)
    print(f"trained {result.trainable_parameters:,} of {result.total_parameters:,} parameters, rank {args.rank}")
    print(f"F1 of the high-risk levels {result.metrics.high_risk_macro_f1:.3f}, macro F1 {result.metrics.macro_f1:.3f}")

    model = fedfin.load_adapter(args.out)
    for note, answer in zip(NOTES, model.classify(NOTES), strict=True):
        print(f"{answer.label} ({answer.probabilities[answer.label]:.2f}): {note}")


if __name__ == "__main__":
    main()
