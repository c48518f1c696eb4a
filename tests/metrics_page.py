"""The page of figures that Prometheus reads, and the figures that the example alerts use."""

import re
import urllib.request
from pathlib import Path

from prometheus_client.registry import Collector

from common.processes.metrics import serve_metrics
from common.processes.ports import free_port

__all__ = ["figures_of_alerts", "names_on", "scrape"]

_ALERTS = Path(__file__).parents[1] / "deploy" / "prometheus-alerts.yml"


def scrape(collector: Collector) -> str:
    """Return the page on which a collector's figures are served."""
    port = free_port()
    server, thread = serve_metrics(collector, port, Path("settings.toml"))
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
            return str(page.read().decode())
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def names_on(page: str) -> set[str]:
    """Return the names of the figures on a page."""
    return set(re.findall(r"^fedfin_[a-z_]+", page, re.MULTILINE))


def figures_of_alerts(group: str) -> set[str]:
    """Return the names of the figures that a group of the example alerts uses."""
    [own] = [text for text in _ALERTS.read_text().split("- name: ") if text.startswith(group)]
    return set(re.findall(r"fedfin_[a-z_]+", own))
