"""Institutions pretrain together on text without labels, as they are deployed."""

from server.rounds import checkpoint
from tests.e2e.conftest import BANKS
from tests.e2e.deployed import Hub, charges, run_toml


def test_hidden_tokens_are_a_federations_task_from_a_head_that_the_hub_warmed_up(hub: Hub) -> None:
    labelled = run_toml(hub.directory.parent / "base")
    text = labelled.replace("sentiment_analysis", "masked_language_modelling")
    text = text.replace('labels = ["negative", "positive"]\n', "")
    assert text.count("\n") == labelled.count("\n") - 1
    run = hub.run("aggregation.quorum=3", text=text)
    run.in_round(1)
    warm = checkpoint.load(run.directory / "checkpoint").adapter
    assert any(tensor.any() for name, tensor in warm.items() if name.endswith("head.weight"))
    assert run.ended() == "finished"
    assert [set(record["contributed"]) for record in run.history()] == [set(BANKS)] * 2
    assert all(record["metrics"]["perplexity"] > 1 for record in run.history())
    assert [charge.steps_done for name in BANKS for charge in charges(hub, name, run)] == [2] * 6
