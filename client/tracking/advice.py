"""One recommended change, in the words of the command line or of a federation's run."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

__all__ = ["Recommendation", "of_a_run"]


@dataclass(frozen=True)
class Recommendation:
    """One recommended change.

    Attributes:
        action: Name of the change.
        advice: The change, as an option of `fedfin-institution finetune` if there is one.
        because: The reason, with its numbers.
        figures: The numbers.
    """

    action: str
    advice: str
    because: str
    figures: Mapping[str, float]


_KEYS_OF_A_RUN = {
    "--learning-rate": "training.learning_rate =",
    "--rank": "adapter.rank =",
    "--alpha": "and adapter.alpha =",
    "--batch-size": "training.sampling_rate",
    "--target-modules": "adapter.target_modules =",
    "--layers": "adapter.layers =",
    "--adapter": "adapter.method =",
    "--gradient-checkpointing": "a smaller training.max_batch_tokens",
}


def of_a_run(each: Recommendation) -> Recommendation:
    """Return a recommendation with the keys of a federation's run, which the hub's operator sets."""
    advice = each.advice
    for option, key in _KEYS_OF_A_RUN.items():
        advice = advice.replace(option, key)
    return replace(each, advice=advice)
