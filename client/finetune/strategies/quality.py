"""The quality of an adaptation: one figure, and the parts that it is made of."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["AdaptationQuality", "forgotten", "lost_probes", "quality_of"]

# Limits of a warning about forgetting: rise of the loss on general text, fall of the accuracy of a linear head, and
# fall of the similarity of sentence vectors from 1.
_FORGOTTEN, _FORGOTTEN_POINTS, _MOVED = 0.1, 0.02, 0.2


@dataclass(frozen=True, kw_only=True)
class AdaptationQuality:
    """The gain of an adaptation on its domain, minus its losses elsewhere.

    `quality` is `domain_gain` + `probe_change` - `general_rise`. A part that was not measured counts as 0, and so does
    a general loss that fell. 0 means that nothing was won, and below 0 more was lost than won. The tokens are no part
    of the sum, because the loss a word counts all tokens of a word.

    Attributes:
        quality: The one figure.
        domain_gain: Share by which the loss a word fell on held-out text of the domain.
        tokens_saved: Share by which the number of tokens a word fell on that text.
        probe_change: Mean change of the accuracy of a linear head, over the probes. None without probes.
        general_rise: Share by which the loss a word rose on general text. Negative if it fell.
        similarity: Mean cosine of the vectors of general sentences before and after. 1 if nothing moved. None if the
            base model gives no vectors.
    """

    quality: float
    domain_gain: float
    tokens_saved: float
    probe_change: float | None
    general_rise: float
    similarity: float | None

    def to_json(self) -> dict[str, Any]:
        """Return the figures as one JSON object."""
        return asdict(self)


def quality_of(measured: Mapping[str, Any]) -> AdaptationQuality:
    """Return the quality from the measurements of continual pretraining, before and after."""
    before, after = measured["before"], measured["after"]

    def fall(text: str, figure: str) -> float:
        return 1 - float(after[text][figure]) / float(before[text][figure])

    probes, earlier = measured.get("probes", {}), before.get("probes", {})
    changes = [probes[name]["accuracy"] - figures["accuracy"] for name, figures in earlier.items() if name in probes]
    probe = sum(changes) / len(changes) if changes else None
    gain, rise = fall("domain", "loss_per_word"), -fall("general", "loss_per_word")
    return AdaptationQuality(
        quality=gain + (probe or 0.0) - max(0.0, rise),
        domain_gain=gain,
        tokens_saved=fall("domain", "tokens_per_word"),
        probe_change=probe,
        general_rise=rise,
        similarity=measured.get("general_similarity"),
    )


def forgotten(measured: Mapping[str, Any]) -> tuple[str, ...]:
    """Return one sentence for each task or text that the new base model has forgotten, with the amount."""
    quality, found = quality_of(measured), []
    if quality.general_rise > _FORGOTTEN:
        found.append(f"general text: the loss a word rose by {quality.general_rise:.0%}: train less, or mix some in")
    if quality.similarity is not None and 1 - quality.similarity > _MOVED:
        found.append(
            f"general text: the vectors of its sentences moved (similarity {quality.similarity:.2f}): a head that was "
            "trained on the old base model must be trained again"
        )
    earlier, later = measured["before"].get("probes", {}), measured.get("probes", {})
    found += lost_probes({"probes": {name: {"before": earlier[name], "after": later[name]} for name in earlier}})
    return tuple(found)


def lost_probes(watched: Mapping[str, Any]) -> list[str]:
    """Return one sentence for each task on which a linear head became worse by more than two points.

    Args:
        watched: `probes`, with the metrics `before` and `after` of each task.
    """
    found = []
    for name, figures in watched.get("probes", {}).items():
        lost = figures["before"]["accuracy"] - figures["after"]["accuracy"]
        if lost > _FORGOTTEN_POINTS:
            found.append(f"{name}: a linear head on the trained encoder is {100 * lost:.1f} points worse than before")
    return found
