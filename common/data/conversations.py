"""Prompts and responses in the three forms in which instruction data are published.

| form | columns |
|---|---|
| chat, as in Hugging Face TRL | `messages`: a list of turns, each with `role` and `content` |
| instruction | `instruction` and `output`, and `input` if there is one |
| prompt | `prompt` and `completion`: texts, or lists of turns |

A row becomes the turns before the last one of the user, that turn, and the response. A column `kind` names the kind of
instruction of its row. Without it, rows that share an instruction (or a system turn) are of one kind. Other columns are
left aside.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.data.cells import as_text, is_utf8
from common.data.datasets import Turn
from common.data.table import Table, listed_columns
from common.errors import DataError
from common.spelling import clean_label

__all__ = ["Conversation", "Form", "check_prompt", "find_form", "has_conversations", "turns_of"]

_KIND = "kind"
"""Column with the name of a row's kind of instruction."""

_ROLES = "give an optional system turn first, then turns of user and assistant in alternation"


@dataclass(frozen=True)
class Conversation:
    """One row: the prompt as turns that end with the user's, and the response. `kind` names its kind of instruction."""

    turns: tuple[Turn, ...]
    response: str
    kind: str = ""


@dataclass(frozen=True)
class Form:
    """The form of a file's rows.

    Attributes:
        prompt: The columns of the prompt, in their order. A single one may hold turns.
        response: The column of the response. Empty if the last turn of `prompt` is the response.
        optional: Columns of the prompt that may be empty.
    """

    prompt: tuple[str, ...]
    response: str
    optional: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, str]:
        """The columns of prompt and response, for messages."""
        return self.prompt[-1], self.response or self.prompt[-1]

    def read(self, path: Path, number: int, row: Mapping[str, object], *, answered: bool = True) -> Conversation:
        """Return a row as a conversation.

        Args:
            path, number: The place of the row, for messages.
            row: The values of the row.
            answered: Whether the row holds a response. Rows that are to be answered hold none.

        Raises:
            DataError: A text is absent, or the roles are in a wrong order.
        """
        turns, instruction = self._prompt(path, number, row)
        kind = clean_label(as_text(path, number, _KIND, row.get(_KIND))) or instruction
        if not self.response and (answered or turns[-1][0] == "assistant"):
            return _split(path, number, turns, kind, self.prompt[0])
        if not answered:
            return Conversation(_checked(_place(path, number, self.prompt[-1]), turns), "", kind)
        value = row.get(self.response)
        if isinstance(value, list):
            both = (*turns, *turns_of(value, _place(path, number, self.response)))
            return _split(path, number, both, kind, self.response)
        response = as_text(path, number, self.response, value).strip()
        if not response:
            where = _place(path, number, self.response)
            raise DataError(f"{where} holds no response: give one, or leave the row out")
        return Conversation(_checked(_place(path, number, self.prompt[-1]), turns), response, kind)

    def _prompt(self, path: Path, number: int, row: Mapping[str, object]) -> tuple[tuple[Turn, ...], str]:
        """Return the turns of the prompt columns, and the instruction that rows of one kind share."""
        if len(self.prompt) == 1 and isinstance(row.get(self.prompt[0]), list):
            turns = turns_of(row[self.prompt[0]], _place(path, number, self.prompt[0]))
            return turns, turns[0][1] if turns[0][0] == "system" else ""
        if not self.response:
            where = _place(path, number, self.prompt[0])
            raise DataError(f"{where} is no list of turns: give role and content of each")
        parts = []
        for column in self.prompt:
            text = as_text(path, number, column, row.get(column)).strip()
            if not text and column not in self.optional:
                raise DataError(f"{_place(path, number, column)} is empty: fill it or leave the row out")
            parts.append(text)
        given = [part for part in parts if part]
        return (("user", "\n\n".join(given)),), given[0] if len(given) > 1 else ""


def _place(path: Path, number: int, column: str) -> str:
    return f'{path}: row {number}, column "{column}"'


def has_conversations(columns: Collection[str]) -> bool:
    """Return whether columns of these names hold prompts with responses."""
    return (
        "messages" in columns or {"instruction", "output"} <= set(columns) or {"prompt", "completion"} <= set(columns)
    )


