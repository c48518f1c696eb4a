"""Bad input to the commands of fine-tuning alone, and the message of each: `docs/errors.md` is written from these runs.

python -m tests.client.commands.error_cases > docs/errors.md
"""

import contextlib
import io
import json
import re
import shlex
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

from client.cli import main
from client.institution.directory import InstitutionDirectory
from common.privacy.ledger import PrivacyLedger
from tests.tiny_models import save_tiny_model

KINDS = ("net loss of bank {},negative", "flat sales of bank {},neutral", "record profit of bank {},positive")
ROWS = "\n".join(["text,label", *(KINDS[n % 3].format(n) for n in range(12)), ""])
TEST = "text,label\nloss of the quarter,negative\nprofit of the quarter,positive\n"
TAGS = "Bank B-ORG\nof O\n\nprofit O\n\n"
FILES = {
    "train.csv": ROWS,
    "test.csv": TEST,
    "train.txt": TAGS,
    "test.txt": "Shares O\nof O\nBank B-ORG\n\n",
}
"""Files of every case. A case's own files replace them."""

ROWS_OF = "--train train.csv --test test.csv"
USUAL = f"finetune --task sentiment_analysis {ROWS_OF} --out out"
WORDS = "finetune --task financial_ner --train train.txt --test test.txt --out out"
TINY = f"{USUAL} --base-model bert"
ASKED = "finetune --task instruction_tuning --train train.jsonl --test test.jsonl --base-model smollm2 --out out"
AGAIN = f"{USUAL} --strategy incremental"


@dataclass(frozen=True)
class Wrong:
    """One bad input: the fault, the command, and the files that differ from `FILES`."""

    what: str
    command: str
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    stdin: str = ""


def rows(*lines: str, header: str = "text,label") -> str:
    return "\n".join([header, *lines]) + "\n"


def chat(*roles: str) -> str:
    return json.dumps({"messages": [{"role": role, "content": f"profit of {role}"} for role in roles]}) + "\n"


