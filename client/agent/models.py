"""Find and load the model and rows that a run asks for: the base model once, the rows once for each run."""

import logging
from dataclasses import dataclass, replace

from client.agent.agent import LocalModel
from client.federation.local_round import PreparedData
from client.federation.planning import own_labels, read_for_run, select_rows
from client.institution.config import InstitutionConfig
from common.adapters.adapted_model import AdaptedModel
from common.adapters.attach import attach_for_run, load_for_run
from common.adapters.feature_cache import FeatureCache
from common.base_models.device import select_device
from common.base_models.load import LoadedBase
from common.base_models.provenance import refuse_private_base
from common.config.run import RunConfig
from common.config.training import ModelConfig
from common.data.datasets import Dataset
from common.errors import AssignmentRefused, ConfigurationError, ModelError
from common.protocol.messages import RefusalCode
from common.tasks import task
from common.tokenization.batches import TokenizedSet
from common.tokenization.windows import in_windows

__all__ = ["LocalModels", "readable_rows", "reads_in_pieces"]

log = logging.getLogger("fedfin.institution")

_NOTABLE = 0.01
"""Share of cut rows above which the log has a warning."""


@dataclass(frozen=True)
class _Kept:
    """A loaded base model, and the facts that decide whether another run may use it."""

    base: LoadedBase
    model: ModelConfig
    task: str
    labels: tuple[str, ...]
    quantized: bool

    def serves(self, config: RunConfig, labels: tuple[str, ...]) -> bool:
        quantized = config.adapter.method == "qlora"
        mine = (self.model, self.task, self.labels, self.quantized)
        return mine == (config.model, config.task, labels, quantized)


class LocalModels:
    """Loader of model and rows for a run. An `Agent` calls it as `prepare`.

    The base model stays on its device across rounds and runs, as long as they ask for the same one, task and labels.
    The rows are read anew for each run and stay the same throughout it.
    """

    def __init__(self, settings: InstitutionConfig, fingerprint_key: bytes) -> None:
        self._settings, self._fingerprint_key = settings, fingerprint_key
        self._kept: _Kept | None = None
        self._adapted: AdaptedModel | None = None
        self._local: tuple[str, LocalModel] | None = None

    def __call__(self, config: RunConfig) -> LocalModel:
        """The model and the rows for one run.

        Raises:
            Refused: the institution does not train this base model or task, or has nothing to train it on.
            DataError: the rows cannot be used for this run.
        """
        if self._local is not None and self._local[0] == config.digest():
            return self._local[1]
        rows = select_rows(self._settings, config)
        labels = own_labels(rows, config)
        dataset = read_for_run(rows, config, labels)
        try:
            refuse_private_base(config.model.base)
            adapted = self._load(config, labels)
        except (ModelError, ConfigurationError) as error:
            raise AssignmentRefused(RefusalCode.BASE_MODEL, str(error)) from error
        tokens = adapted.encode_dataset(readable_rows(dataset, adapted, config))
        _log_cut(tokens, adapted, config)
        data = PreparedData(tokens, dataset.fingerprint(self._fingerprint_key), FeatureCache())
        test = None if rows.test is None else read_for_run(replace(rows, train=rows.test), config, labels)
        local = LocalModel(adapted, data, adapted.base.digest, labels, test)
        self._local = (config.digest(), local)
        return local

    def _load(self, config: RunConfig, labels: tuple[str, ...]) -> AdaptedModel:
        self._local = None
        if self._adapted is not None:
            self._adapted.release()
            self._adapted = None
        if self._kept is None or not self._kept.serves(config, labels):
            self._kept = None  # the memory of one before the other is loaded
            device = select_device(self._settings.model.device, "model.device")
            log.info("loading base model %s on %s", config.model.base, device)
            base = load_for_run(config, labels, device)
            if config.model.base_digest not in (None, base.digest):
                raise AssignmentRefused(
                    RefusalCode.BASE_MODEL, f"{config.model.base} here is not the run's base model of that name"
                )
            self._kept = _Kept(base, config.model, config.task, labels, config.adapter.method == "qlora")
        self._adapted = attach_for_run(self._kept.base, config)
        return self._adapted


def readable_rows(dataset: Dataset, adapted: AdaptedModel, config: RunConfig) -> Dataset:
    """Return the rows as the model reads them: text without labels in pieces, unless a text is the protected record."""
    if not reads_in_pieces(config):
        return dataset
    return in_windows(dataset, adapted.base.tokenizer, adapted.base.max_tokens)


def reads_in_pieces(config: RunConfig) -> bool:
    """Return whether a run cuts long texts into pieces, so that they are read whole."""
    return task(config.task).head.is_language_modelling and config.privacy.mode == "none"


def _log_cut(tokens: TokenizedSet, adapted: AdaptedModel, config: RunConfig) -> None:
    """Tell the institution's log how many rows fill the model's limit, beyond which nothing is read."""
    most = adapted.base.max_tokens
    if len(tokens) and not reads_in_pieces(config) and (share := float((tokens.lengths >= most).mean())) >= _NOTABLE:
        log.warning("%.1f %% of the rows have %d tokens or more, and the rest of them is not read", 100 * share, most)
