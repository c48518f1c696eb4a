"""Fine-tune financial language models alone or in a federation, under differential privacy, from Python.

These 16 names are the public face: functions, and the values that are passed to them. Results are typed values.
`fedfin.types` has their classes for annotations. Nothing heavy is imported before a name is used.

>>> import fedfin
>>> fedfin.accounting.calibrate(3.0, delta=1e-5, sampling_probability=0.02, steps=2000)
1.452

| to | use |
|---|---|
| read rows | `read_labelled`, `Dataset.of` |
| fine-tune alone | `finetune(FineTuningJob(...))` with `TaskData`, `AdapterOptions`, `PrivacyOptions` ... |
| adapt a base model to a domain's text | `adapt_to_domain` |
| load a saved adapter, and predict | `load_adapter` |
| train in a federation, on one machine | `simulate(RunConfig..., {name: rows})` |
| compute epsilon, calibrate noise | `accounting` |
| read the spent privacy budget | `read_ledger` |
| attack the privacy claim of a run | `audit` |
| catch bad input | `errors.FedfinError` |
"""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from client.audit.findings import audit
    from client.budget.verified_ledger import read_ledger
    from client.finetune import finetune
    from client.finetune.domain import adapt_to_domain
    from client.finetune.job import AdapterOptions, FineTuningJob, PrivacyOptions, TaskData, TrainingOptions
    from client.inference.predictor import load_adapter
    from common import errors
    from common.config.run import RunConfig
    from common.data.datasets import Dataset
    from common.data.reading import read_labelled
    from common.privacy import accounting
    from simulation.in_memory import simulate

__all__ = [
    "AdapterOptions",
    "Dataset",
    "FineTuningJob",
    "PrivacyOptions",
    "RunConfig",
    "TaskData",
    "TrainingOptions",
    "accounting",
    "adapt_to_domain",
    "audit",
    "errors",
    "finetune",
    "load_adapter",
    "read_labelled",
    "read_ledger",
    "simulate",
]

_PLACES = {
    "AdapterOptions": "client.finetune.job:AdapterOptions",
    "Dataset": "common.data.datasets:Dataset",
    "FineTuningJob": "client.finetune.job:FineTuningJob",
    "PrivacyOptions": "client.finetune.job:PrivacyOptions",
    "RunConfig": "common.config.run:RunConfig",
    "TaskData": "client.finetune.job:TaskData",
    "TrainingOptions": "client.finetune.job:TrainingOptions",
    "accounting": "common.privacy.accounting",
    "adapt_to_domain": "client.finetune.domain:adapt_to_domain",
    "audit": "client.audit.findings:audit",
    "errors": "common.errors",
    "finetune": "client.finetune:finetune",
    "load_adapter": "client.inference.predictor:load_adapter",
    "read_labelled": "common.data.reading:read_labelled",
    "read_ledger": "client.budget.verified_ledger:read_ledger",
    "simulate": "simulation.in_memory:simulate",
}


def _refuse_other_packages() -> None:
    """Refuse to run beside other packages called `common`, `client`, `server` or `simulation`.

    Raises:
        ImportError: One line that says whose they are.
    """
    beside = Path(__file__).parent.parent
    for package in ("common", "client", "server", "simulation"):
        spec = find_spec(package)
        places = [] if spec is None else list(spec.submodule_search_locations or [])
        if beside / package not in map(Path, places):
            found = "absent" if not places else f"imported from {places[0]}"
            raise ImportError(
                f'fedfin: package "{package}" is {found}, not from {beside}: install fedfin in an environment of its '
                "own, and start Python in another directory"
            )
    from common.installation import foreign_package

    if (foreign := foreign_package()) is not None:
        raise ImportError(f"fedfin: {foreign}")


def _names() -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__`, once it is sure whose package `common` is."""
    _refuse_other_packages()
    from common.lazy import lazy_names

    return lazy_names(__name__, _PLACES)


__getattr__, __dir__ = _names()
