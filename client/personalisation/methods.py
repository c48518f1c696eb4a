"""The methods of a personal part as one interface: what a round trains from, what travels, and what stays.

A method sees the institution's own tensors and rows. Of its results only `send`'s first value leaves, and that is the
adapter of the round, which the ledger was charged for.
"""

import numpy as np

from client.federation.local_round import FederatedJob
from client.personalisation.after import train_further
from client.personalisation.prior import fit_label_shares
from common.adapters.adapted_model import AdaptedModel
from common.config.personalisation import PersonalisationConfig
from common.errors import ModelError
from common.protocol.adapter_codec import Tensors

__all__ = ["After", "Method", "Prior", "Proximal", "method_of"]


class Method:
    """No personal part, or an own head: what is trained and came from the hub travels, and the rest stays.

    An own head is trained by the same steps as the adapter, under one clip, so the charge of the round covers it.
    """

    def receive(self, shared: Tensors, own: Tensors) -> Tensors:
        """Return the tensors that a round trains from.

        Args:
            shared: The tensors that travelled. For "head" they lack the head.
            own: The tensors that stayed after the last round. Empty before the first.
        """
        return {**own, **shared}

    def send(self, shared: Tensors, started: Tensors, trained: Tensors) -> tuple[Tensors, Tensors]:
        """Return the tensors that travel and those that stay.

        Args:
            shared: The tensors that travelled to the institution.
            started, trained: All tensors before and after the training.
        """
        del started
        stays = {name: value for name, value in trained.items() if name not in shared}
        return {name: trained[name] for name in shared}, stays

    def finish(self, job: FederatedJob) -> None:
        """Make the personal model in `job.model`, which holds what `receive` returns for the final global adapter.

        Raises:
            AssignmentRefused: A further training does not fit in the budget, or is not allowed. Nothing was charged.
        """

    def check(self, model: AdaptedModel) -> None:
        """Refuse a model that cannot have this personal part, before anything is charged.

        Raises:
            ModelError: One line.
        """


class Prior(Method):
    """The global model with a bias for each label, which fits the institution's own label shares."""

    def finish(self, job: FederatedJob) -> None:
        fit_label_shares(job)

    def check(self, model: AdaptedModel) -> None:
        if model.output_bias() is None:
            raise ModelError(
                "personalisation.method prior: the head of this model has no bias to correct: use mean pooling, or "
                "another method"
            )


class After(Method):
    """Further steps from the final global adapter, charged unless the run and the officer leave the noise out."""

    def finish(self, job: FederatedJob) -> None:
        train_further(job)


class Proximal(Method):
    """An own adapter, trained toward the global one (MR-MTL, arXiv 2206.07902).

    Each round trains the own adapter w from w' = (w + lambda g) / (1 + lambda), the proximal step toward the global
    adapter g, to w''. The change w'' - w' travels, as g + (w'' - w'), and w'' stays. With equal weights the mean of
    the travelling adapters moves as the mean of the own adapters does, which is MR-MTL's global model. With updates in
    bfloat16 the change is rounded on its way, and w'' is not.

    Accounting: w'' is a function of the noised sums of the rounds so far and of the global adapters. The same sums are
    all that leaves. So the own adapter is post-processing of charged mechanisms, and costs no further epsilon.

    Args:
        weight: Lambda. 0 never moves toward the global adapter.
    """

    def __init__(self, weight: float) -> None:
        self._part = np.float32(weight / (1.0 + weight))

    def receive(self, shared: Tensors, own: Tensors) -> Tensors:
        return {name: value + self._part * (shared[name] - value) for name, value in (own or shared).items()}

    def send(self, shared: Tensors, started: Tensors, trained: Tensors) -> tuple[Tensors, Tensors]:
        return {name: value + (trained[name] - started[name]) for name, value in shared.items()}, trained


def method_of(config: PersonalisationConfig) -> Method:
    """Return the method that a run asks for."""
    if config.method == "proximal":
        return Proximal(config.proximal_weight or 0.0)
    return {"none": Method, "prior": Prior, "head": Method, "after": After}[config.method]()
