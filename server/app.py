"""The hub's Flower app. Flower loads it from here. It has no logic of its own."""

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from server.flower.server_app import execute_run

__all__ = ["app"]

app = ServerApp()


@app.main()  # type: ignore[untyped-decorator]
def main(grid: Grid, context: Context) -> None:
    """Execute the run named in the configuration, resuming from the state in its directory."""
    execute_run(grid, run=str(context.run_config["run"]), flower_run=str(context.run_id))
