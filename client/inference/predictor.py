"""What a trained adapter says about texts, in labels and probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from client.inference.merge import chosen_task
from common.adapters.adapted_model import AdaptedModel
from common.adapters.manifest import Manifest, load_adapter
from common.base_models.heads import SharedEncoder
from common.errors import ConfigurationError
from common.evaluation.evaluate import predict_words, probabilities
from common.evaluation.summaries import summarise
from common.tasks import MULTI_TASK, Task, task

__all__ = ["Label", "Predictor"]


@dataclass(frozen=True)
class Label:
    """The likeliest label of a text, and the probability of each."""

    label: str
    probabilities: dict[str, float]


class Predictor:
    """An adapter loaded once, for as many texts as come.

    Args:
        adapter: what `finetune`, or a federation, left.
        name: which task, where the adapter serves several.

    Raises:
        ModelError, ConfigurationError: see `load_adapter` and `chosen_task`.
    """

    def __init__(self, adapter: Path, name: str | None = None, device: str = "cpu") -> None:
        loaded: tuple[AdaptedModel, Manifest, object] = load_adapter(adapter, device)
        self.model, recipe, _ = loaded
        own: Sequence[int] | None = None
        if several := self.model.base.tasks:
            # A federation of several tasks: one head, whose labels say which task they are of.
            if name not in several:
                raise ConfigurationError(f"task: name one that it serves: {', '.join(dict.fromkeys(several))}")
            own = [place for place, of in enumerate(several) if of == name]
            self.task: Task = task(name)
            self.labels = tuple(recipe.tasks[MULTI_TASK][place].partition("/")[2] for place in own)
        else:
            self.task = task(chosen_task(recipe, name))
            self.labels = recipe.tasks[self.task.name]
        self._own = own
        if self.task.head.is_language_modelling:
            raise ConfigurationError(
                f"{adapter}: it was taught to read and labels nothing: fine-tune the base model beside it on a task"
            )
        if isinstance(self.model.base.model, SharedEncoder):
            self.model.base.model.select(self.task.name)

    def classify(self, texts: Sequence[str]) -> list[Label]:
        """A label for each text."""
        rows = probabilities(self.model, texts, self._own)
        return [
            Label(self.labels[int(row.argmax())], dict(zip(self.labels, map(float, row), strict=True))) for row in rows
        ]

    def tag(self, sentences: Sequence[Sequence[str]]) -> list[list[str]]:
        """A label for each word of each sentence."""
        outside = self.labels.index("O") if "O" in self.labels else 0
        return [[self.labels[tag] for tag in row] for row in predict_words(self.model, sentences, outside)]

    def summarise(self, texts: Sequence[str]) -> list[str]:
        """A summary of each text."""
        return summarise(self.model, texts)

    def answer(self, texts: Sequence[str]) -> list[str]:
        """One string for each text: its label, its words' labels with spaces between them, or its summary."""
        if self.task.head.writes_text:
            return self.summarise(texts)
        if self.task.head.labels_words:
            return [" ".join(tags) for tags in self.tag([text.split() for text in texts])]
        return [each.label for each in self.classify(texts)]
