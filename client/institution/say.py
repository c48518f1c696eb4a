"""The institution's own share in the weights of a run, as its hub stated it with the assignments."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from common.errors import LedgerError
from common.files import write_atomic

__all__ = ["Say"]

_FILE = "share"


@dataclass(frozen=True)
class Say:
    """The mean share of an institution in the weights of the rounds of a run.

    Attributes:
        share: From 0 to 1.
        members: Number of institutions that had a share.
    """

    share: float
    members: int

    def write(self, outbox: Path) -> None:
        """Keep it in the directory of the run's answers."""
        write_atomic(outbox / _FILE, json.dumps(asdict(self)).encode())

    @classmethod
    def read(cls, outbox: Path) -> Self | None:
        """Return the share that was last stated. None if no round of the run was closed yet.

        Raises:
            LedgerError: The file is damaged.
        """
        path = outbox / _FILE
        try:
            values = json.loads(path.read_bytes())
            return cls(float(values["share"]), int(values["members"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise LedgerError(f"{path}: it is damaged: delete it, and the hub states it again") from error