CASES: Mapping[str, tuple[Wrong, ...]] = {
    "Files and rows": (
        Wrong("no such file", USUAL.replace("train.csv", "trian.csv")),
        Wrong("another format", USUAL.replace("train.csv", "train.pdf"), {"train.pdf": "PK"}),
        Wrong("no such column", f"{USUAL} --text-column headline"),
        Wrong("a row too short", USUAL, {"train.csv": rows("profit of bank 1,positive", "loss of bank 2")}),
        Wrong("a quote that never ends", USUAL, {"train.csv": rows("profit,positive", '"loss of bank,negative')}),
        Wrong("bytes that are not UTF-8", USUAL, {"train.csv": b"text,label\nprofit,positive\nb\x81rse,negative\n"}),
        Wrong("a line that is no JSON", USUAL.replace("train.csv", "train.jsonl"),
              {"train.jsonl": '{"text": "profit"\n'}),
        Wrong("an empty text", USUAL, {"train.csv": rows("profit,positive", " ,negative")}),
        Wrong("an empty label", USUAL, {"train.csv": rows("profit,positive", "loss,")}),
        Wrong("the columns the wrong way round", f"{USUAL} --text-column label --label-column text",
              {"train.csv": rows("profit,1", "loss,0")}),
        Wrong("one label only", USUAL, {"train.csv": rows("profit,positive", "more profit,positive")}),
        Wrong("a label in the test that no training row has", USUAL, {"test.csv": rows("profit,bullish")}),
        Wrong("a test set inside the training rows", USUAL, {"test.csv": ROWS}),
        Wrong("a label file that disagrees with the rows", f"{USUAL} --labels labels.txt",
              {"labels.txt": "up\ndown\n"}),
        Wrong("a label file with one label", f"{USUAL} --labels labels.txt", {"labels.txt": "positive\n"}),
        Wrong("a word without a tag", WORDS, {"train.txt": "Bank B-ORG\nof\n"}),
        Wrong("tags that are none", WORDS, {"train.txt": "Bank NNP\nof IN\n"}),
        Wrong("words and tags in a table", WORDS.replace("train.txt", "train.csv")),
        Wrong("numbers for tags, and nothing that names them", WORDS.replace("train.txt", "train.jsonl"),
              {"train.jsonl": json.dumps({"tokens": ["Bank", "of"], "ner_tags": [1, 0]}) + "\n"}),
        Wrong("a prompt without a response", ASKED, {"train.jsonl": chat("user")}),
        Wrong("a turn that calls a tool", ASKED, {"train.jsonl": chat("user", "assistant").replace(
            '"role": "assistant"', '"tool_calls": [{"id": 1}], "role": "assistant"')}),
        Wrong("roles in a wrong order", ASKED, {"train.jsonl": chat("assistant", "user", "assistant")}),
        Wrong("an answer that is not declared", f"{ASKED} --answers answers.toml",
              {"answers.toml": 'system = ["up", "down"]\n',
               "train.jsonl": json.dumps({"prompt": "did it rise?", "completion": "maybe", "kind": "system"}) + "\n"}),
        Wrong("no columns of prompts and responses", ASKED.replace("train.jsonl", "train.csv")),
    ),
    "Task, model and method": (
        Wrong("an unknown task", USUAL.replace("sentiment_analysis", "sentiment_analisys")),
        Wrong("no such base model", f"{USUAL} --base-model ./models/finbert"),
        Wrong("a task that the model cannot do",
              USUAL.replace("sentiment_analysis", "document_summarization"),
              {n: rows(f"a long report in {n},short", header="text,summary") for n in ("train.csv", "test.csv")}),
        Wrong("labels for a task that writes text", f"{ASKED} --labels labels.txt", {"labels.txt": "up\ndown\n"}),
        Wrong("a base model that cannot write responses", ASKED.replace("smollm2", "bert"),
              {"train.jsonl": chat("user", "assistant"),
               "test.jsonl": chat("system", "user", "assistant")}),
        Wrong("a method that the model cannot serve", f"{USUAL} --base-model mpnet --adapter prefix_tuning"),
        Wrong("a rank for a method that has none", f"{USUAL} --adapter p_tuning --rank 8"),
        Wrong("a rank out of range", f"{USUAL} --rank 0"),
        Wrong("modules that the model does not have", f"{TINY} --target-modules query,gate"),
        Wrong("blocks that are none", f"{TINY} --layers first:2"),
        Wrong("more tokens than the model reads", f"{TINY} --max-tokens 4096"),
        Wrong("too little memory", f"{USUAL} --max-memory-gb 0.1"),
        Wrong("no GPU", f"{USUAL} --device cuda"),
        Wrong("an output directory that holds something else", USUAL, {"out/notes.txt": "mine"}),
        Wrong("an output directory of another training", USUAL, {"out/job.json": '{"identity": "another"}'}),
    ),
    "Strategies": (
        Wrong("two tasks without multi_task", f"{USUAL} --task financial_ner --train train.txt --test test.txt"),
        Wrong("multi_task with one task", f"{USUAL} --strategy multi_task"),
        Wrong("a file too few for the tasks", f"{USUAL} --strategy multi_task --task financial_ner --train train.txt"),
        Wrong("a summary in multi_task", f"{USUAL} --base-model t5 --strategy multi_task --task document_summarization "
              "--train long.csv --test short.csv",
              {n: rows(f"a report in {n},short", header="text,summary") for n in ("long.csv", "short.csv")}),
        Wrong("incremental without the old test rows", f"{AGAIN} --from old"),
        Wrong("incremental from no adapter", f"{AGAIN} --from nowhere --previous-test test.csv"),
        Wrong("an old adapter for single_task", f"{USUAL} --from old"),
        Wrong("rows of another task than the adapter's",
              f"{AGAIN.replace('sentiment_analysis', 'risk_classification')} --from old --previous-test test.csv"),
        Wrong("labels that the old adapter does not know", f"{AGAIN} --from old --previous-test test.csv",
              {"train.csv": rows("profit of bank,up", "loss of bank,down")}),
    ),
    "Privacy": (
        Wrong("a privacy level that is none", f"{USUAL} --privacy medium"),
        Wrong("an epsilon of zero", f"{USUAL} --target-epsilon 0"),
        Wrong("a delta without privacy", f"{USUAL} --delta 1e-5"),
        Wrong("a delta larger than one over the rows", f"{TINY} --target-epsilon 8 --delta 0.5"),
        Wrong("labels that nobody declared",
              f"{TINY.replace('sentiment_analysis', 'document_classification')} --target-epsilon 8"),
        Wrong("declared labels that no row has", f"{TINY} --target-epsilon 8",
              {"train.csv": rows("gain,up", "loss,down")}),
        Wrong("no institution there", f"{TINY} --target-epsilon 8 --home nowhere"),
        Wrong("more than the institution's budget", f"{TINY} --target-epsilon 8 --home bank"),
        Wrong("an institution that protects customers", f"{TINY} --target-epsilon 0.5 --home shop"),
        Wrong("a task that the institution does not allow",
              f"{TINY.replace('sentiment_analysis', 'risk_classification')} --target-epsilon 0.5 --home bank",
              {"train.csv": rows("profit of bank,low", "loss of bank,high"), "test.csv": rows("up,low", "fall,high")}),
        Wrong("a base model that the institution does not allow",
              f"{TINY.replace('bert', 'mpnet')} --target-epsilon 0.5 --home bank"),
        Wrong("no privacy, at an institution that trains with it only", f"{TINY} --home bank"),
        Wrong("several tasks with privacy",
              f"{USUAL} --strategy multi_task --task financial_ner --train train.txt --test test.txt "
              "--target-epsilon 8"),
        Wrong("recomputing with privacy", f"{USUAL} --target-epsilon 8 --gradient-checkpointing"),
        Wrong("incremental with privacy and without the old rows",
              f"{AGAIN} --from old --previous-test test.csv --target-epsilon 8"),
    ),
    "With a trained adapter": (
        Wrong("no adapter there", "predict --adapter nowhere news.csv", {"news.csv": TEST}),
        Wrong("no such column", "predict --adapter old news.csv --text-column headline", {"news.csv": TEST}),
        Wrong("an empty line", "predict --adapter old", stdin="profit rises\n\nloss widens\n"),
        Wrong("a line that is not UTF-8", "predict --adapter old news.txt", {"news.txt": b"profit\nb\x81rse\n"}),
        Wrong("a task that the adapter does not serve", "predict --adapter old news.csv --task financial_ner",
              {"news.csv": TEST}),
        Wrong("labels that the adapter does not know", "evaluate --adapter old --test test.csv",
              {"test.csv": rows("profit,up", "loss,down")}),
        Wrong("weights that are damaged", "evaluate --adapter cut --test test.csv"),
        Wrong("another copy of the base model", "evaluate --adapter moved --test test.csv"),
        Wrong("merging into a directory that is not empty", "merge --adapter old --out old"),
        Wrong("a model that labels for llama.cpp", "merge --adapter old --out merged --gguf merged.gguf"),
        Wrong("merging a soft prompt", "merge --adapter prompt --out merged"),
        Wrong("advice for no memory", "advise --task sentiment_analysis --train train.csv --memory-gb 0"),
    ),
}  # fmt: skip


