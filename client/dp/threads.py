"""The number of threads that compute a private training."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["one_thread"]


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread within the block, and on as many as before afterwards.

    Several threads divide a matrix product at places that depend on its shape and on the machine's load. Then the last
    bits of an example's gradient can depend on its place in a block.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
