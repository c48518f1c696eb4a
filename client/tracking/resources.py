"""Measure the use of processor, memory and GPU during a training."""

import os
import time
from dataclasses import dataclass

import psutil
import torch

__all__ = ["Meter", "Usage"]


@dataclass(frozen=True)
class Usage:
    """One reading.

    Attributes:
        seconds: Since the meter was made.
        cpu: Share of all processor cores that this process used since the last reading, 0 to 1.
        memory: Bytes of main memory that this process holds.
        gpu: Share of the time in which the GPU was busy, 0 to 1. None without a GPU, or if its driver gives no value.
        gpu_memory: Largest number of GPU bytes that this process held. None without a GPU.
    """

    seconds: float
    cpu: float
    memory: int
    gpu: float | None = None
    gpu_memory: int | None = None


class Meter:
    """Takes a reading at most once a second, so that the readings themselves cost next to nothing."""

    def __init__(self, every: float = 1.0) -> None:
        self._process, self._every = psutil.Process(), every
        self._start = self._wall = time.monotonic()
        self._processor = time.process_time()

    @property
    def memory_limit(self) -> int:
        """Bytes that can be used: of the GPU if there is one, otherwise of main memory."""
        if torch.cuda.is_available():
            return int(torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory)
        return int(psutil.virtual_memory().total)

    def read(self) -> Usage | None:
        """Return the usage since the last reading. None if that one is too recent."""
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
