"""Load a trained adapter, and predict labels, tags or summaries of texts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from client.inference.served import served
from common.adapters import restore
from common.adapters.adapted_model import AdaptedModel
from common.adapters.manifest import Manifest
from common.base_models.architecture import max_positions
from common.base_models.device import select_device
from common.base_models.heads import SharedEncoder
from common.data.cells import is_utf8
from common.data.conll import split_words
from common.data.conversations import check_prompt
from common.data.datasets import Dataset, Example, Turn
from common.errors import ConfigurationError, DataError
from common.evaluation.choosing import choose
from common.evaluation.evaluate import predict_words, probabilities
from common.evaluation.evaluator import make_evaluator
from common.evaluation.metrics import ConfusionMatrix
from common.evaluation.task_metrics import Metrics, task_metrics
from common.evaluation.writing import summarise, write
from common.tasks import Head

__all__ = ["RESPONSE_TOKENS", "Label", "Predictor", "load_adapter"]

RESPONSE_TOKENS = 256
"""The longest response that is written unless another length is asked for."""


@dataclass(frozen=True)
class Label:
    """The likeliest label of a text, and the probability of each."""

    label: str
    probabilities: dict[str, float]


class Predictor:
    """An adapter loaded once, for as many texts as come.

    Args:
        adapter: directory that a fine-tuning or a federation wrote.
        name: the task, if the adapter serves several.
        device: "cpu", "cuda", "cuda:1".
        base_model: the place of the base model, if it was moved.

    Raises:
        ModelError, ConfigurationError: see `load_adapter`.
    """

    def __init__(
        self, adapter: Path, name: str | None = None, device: str = "cpu", base_model: str | None = None
    ) -> None:
        loaded: tuple[AdaptedModel, Manifest, object] = restore.load_adapter(adapter, device, base_model)
        self.model, recipe, _ = loaded
        chosen = served(adapter, recipe, name)
        self.task, self.labels, self.answers = chosen.task, chosen.labels, chosen.answers
        self._own = chosen.places
        if isinstance(self.model.base.model, SharedEncoder):
            self.model.base.model.select(self.task.name)

    def classify(self, texts: Sequence[str]) -> list[Label]:
        """Return the likeliest label of each text, with the probability of every label.

        Raises:
            ConfigurationError: The task does not put a label on a text. Use `predict`.
            DataError: `texts` is one text, or holds something that is no text. Give a list.
        """
        if not self.task.head.labels_texts:
            raise ConfigurationError(f"classify: {self.task.name} puts no label on a text: use predict")
        _refuse_others(texts)
        rows = probabilities(self.model, texts, self._own)
        return [
            Label(self.labels[int(row.argmax())], dict(zip(self.labels, map(float, row), strict=True))) for row in rows
        ]

    def tag(self, sentences: Sequence[Sequence[str]]) -> list[list[str]]:
        """A label for each word of each sentence."""
        outside = self.labels.index("O") if "O" in self.labels else 0
        return [[self.labels[tag] for tag in row] for row in predict_words(self.model, sentences, outside)]

    def respond(self, prompts: Sequence[Sequence[Turn]], max_new_tokens: int = RESPONSE_TOKENS) -> list[str]:
        """Return the response to each prompt. A prompt that is too long loses its middle, as in training.

        Args:
            prompts: Conversations: turns of (role, content), the last one of the user. The roles are "system", "user"
                and "assistant".
            max_new_tokens: Length of a response at most, in tokens.

        Raises:
            ConfigurationError: The adapter was trained for another task, or `max_new_tokens` leaves no room.
            DataError: The turns of a prompt are in a wrong order, or none.
        """
        if self.task.head is not Head.INSTRUCTION:
            raise ConfigurationError(f"{self.task.name}: it does not respond to prompts: use predict")
        for number, turns in enumerate(prompts, start=1):
            check_prompt(turns, f"prompt {number}")
        most = max_positions(self.model.base.model.config)
        if not 1 <= max_new_tokens < most:
            raise ConfigurationError(
                f"max_new_tokens is {max_new_tokens}: base model {self.model.base.name} reads {most} tokens in all: "
                "use a number from 1 to half of that"
            )
        return write(self.model, self.model.head.encode_prompts(prompts, most - max_new_tokens), max_new_tokens)

    def choose(self, prompts: Sequence[Sequence[Turn]], kind: str) -> list[str]:
        """Return the likeliest of the declared answers of a kind for each prompt, see `common.evaluation.choosing`.

        Every choice is a declared answer. `respond` shows the text that the model writes itself.

        Args:
            prompts: See `respond`.
            kind: A kind of instruction whose answers were declared when the adapter was trained.

        Raises:
            ConfigurationError: No answers of this kind were declared.
            DataError: The turns of a prompt are in a wrong order, or none.
        """
        if kind not in self.answers:
            known = ", ".join(self.answers)
            raise ConfigurationError(
                f"kind {kind[:40]}: this adapter was trained with declared answers of "
                + (f"{known}: name one of them" if known else "no kind: leave it out")
            )
        for number, turns in enumerate(prompts, start=1):
            check_prompt(turns, f"prompt {number}")
        return choose(self.model, prompts, self.answers[kind])

    def predict(self, texts: Sequence[str]) -> list[str]:
        """Return one string for each text: its label, its words' labels, its summary, or the response to it.

        Raises:
            DataError: `texts` is one text, or holds something that is no text. Give a list.
        """
        _refuse_others(texts)
        if self.task.head is Head.INSTRUCTION:
            return self.respond([(("user", text),) for text in texts])
        if self.task.head.writes_text:
            return summarise(self.model, texts)
        if self.task.head.labels_words:
            return [" ".join(tags) for tags in self.tag([split_words(text) for text in texts])]
        return [each.label for each in self.classify(texts)]

    def evaluate(self, rows: Dataset) -> Metrics:
        """Return the adapter's metrics on labelled rows that it was not trained on. See `figures`."""
        return Metrics.from_json(self.figures(rows))

    def figures(self, rows: Dataset) -> dict[str, float]:
        """Return the metrics by name, with those of each kind of instruction whose answers are declared.

        Raises:
            DataError: The rows have other labels than the adapter, or there are none.
        """
        if not len(rows):
            raise DataError(f"{rows.name}: there are no examples")
        if rows.labels != self.labels:
            raise DataError(f"{rows.name}: its labels are not those of the adapter: read it with labels=model.labels")
        if self._own is None:
            return make_evaluator(self.model, self.task, rows)()
        labelled = [example for example in rows.examples if isinstance(example, Example)]
        found = probabilities(self.model, [example.text for example in labelled], self._own)
        predicted = [int(row.argmax()) for row in found]
        counts = ConfusionMatrix.of([example.label for example in labelled], predicted, len(self.labels))
        return task_metrics(self.task, self.labels, counts)


def load_adapter(
    directory: Path | str, task: str | None = None, device: str = "auto", base_model: str | None = None
) -> Predictor:
    """Load the adapter that a fine-tuning or a federation left in `directory`, on its base model, ready to predict.

    Args:
        directory: The adapter, or the output directory that it lies in.
        task: Which task, if the adapter serves several.
        device: "auto", "cpu", "cuda", or "cuda:1".
        base_model: The place of the base model, if it was moved.

    Raises:
        ModelError: There is no adapter, or its base model is absent or another copy.
        ConfigurationError: The task is not named or not the adapter's, or there is no such device.
    """
    return Predictor(Path(directory), task, select_device(device), base_model)


def _refuse_others(texts: Sequence[str]) -> None:
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise DataError("predict: give a list of texts")
    for number, text in enumerate(texts, start=1):
        if not is_utf8(text):
            raise DataError(f"predict: text {number} is not UTF-8: convert it")
