"""Attach the adapter of a run or of a training, whatever its method, to the base model that the method needs."""

from common.adapters.adapted_model import AdaptedModel, adapt
from common.adapters.soft_prompts import adapt_prompt
from common.base_models.check import check_base_model
from common.base_models.load import LoadedBase, load_base
from common.config.adapter import AdapterSettings, PromptConfig
from common.config.run import RunConfig
from common.tasks import Task, task

__all__ = ["attach", "attach_for_run", "load_for_run"]


def attach(base: LoadedBase, settings: AdapterSettings, kind: Task, seed: int) -> AdaptedModel:
    """Attach an adapter to `base`, in place, at the starting point of `seed`.

    Raises:
        ModelError: `base` carries an adapter already, or cannot take this one. The message names another.
    """
    if isinstance(settings, PromptConfig):
        return adapt_prompt(base, settings, seed)
    return adapt(base, settings, kind, seed)


def load_for_run(config: RunConfig, labels: int | tuple[str, ...], device: str = "cpu") -> LoadedBase:
    """Load the base model of a run as its adapter needs it: in four bits for qlora, with room for virtual tokens.

    Args:
        config: The run.
        labels: How many labels the head gets, or their names.
        device: "cpu", "cuda", "cuda:1", ...

    Raises:
        ModelError: The base model is absent, or cannot do this. The message names the remedy.
    """
    kind, virtual_tokens = task(config.task), config.adapter.virtual_tokens
    if virtual_tokens:
        check_base_model(config.model.base, kind.head, config.model.max_tokens + virtual_tokens)
    return load_base(config.model, kind, labels, device, quantize4bit=config.adapter.method == "qlora")


def attach_for_run(base: LoadedBase, config: RunConfig) -> AdaptedModel:
    """Attach the adapter of a run to its loaded base model, at the starting point of the run's seed."""
    return attach(base, config.adapter, task(config.task), config.seed)
