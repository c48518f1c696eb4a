"""What the federation is compared with: the same data and test set, without the others or without a model.

These trainings belong to the simulation, which sees all data anyway. A bank would pay for its own from its own
budget; so each bank alone is trained with exactly the privacy of the federated run.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from client.dp.noise import FixedNoise, SystemNoise
from client.dp.training import train
from client.federation.local_round import plan_training
from common.adapters.feature_cache import FeatureCache
from common.data.datasets import Dataset, Example
from common.evaluation.metrics import ConfusionMatrix
from common.protocol.adapter_codec import Tensors
from common.tasks import task
from server.results.evaluation import HubEvaluator
from server.rounds.aggregation import OptimizerState, optimizer_of_round
from server.rounds.coordinator import Evaluation
from simulation.partition import Federation
from simulation.result import Baseline
from simulation.workspace import Workspace

__all__ = ["alone", "bag_of_words", "compute_baselines", "majority"]


def _row(name: str, predicted: list[int], test: Dataset, note: str) -> Baseline:
    counts = ConfusionMatrix.of([e.label for e in test.examples if isinstance(e, Example)], predicted, len(test.labels))
    return Baseline(name, counts.accuracy, counts.weighted_f1, None, note)


def majority(federation: Federation) -> Baseline:
    """Always answer the training rows' commonest label."""
    test = federation.test
    labels = Counter(e.label for d in federation.train.values() for e in d.examples if isinstance(e, Example))
    return _row(
        "majority guess", [labels.most_common(1)[0][0]] * len(test), test, "knows only which label is commonest"
    )


def bag_of_words(federation: Federation) -> Baseline:
    """TF-IDF (words and pairs) + logistic regression on all banks' rows pooled, without privacy.

    Its strength of regularisation is chosen by cross-validation, so that it is not beaten for want of care.
    """
    rows = [e for _, d in sorted(federation.train.items()) for e in d.examples if isinstance(e, Example)]
    model = GridSearchCV(
        make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(max_iter=2000)),
        {"logisticregression__C": [0.1, 0.3, 1.0, 3.0, 10.0]},
        cv=3,
    )
    model.fit([e.text for e in rows], [e.label for e in rows])
    test = federation.test
    predicted = [int(label) for label in model.predict([e.text for e in test.examples if isinstance(e, Example)])]
    return _row("bag of words", predicted, test, "all rows pooled in one place, no privacy")


def alone(workspace: Workspace, evaluator: Callable[[Tensors], Evaluation], name: str) -> Baseline:
    """One bank as a federation of its own: its rows, with the rounds, noise, clip and hub optimiser of the run."""
    agent, config = workspace.institution(name), workspace.config
    local = agent.prepare(config)
    num_units = local.data.units(config.privacy.unit)
    noise = (
        FixedNoise(f"alone|{name}|{config.seed}".encode().ljust(32)[:32])
        if agent.institution.noise == "fixed"
        else SystemNoise()
    )
    adapter, memory, cache = local.adapted.initial(), OptimizerState(), FeatureCache()
    for number in range(1, config.rounds + 1):
        local.adapted.load(adapter)
        plan = plan_training(config, agent.institution, num_units, number)
        train(local.adapted, local.data.tokens, plan, noise if plan.dp else None, cache=cache)
        optimizer = optimizer_of_round(config.aggregation, number, config.rounds)
        adapter, memory = optimizer.step(adapter, local.adapted.export(), memory)
    metrics = evaluator(adapter).metrics
    note = f"{len(local.data.tokens)} rows, same rounds and noise"
    return Baseline(f"{name} alone", metrics["accuracy"], metrics["weighted_f1"], None, note)


def compute_baselines(
    workspace: Workspace,
    evaluator: HubEvaluator,
    epsilon: dict[str, float],
    on_done: Callable[[str], None] | None = None,
) -> list[Baseline]:
    """Majority, bag of words, the base model as it came, and each bank alone at the federation's epsilon.

    Only for classification; a token task is compared with its base model and the banks alone.
    """
    rows: list[Baseline] = []
    if task(workspace.config.task).head.labels_texts:
        rows += [majority(workspace.federation), bag_of_words(workspace.federation)]
    untrained = evaluator(workspace.adapted.initial()).metrics
    rows.append(
        Baseline("base model, head untrained", untrained["accuracy"], untrained["weighted_f1"], None, "before round 1")
    )
    for name in sorted(workspace.federation.train):
        row = alone(workspace, evaluator, name)
        rows.append(replace(row, epsilon=epsilon.get(name)))
        if on_done is not None:
            on_done(name)
    return rows