def find_form(
    path: Path, table: Table, text: str | None = None, response: str | None = None, *, answered: bool = True
) -> Form:
    """Return the form of a table's rows, by the names of its columns.

    Args:
        path: The file, for messages.
        table: The opened file.
        text, response: Names of the columns of prompt and response, if they have others than the usual names.
        answered: Whether the rows hold responses.

    Raises:
        DataError: The columns are of none of the forms.
    """
    names = set(table.columns)
    if text is not None or response is not None:
        form = Form((text or "prompt",), response or "completion")
        needed = (*form.prompt, form.response) if answered else form.prompt
        if missing := [name for name in needed if name not in names]:
            raise DataError(f'{path}: column "{missing[0]}" is missing: {listed_columns(table)}')
        return form
    if "messages" in names:
        return Form(("messages",), "")
    if "instruction" in names and (not answered or "output" in names):
        asked = ("instruction", "input") if "input" in names else ("instruction",)
        return Form(asked, "output", optional=("input",))
    if "prompt" in names and (not answered or "completion" in names):
        return Form(("prompt",), "completion")
    wanted = "messages, nor instruction and output, nor prompt and completion"
    if not answered:
        wanted = "messages, nor instruction, nor prompt"
    raise DataError(f"{path}: it has neither {wanted}: {listed_columns(table)}")


def turns_of(value: object, where: str) -> tuple[Turn, ...]:
    """Return a list of objects with `role` and `content` as turns.

    Args:
        value: The list.
        where: The place of the list, for messages.

    Raises:
        DataError: It is no such list, a turn is empty, is not UTF-8 or calls tools, or a role is none of "system",
            "user" and "assistant".
    """
    turns: list[Turn] = []
    for each in value if isinstance(value, Sequence) and not isinstance(value, str) else ():
        role, content = (each.get("role"), each.get("content")) if isinstance(each, Mapping) else (None, None)
        if not isinstance(role, str) or not isinstance(content, str) or not content.strip():
            raise DataError(f"{where}: turn {len(turns) + 1} lacks a role or a content: give both")
        if role not in ("system", "user", "assistant"):
            raise DataError(
                f"{where}: turn {len(turns) + 1} has another role than system, user and assistant: {_ROLES}"
            )
        if each.get("tool_calls"):
            raise DataError(f"{where}: turn {len(turns) + 1} calls tools, which no task trains: leave the row out")
        if not is_utf8(content):
            raise DataError(f"{where}: turn {len(turns) + 1} is not UTF-8: convert the file")
        turns.append((role, content.strip()))
    if not turns:
        raise DataError(f"{where} is no list of turns: give role and content of each")
    return tuple(turns)


def check_prompt(turns: Sequence[Turn], where: str) -> None:
    """Refuse turns that are no prompt. Their texts may be empty.

    Args:
        turns: The turns, as a caller gave them.
        where: The place of the turns, for messages.

    Raises:
        DataError: They are not pairs of texts, the roles are in a wrong order, or a text is not UTF-8.
    """
    pairs: Sequence[object] = () if isinstance(turns, str) else turns
    if not pairs or not all(
        isinstance(pair, tuple | list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)
        for pair in pairs
    ):
        raise DataError(f"{where} is no list of turns: give (role, content) of each")
    _checked(where, tuple(turns))
    if not all(is_utf8(content) for _, content in turns):
        raise DataError(f"{where} is not UTF-8: convert it")


def _split(path: Path, number: int, turns: tuple[Turn, ...], kind: str, column: str) -> Conversation:
    """Return turns whose last one is the response."""
    where = _place(path, number, column)
    if turns[-1][0] != "assistant":
        raise DataError(f"{where} holds no response: end it with a turn of the assistant")
    return Conversation(_checked(where, turns[:-1]), turns[-1][1], kind)


def _checked(where: str, turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """Return the turns of a prompt, which alternate and end with the user's."""
    spoken = [role for role, _ in turns]
    spoken = spoken[1:] if spoken[:1] == ["system"] else spoken
    wanted = ["user", "assistant"] * len(spoken)
    if not spoken or spoken != wanted[: len(spoken)] or spoken[-1] != "user":
        raise DataError(f"{where} has roles in a wrong order: {_ROLES}")
    return turns
