"""The models of a simulated run: the base model once, and one model for all institutions with the same labels."""

import functools
from dataclasses import dataclass

from common.adapters.adapted_model import AdaptedModel
from common.adapters.attach import attach_for_run, load_for_run
from common.base_models.load import LoadedBase
from common.config.run import RunConfig
from common.data.datasets import labels_present
from simulation.partition import Federation

__all__ = ["Models"]


@dataclass(frozen=True)
class Models:
    """The models of one run, loaded at their first use."""

    config: RunConfig
    federation: Federation

    @functools.cached_property
    def base(self) -> LoadedBase:
        """The base model, loaded once and shared by every institution in this process."""
        return load_for_run(self.config, self.federation.test.labels)

    @functools.cached_property
    def adapted(self) -> AdaptedModel:
        """The run's adapter on the base model. Every user loads its own weights into it first."""
        return attach_for_run(self.base, self.config)

    @functools.cached_property
    def _own_models(self) -> dict[tuple[str, ...], AdaptedModel]:
        """The models of institutions with labels of their own, by these."""
        return {self.federation.test.labels: self.adapted}

    def labels(self, name: str) -> tuple[str, ...]:
        """Return the labels of one institution: those of the run, or with own heads those that its rows have.

        A deployed institution declares its labels. A simulation reads them off its training and test rows.
        """
        known = self.federation.test.labels
        if self.config.personalisation.method != "head":
            return known
        parts = (self.federation.train[name], self.federation.test_by_institution.get(name))
        return labels_present([part for part in parts if part is not None], known)

    def of(self, name: str) -> AdaptedModel:
        """Return the model of one institution. Institutions with the same labels share it."""
        labels = self.labels(name)
        if labels not in self._own_models:
            base = load_for_run(self.config, labels)
            self._own_models[labels] = attach_for_run(base, self.config)
        return self._own_models[labels]
