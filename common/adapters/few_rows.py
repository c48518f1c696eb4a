"""Linear layers over few rows, computed by the method that the library takes for more.

Between 2 and 15 rows a matrix product can take another method, and the bits of its last row then differ. A block has at
least as many tokens as that, but a layer over one vector an example, such as a pooler or the head of a classifier, has
as many rows as the block has examples.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

__all__ = ["LEAST_ROWS", "FewRows"]

LEAST_ROWS = 16
"""With so many rows or more, the bits of a row do not follow from their number."""


class FewRows(TorchFunctionMode):
    """Inside, a linear layer with fewer than `LEAST_ROWS` rows of input is computed with rows of zeros beside them.

    What is computed backward follows what was computed forward, so only the forward pass need be inside.
    """

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call `function`, with more rows if it is a linear layer over few of them."""
        named: dict[str, Any] = dict(kwargs or {})
        rows: Any = args[0] if args else named.get("input")
        if function is not torch.nn.functional.linear or rows.ndim != 2 or len(rows) >= LEAST_ROWS:
            return function(*args, **named)
        filled = torch.nn.functional.pad(rows, (0, 0, 0, LEAST_ROWS - len(rows)))
        if args:
            return function(filled, *args[1:], **named)[: len(rows)]
        return function(**(named | {"input": filled}))[: len(rows)]
