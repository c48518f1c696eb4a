"""A wrong path is refused before torch is imported, which takes most of the time of a short command."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

DATA = ("--task", "sentiment_analysis", "--train", "rows.csv", "--test", "rows.csv")
OUT = ("--out", "out")
ABSENT = ("--base-model", "./absent")
LONG = "absent" * 100
DOMAIN = ("--domain", "sec_filings")

WRONG = {
    "client.cli": [
        ("evaluate", "--adapter", "absent", "--test", "rows.csv"),
        ("predict", "--adapter", "absent", "rows.csv"),
        ("chat", "--adapter", "absent"),
        ("merge", "--adapter", "absent", *OUT),
        ("inspect", "absent.csv"),
        ("inspect", "rows.csv", *ABSENT),
        ("advise", *DATA[:2], "--train", "absent.csv"),
        ("advise", *DATA[:4], *ABSENT),
        ("finetune", *DATA[:4], "--test", "absent.csv", *OUT),
        ("finetune", *DATA, *OUT, *ABSENT),
        ("finetune", *DATA, *OUT, "--strategy", "incremental", "--from", "absent", "--previous-test", "rows.csv"),
        ("adapt", *DOMAIN, "--corpus", "absent", *OUT),
        ("adapt", *DOMAIN, "--corpus", "rows.csv", *OUT, *ABSENT),
        ("domain-adversarial", *DATA, "--other", "absent", *OUT),
        ("domain-adversarial", *DATA, "--other", "rows.csv", *OUT, *ABSENT),
        ("stages", *DATA, *DOMAIN, "--corpus", "absent", *OUT),
        ("stages", *DATA, *OUT, *ABSENT),
        ("evaluate", "--adapter", LONG, "--test", "rows.csv"),
        ("finetune", *DATA[:2], "--train", LONG, "--test", "rows.csv", *OUT),
        ("inspect", LONG),
        ("personal", "--home", "absent"),
        ("audit", "--config", "absent.toml"),
        ("budget", "show", "--home", "absent"),
        ("budget", "forecast", "absent.toml", "--home", "absent"),
    ],
    "simulation.cli": [("run", "absent.toml", *OUT), ("resume", "absent"), ("report", "absent")],
    "server.cli": [("run", "absent.toml", "--home", "absent"), ("status", "--home", "absent")],
}


@pytest.mark.parametrize("program", WRONG)
def test_a_wrong_path_is_refused_without_torch(program: str, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,label\nprofit rose,positive\nprofit fell,negative\n")
    code = (
        f"import json, sys, {program} as cli\n"
        "for command in json.loads(sys.argv[1]):\n"
        "    code = cli.main(command)\n"
        "    print(json.dumps([command, code, 'torch' in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(WRONG[program])],
        check=True, capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert found == [[list(command), 2, False] for command in WRONG[program]]
    refusals = done.stderr.splitlines()
    assert len(refusals) == len(found), "one line each"
    assert all("absent" in line for line in refusals), "and it names the path"
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"], "nothing was written"