def prepare(directory: Path) -> None:
    """Files that the cases share: tiny base models, trained adapters whole and damaged, institutions."""
    for family in ("bert", "mpnet", "t5"):
        save_tiny_model(directory / family, family)
    _write(directory, FILES)
    with contextlib.chdir(directory):
        quick = "--base-model bert --epochs 1 --json"
        for out, more in (("old", "--rank 2"), ("prompt", "--adapter p_tuning")):
            if run(Wrong("", f"{USUAL.replace('--out out', f'--out {out}')} {quick} {more}")):
                raise RuntimeError(f"{out} cannot be trained")
    _copy(directory / "old" / "adapter", directory / "cut" / "adapter")
    (directory / "cut" / "adapter" / "adapter_model.safetensors").write_bytes(b"cut")
    _copy(directory / "old" / "adapter", directory / "moved" / "adapter")
    description = directory / "moved" / "adapter" / "fedfin.json"
    content = json.loads(description.read_text())
    description.write_text(json.dumps(content | {"base_digest": 64 * "0"}))
    for name, limits in (
        ("bank", 'max_epsilon = 2.0\ndelta = 1e-4\ntasks = ["sentiment_analysis"]'),
        ("shop", 'unit = "customer"'),
    ):
        home = InstitutionDirectory.create(directory / name, name)
        models = '[model]\nallowed = ["bert"]'
        home.settings_path.write_text(f'[institution]\nname = "{name}"\n{models}\n[limits]\n{limits}\n')
        PrivacyLedger.open(home.ledger_path, home.keys()).close()


