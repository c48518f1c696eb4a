"""The hub's Flower app: no logic, only where Flower finds it."""

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from server.flower.server_app import execute_run

__all__ = ["app"]

app = ServerApp()


@app.main()  # type: ignore[untyped-decorator]
def main(grid: Grid, context: Context) -> None:
    """Play the run that the configuration names, from wherever its directory says it is."""
    execute_run(grid, run=str(context.run_config["run"]), flower_run=str(context.run_id))
