"""The number of threads that compute a private training: one for each of its workers."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["MOST_WORKERS", "one_thread"]

MOST_WORKERS = 4
"""Each holds a physical batch, with the gradients of its examples, in memory."""


@contextmanager
def one_thread() -> Iterator[int]:
    """Compute on one thread within the block, and on as many as before afterwards.

    Yields the number of workers that may do so side by side (`client.dp.workers`): as many as there were threads,
    within `MOST_WORKERS`. Torch has a thread for each core, or as many as OMP_NUM_THREADS says.

    Several threads divide a matrix product at places that depend on its shape and on the machine's load. Then the last
    bits of an example's gradient can depend on its place in a block.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield min(before, MOST_WORKERS)
    finally:
        torch.set_num_threads(before)