def said(wrong: Wrong, directory: Path) -> str:
    """Run the command in the directory of `prepare` and return its standard error. `directory` stays as it was.

    Raises:
        RuntimeError: it does not end as bad input must: exit code 2, nothing on standard output, nothing new on disk.
    """
    _write(directory, {**FILES, **wrong.files})
    before = _tree(directory)
    with contextlib.chdir(directory):
        heard = run(wrong)
    if _tree(directory) != before:
        raise RuntimeError(f"{wrong.what}: it left files behind")
    for path in (directory / name for name in wrong.files if name not in FILES):
        path.unlink()
        if path.parent != directory:
            path.parent.rmdir()
    return heard


def run(wrong: Wrong) -> str:
    """Return the command's standard error, or "" if it succeeds."""
    out, err = io.StringIO(), io.StringIO()
    with (
        patch.object(sys, "stdin", io.StringIO(wrong.stdin)),
        patch("torch.cuda.is_available", lambda: False),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = main(shlex.split(wrong.command))
    if code not in (0, 2) or (code == 2 and out.getvalue()):
        raise RuntimeError(f"{wrong.what}: exit code {code}, on standard output {out.getvalue()!r}")
    return err.getvalue() if code else ""


def page(directory: Path) -> str:
    """The page, from the runs themselves."""
    lines = [
        "# Errors and their messages",
        "",
        "Each is one line on standard error and exit code 2, said before anything is trained, charged or written. Rows",
        "are named by number, their text never. Written by `python -m tests.client.commands.error_cases` from the runs",
        "themselves; a test holds this page to them. `$` stands for `fedfin-institution`. Sizes in memory differ.",
    ]
    for title, cases in CASES.items():
        lines += ["", f"## {title}"]
        for wrong in cases:
            lines += [
                "",
                f"**{wrong.what[0].upper()}{wrong.what[1:]}**",
                "```",
                f"$ {wrong.command}",
                shown(said(wrong, directory)),
                "```",
            ]
    return "\n".join(lines) + "\n"


def shown(message: str) -> str:
    """Return the message without the parts that differ from machine to machine."""
    message = message.strip().removeprefix("fedfin-institution: ")
    return re.sub(r"\b\d[\d.,]* (kB|MB|GB)\b", "... MB", message)


def _write(directory: Path, files: Mapping[str, str | bytes]) -> None:
    for name, content in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content.encode() if isinstance(content, str) else content)


def _copy(source: Path, target: Path) -> None:
    target.mkdir(parents=True)
    for file in source.iterdir():
        (target / file.name).write_bytes(file.read_bytes())


def _tree(directory: Path) -> dict[str, int]:
    return {str(path): path.stat().st_size for path in directory.rglob("*")}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        prepare(Path(scratch))
        sys.stdout.write(page(Path(scratch)))
