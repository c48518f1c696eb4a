"""Close this process's memory to the other processes of its user."""

import ctypes
import sys

__all__ = ["forbid_inspection"]

_PR_SET_DUMPABLE = 4


def forbid_inspection() -> None:
    """Make this process non-dumpable: no other process of the same user can read its memory, environment or open files
    through `/proc`, trace it, or get a core dump of it. Root still can.

    It does not pass to programs that this process starts. On systems other than Linux nothing happens.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
