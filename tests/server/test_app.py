"""Flower's entry point at the hub executes the run that the configuration names, under Flower's id of it."""

from typing import Any

import pytest
from flwr.app import Context, RecordDict

import server.app


def test_the_named_run_is_executed_with_the_grid_and_the_id_that_flower_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, dict[str, Any]]] = []
    monkeypatch.setattr(server.app, "execute_run", lambda grid, **names: calls.append((grid, names)))
    context = Context(run_id=17, node_id=0, node_config={}, state=RecordDict(), run_config={"run": "spring"})
    grid: Any = object.__new__(type("NoGrid", (), {}))
    server.app.app(grid, context)
    assert calls == [(grid, {"run": "spring", "flower_run": "17"})]


def test_a_configuration_without_a_run_is_not_executed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.app, "execute_run", lambda grid, **names: pytest.fail("nothing was named"))
    context = Context(run_id=17, node_id=0, node_config={}, state=RecordDict(), run_config={})
    grid: Any = object.__new__(type("NoGrid", (), {}))
    with pytest.raises(KeyError, match="run"):
        server.app.app(grid, context)
