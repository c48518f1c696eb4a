"""The sets of allowed answers, by kind of instruction, as a run, an institution or a command declares them."""

from collections.abc import Mapping
from pathlib import Path

from common.config.sections import check_value, error_prefix, format_value
from common.config.toml import load_toml
from common.errors import ConfigurationError
from common.spelling import plain_answer
from common.tasks import Head, Task

__all__ = ["Answers", "check_answers", "read_answers"]

Answers = Mapping[str, tuple[str, ...]]
"""By kind of instruction, the answers that its rows may have."""

_LONGEST_KIND = 80


def check_answers(answers: Answers, task: Task, place: str) -> None:
    """Refuse sets of answers that tell nothing apart, or that belong to no instruction.

    Args:
        answers: The sets by kind.
        task: The task of the rows.
        place: The place of the sets, for messages.

    Raises:
        ConfigurationError: The first fault.
    """
    if answers and task.head is not Head.INSTRUCTION:
        raise ConfigurationError(f"{place} is given, but {task.name} answers no instructions: leave it out")
    for kind, allowed in answers.items():
        where = f"{place}.{format_value(kind)[1:-1]}"
        if len(kind) > _LONGEST_KIND:
            raise ConfigurationError(f"{place} names a kind of {len(kind)} characters: use at most {_LONGEST_KIND}")
        if len({*map(plain_answer, allowed)} - {""}) < max(2, len(allowed)):
            raise ConfigurationError(
                f"{where} needs two or more answers that differ by more than case, gaps and a final full stop: "
                "correct the list"
            )


def read_answers(path: Path, task: Task) -> Answers:
    """Read a TOML file with a list of answers for each kind of instruction, such as `trend = ["up", "down"]`.

    Raises:
        ConfigurationError: The file is no such file. The message names the kind, the fault and the remedy.
    """
    table = load_toml(path)
    with error_prefix(str(path)):
        answers: Answers = check_value(table, Answers, "answers")
        if not answers:
            raise ConfigurationError("it declares no answers: give a list for each kind of instruction")
        check_answers(answers, task, "answers")
    return answers
