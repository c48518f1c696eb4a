"""A disk for the hub's directory that a test can fill: a file system in memory whose size can change."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ROOMY = 4 * 2**30


class Disk:
    """The file system that is mounted at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @classmethod
    def mount(cls, path: Path) -> "Disk | None":
        """Mount a new one. None if this process may not (it is not root, or a container forbids it)."""
        path.mkdir()
        mount = ("mount", "-t", "tmpfs", "-o", f"size={_ROOMY},mode=0700", "tmpfs", path)
        try:
            done = subprocess.run(mount, capture_output=True).returncode == 0
        except FileNotFoundError:
            done = False
        return cls(path) if done else None

    def unmount(self) -> None:
        # Lazily: a process of a test that failed may still use it.
        subprocess.run(("umount", "--lazy", self._path), check=True)

    @contextmanager
    def full(self) -> Iterator[None]:
        """Leave no byte free."""
        while not self._resize(self._used()):  # something was written in between
            pass
        try:
            yield
        finally:
            assert self._resize(_ROOMY)

    def _used(self) -> int:
        found = os.statvfs(self._path)
        return (found.f_blocks - found.f_bfree) * found.f_frsize

    def _resize(self, size: int) -> bool:
        remount = ("mount", "-o", f"remount,size={size}", self._path)
        return subprocess.run(remount, capture_output=True).returncode == 0
