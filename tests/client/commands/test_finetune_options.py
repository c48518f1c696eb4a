"""The options of `finetune`: each is read by the command, and none means another thing than it says."""

import argparse
import ast
from pathlib import Path

import pytest

from client.commands import finetune
from client.commands.finetune_options import STRATEGIES, add_finetune_options

REQUIRED = ["--task", "sentiment_analysis", "--train", "a.csv", "--test", "b.csv", "--out", "runs/a"]


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="finetune")
    add_finetune_options(made)
    return made


def test_each_option_is_read_by_the_command() -> None:
    tree = ast.parse(Path(finetune.__file__).read_text())
    read = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    read |= {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    # By `probes_of`, and by `common.cli`.
    elsewhere = {"probe_task", "probe_train", "probe_test", "passphrase_file", "pin_file"}
    assert sorted(set(vars(parser().parse_args(REQUIRED))) - read - elsewhere) == []


@pytest.mark.parametrize("missing", ["--task", "--train", "--test", "--out"])
def test_without_rows_or_a_place_for_the_result_nothing_begins(
    missing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place = REQUIRED.index(missing)
    with pytest.raises(SystemExit):
        parser().parse_args(REQUIRED[:place] + REQUIRED[place + 2 :])
    assert missing in capsys.readouterr().err


def test_by_default_nothing_is_private_and_one_task_is_learned() -> None:
    args = parser().parse_args(REQUIRED)
    assert (args.privacy, args.target_epsilon, args.strategy) == (None, None, STRATEGIES[0])
