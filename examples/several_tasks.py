"""Fine-tune one adapter for four tasks at once: sentiment, risk, the kind of a document, and companies in a text.

    python examples/several_tasks.py --data DIR

DIR holds a folder for each task, called by the task's name, with train.csv and test.csv (financial_ner: train.txt and
test.txt in CoNLL format). Without --data, small invented files are written. The same on the command line:

    fedfin-institution finetune --strategy multi_task --out runs/several \
        --task sentiment_analysis --train DIR/sentiment_analysis/train.csv --test DIR/sentiment_analysis/test.csv \
        --task risk_classification --train DIR/risk_classification/train.csv --test DIR/risk_classification/test.csv \
        --task document_classification --train ... --test ... --task financial_ner --train ... --test ...
    fedfin-institution predict --adapter runs/several --task financial_ner notes.txt
"""

import argparse
from pathlib import Path

from synthetic import write_documents, write_entities, write_risk, write_sentiment

import fedfin

TASKS = {
    "sentiment_analysis": write_sentiment,
    "risk_classification": write_risk,
    "document_classification": write_documents,
    "financial_ner": write_entities,
}
NOTE = "Corvane Group said profit fell and a covenant was breached"


def read(task: str, data: Path | None, out: Path) -> fedfin.TaskData:
    """Read the rows of one task. The test rows are read with the labels of the training rows."""
    folder = data / task if data else TASKS[task](out.with_name("several-data") / task, rows=120)
    suffix = ".txt" if task == "financial_ner" else ".csv"
    train = fedfin.read_labelled(folder / f"train{suffix}", task)
    return fedfin.TaskData(task, train, fedfin.read_labelled(folder / f"test{suffix}", task, labels=train.labels))


def main(arguments: list[str] | None = None) -> None:
    """Fine-tune all tasks together, print the metrics of each, and ask each about one note."""
    parser = argparse.ArgumentParser(description="several tasks at once")
    parser.add_argument("--data", type=Path, help="folder with a folder for each task")
    parser.add_argument("--out", type=Path, default=Path("runs/several"))
    parser.add_argument("--base-model", default="minilm")
    parser.add_argument("--epochs", type=int)
    args = parser.parse_args(arguments)

    job = fedfin.FineTuningJob(
        data=tuple(read(task, args.data, args.out) for task in TASKS),
        out=args.out,
        strategy="multi_task",
        base_model=args.base_model,
        training=fedfin.TrainingOptions(epochs=args.epochs),
    )
    result = fedfin.finetune(job)
    for task, metrics in result.metrics_by_task.items():
        print(f"{task}: macro F1 {metrics.macro_f1:.3f}, {fedfin.load_adapter(args.out, task).predict([NOTE])[0]}")


if __name__ == "__main__":
    main()
