"""The task that an adapter serves, from its description alone: no model is loaded, and torch is not imported."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from common.adapters.manifest import Manifest, base_place, read_manifest
from common.errors import ConfigurationError
from common.tasks import MULTI_TASK, Task, task

__all__ = ["Served", "chosen_task", "read_served", "served"]


@dataclass(frozen=True)
class Served:
    """One task of an adapter.

    Attributes:
        task: The task.
        labels: Its labels, in the order of the model's outputs.
        answers: By kind of instruction, the answers that were declared.
        places: The outputs of the task, if one head has those of several tasks.
    """

    task: Task
    labels: tuple[str, ...]
    answers: Mapping[str, tuple[str, ...]]
    places: tuple[int, ...] | None = None


def served(directory: Path, recipe: Manifest, name: str | None) -> Served:
    """Return the task of that name.

    Args:
        directory: The adapter, for the message of a refusal.
        recipe: Its description.
        name: The task, if the adapter serves several.

    Raises:
        ConfigurationError: None is named although there are several, the adapter does not serve it, or it labels
            nothing.
    """
    if MULTI_TASK in recipe.tasks:
        # A federation of several tasks: one head, whose labels say which task they are of.
        pairs = [label.partition("/")[::2] for label in recipe.tasks[MULTI_TASK]]
        several = list(dict.fromkeys(of for of, _ in pairs))
        if name not in several:
            raise ConfigurationError(f"task: name one that it serves: {', '.join(several)}")
        places = tuple(place for place, (of, _) in enumerate(pairs) if of == name)
        return Served(task(name), tuple(pairs[place][1] for place in places), recipe.answers, places)
    chosen = task(chosen_task(recipe, name))
    if chosen.head.is_language_modelling:
        raise ConfigurationError(
            f"{directory}: it was taught to read and labels nothing: fine-tune the base model beside it on a task"
        )
    return Served(chosen, recipe.tasks[chosen.name], recipe.answers)


def read_served(directory: Path, name: str | None = None, base_model: str | None = None) -> Served:
    """Return the task of the adapter in `directory`, after a look at the place of its base model.

    Args:
        directory: The adapter, or the output directory that it lies in.
        name: The task, if the adapter serves several.
        base_model: The place of the base model, if it was moved.

    Raises:
        ModelError: There is no adapter, or no base model.
        ConfigurationError: See `served`.
    """
    recipe = read_manifest(directory)[0]
    base_place(recipe, base_model)
    return served(directory, recipe, name)


def chosen_task(recipe: Manifest, task: str | None) -> str:
    """The task asked for, or the only one.

    Raises:
        ConfigurationError: none is named although there are several, or the adapter does not serve it.
    """
    if task is None and len(recipe.tasks) == 1:
        return next(iter(recipe.tasks))
    if task is None or task not in recipe.tasks:
        raise ConfigurationError(f"task: name one that this adapter serves: {', '.join(recipe.tasks)}")
    return task
