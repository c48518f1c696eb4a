"""The sealed messages of one round in a temporary file, so that the hub's memory does not grow with their number."""

import tempfile
import weakref
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Generic, NoReturn, TypeVar, cast

from common.errors import CheckpointError

__all__ = ["Spool"]

V = TypeVar("V")


class Spool(MutableMapping[str, V], Generic[V]):
    """Values by institution. Bytes are kept in a file without a name, which ends with this object or its process.

    The file holds sealed bytes alone. Every access reads them anew.

    Args:
        directory: Directory on a disk. None keeps everything in memory.
        await_room: Called with a number of bytes before they are written. Waits until the disk has room for them.
    """

    def __init__(self, directory: Path | None = None, await_room: Callable[[int], object] = lambda _: None) -> None:
        self._directory, self._await_room = directory, await_room
        self._others: dict[str, V] = {}
        self._places: dict[str, tuple[int, int]] = {}
        self._end = 0
        try:
            self._file = None if directory is None else tempfile.TemporaryFile(dir=directory)  # noqa: SIM115
        except OSError as error:
            self._refuse(error)
        if self._file is not None:
            weakref.finalize(self, self._file.close)

    def __setitem__(self, name: str, value: V) -> None:
        """Keep a value.

        Raises:
            CheckpointError: The disk refuses the write.
        """
        if self._file is None or not isinstance(value, bytes):
            self._places.pop(name, None)
            self._others[name] = value
            return
        try:
            self._await_room(len(value))
            self._file.seek(self._end)
            self._file.write(value)
            self._file.flush()
        except OSError as error:
            self._refuse(error)
        self._others.pop(name, None)
        self._places[name] = (self._end, len(value))
        self._end += len(value)

    def __getitem__(self, name: str) -> V:
        if self._file is None or name not in self._places:
            return self._others[name]
        start, size = self._places[name]
        self._file.seek(start)
        return cast(V, self._file.read(size))

    def __delitem__(self, name: str) -> None:
        del (self._places if name in self._places else self._others)[name]

    def __contains__(self, name: object) -> bool:
        return name in self._places or name in self._others

    def __iter__(self) -> Iterator[str]:
        yield from self._places
        yield from self._others

    def __len__(self) -> int:
        return len(self._places) + len(self._others)

    @property
    def messages(self) -> int:
        """Number of the values that are bytes."""
        return len(self._places) + sum(isinstance(value, bytes) for value in self._others.values())

    def _refuse(self, error: OSError) -> NoReturn:
        why = f"a message of the round cannot be kept ({error.strerror}): make room"
        raise CheckpointError(f"{self._directory}: {why}") from error
