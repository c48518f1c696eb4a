"""Commands end in one line and an exit code, whatever happens in them."""

import argparse
import errno
import json
import logging
import math
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from common import cli
from common.errors import ConfigurationError


def _parser(run: object) -> argparse.ArgumentParser:
    def add(commands: cli.Commands) -> None:
        cli.subcommand(commands, "work", run, "does the work", "work")

    return cli.build_parser("fedfin-x", "Tests.", "work", (add,))


def test_an_error_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    def run(_: argparse.Namespace) -> int:
        raise ConfigurationError("file.toml: run.seed is missing: add it")

    assert cli.main(_parser(run), ["work"], "interrupted") == 2
    assert capsys.readouterr().err == "fedfin-x: file.toml: run.seed is missing: add it\n"


def test_a_full_disk_is_one_line_and_another_error_of_the_system_is_not_hidden(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run(_: argparse.Namespace) -> int:
        raise OSError(number, "words")

    number = errno.ENOSPC
    assert cli.main(_parser(run), ["work"], "interrupted") == 2
    assert capsys.readouterr().err == "fedfin-x: the disk is full: make room, and run the command again\n"
    number = errno.EIO
    with pytest.raises(OSError, match="words"):
        cli.main(_parser(run), ["work"], "interrupted")


@pytest.mark.parametrize("number", [errno.ENAMETOOLONG, errno.EACCES, errno.ELOOP])
def test_a_path_that_the_system_refuses_is_one_line_that_names_it(
    capsys: pytest.CaptureFixture[str], number: int
) -> None:
    def run(args: argparse.Namespace) -> int:
        raise OSError(number, os.strerror(number), "a" * 5000)

    assert cli.main(_parser(run), ["work"], "interrupted") == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert line.startswith("fedfin-x: aaa")
    assert line.endswith(f"aaa...: {os.strerror(number)}: check the path and its permissions\n")
    assert len(line) < 300


def test_a_file_that_does_not_fit_into_memory_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def run(_: argparse.Namespace) -> int:
        raise MemoryError

    assert cli.main(_parser(run), ["work"], "interrupted") == 2
    assert capsys.readouterr().err.startswith("fedfin-x: the memory is not enough: ")


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main(_parser(None), ["--version"], "")
    declared = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["version"]
    assert capsys.readouterr().out == f"fedfin-x {declared}\n"


def test_an_interrupt_says_what_is_saved(capsys: pytest.CaptureFixture[str]) -> None:
    def run(_: argparse.Namespace) -> int:
        raise KeyboardInterrupt

    assert cli.main(_parser(run), ["work"], "interrupted; all is saved") == 130
    assert "all is saved" in capsys.readouterr().err


def test_json_is_one_object_on_the_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    def run(given: argparse.Namespace) -> int:
        cli.print_json({"json": given.json})
        return 0

    assert cli.main(_parser(run), ["work", "--json"], "") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"json": True}


def test_an_infinite_epsilon_is_json_that_every_parser_takes(capsys: pytest.CaptureFixture[str]) -> None:
    cli.print_json({"epsilon": math.inf, "deep": [{"epsilon": math.inf}, (1.5,)], "no_figure": math.nan})

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is not JSON")

    read = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert read == {"epsilon": "infinity", "deep": [{"epsilon": "infinity"}, [1.5]], "no_figure": None}
    assert float(read["epsilon"]) == math.inf


@pytest.mark.parametrize("module", ["server.cli", "client.cli", "simulation.cli"])
def test_help_does_not_load_torch(module: str) -> None:
    code = f"import sys, {module} as cli; cli.parser(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_ctrl_c_on_a_real_command_leaves_with_130(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    code = (
        # Whoever starts the tests in the background has them ignore interrupts, and children inherit that.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import pathlib, sys, time\nfrom common import cli\n"
        f"def run(_):\n    pathlib.Path({str(ready)!r}).touch()\n    time.sleep(60)\n"
        "def add(c): cli.subcommand(c, 'work', run, 'x', 'work')\n"
        "sys.exit(cli.main(cli.build_parser('fedfin-x', 'x', 'work', (add,)), ['work'], 'saved'))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) as process:
        while not ready.exists():
            assert process.poll() is None, process.stderr and process.stderr.read()
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(20) == 130
        assert process.stderr is not None
        assert process.stderr.read() == "fedfin-x: saved\n"


def test_a_wrong_argument_is_one_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(_parser(lambda _: 0), ["work", "--absent"], "")
    assert left.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("fedfin-x")
    assert "--absent" in line
    assert "--help" in line


def test_a_kernel_that_is_optional_is_not_complained_of_in_any_process() -> None:
    assert not logging.getLogger("bitsandbytes.backends.cpu.ops").isEnabledFor(logging.WARNING)
