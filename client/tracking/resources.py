"""What a training takes from the machine: processor, memory and, where there is one, the GPU."""

import os
import time
from dataclasses import dataclass

import psutil
import torch

__all__ = ["Meter", "Usage"]


@dataclass(frozen=True)
class Usage:
    """One reading.

    seconds: since the meter was made.
    cpu: share of all the machine's cores that this process used since the reading before, 0 to 1.
    memory: bytes of main memory that this process holds.
    gpu: share of the time in which the GPU was busy, 0 to 1; None without a GPU, or where its driver does not tell.
    gpu_memory: bytes that this process holds there.
    """

    seconds: float
    cpu: float
    memory: int
    gpu: float | None = None
    gpu_memory: int | None = None


class Meter:
    """Reads at most once a second, so that watching costs nothing that the figures would show."""

    def __init__(self, every: float = 1.0) -> None:
        self._process, self._every = psutil.Process(), every
        self._start = self._wall = time.monotonic()
        self._processor = time.process_time()

    @property
    def memory_limit(self) -> int:
        """Bytes there are to use: the GPU's where training runs on one, else the machine's."""
        if torch.cuda.is_available():
            return int(torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory)
        return int(psutil.virtual_memory().total)

    def read(self) -> Usage | None:
        """The usage since the last reading; None where that one is too recent."""
        wall, processor = time.monotonic(), time.process_time()
        passed = wall - self._wall
        if passed < self._every:
            return None
        share = (processor - self._processor) / (passed * (os.cpu_count() or 1))
        self._wall, self._processor = wall, processor
        memory = int(self._process.memory_info().rss)
        return Usage(wall - self._start, min(1.0, share), memory, _gpu_share(), _gpu_memory())


def _gpu_share() -> float | None:
    if not torch.cuda.is_available():
        return None
    try:
        return float(torch.cuda.utilization()) / 100
    except (RuntimeError, ModuleNotFoundError):  # the driver's library or its Python binding is absent
        return None


def _gpu_memory() -> int | None:
    return int(torch.cuda.max_memory_allocated()) if torch.cuda.is_available() else None
