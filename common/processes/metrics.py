"""Figures for Prometheus on a port of loopback, and those of them that hub and institution share.

Every user of the machine can read them. Requests are answered one after another in one thread, and each has a deadline.
So no user of the machine can fill the process with connections or threads.
"""

import contextlib
import shutil
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from socketserver import BaseServer
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from common.errors import ServiceError

__all__ = ["machine_figures", "serve_metrics"]

_REQUEST_WITHIN_S = 2.0
"""Seconds from the beginning of a connection to the end of its answer."""


def machine_figures(
    directory: Path, services: list[dict[str, Any]], certificate_days: Mapping[str, float]
) -> Iterator[Metric]:
    """Return the figures of disk, processes and certificates.

    Args:
        directory: A directory on the disk.
        services: See `running_services`.
        certificate_days: Days until a certificate expires, by its name.

    Raises:
        OSError: The disk cannot be read.
    """
    free = shutil.disk_usage(directory).free
    yield GaugeMetricFamily("fedfin_disk_free_bytes", "Free bytes on the disk of the directory.", value=free)
    up = GaugeMetricFamily("fedfin_service_up", "1 if the process runs.", labels=["service"])
    restarts = CounterMetricFamily("fedfin_service_restarts", "Restarts of the process.", labels=["service"])
    for service in services:
        up.add_metric([service["name"]], float(service["up"]))
        restarts.add_metric([service["name"]], service["restarts"])
    yield from (up, restarts)
    days = GaugeMetricFamily("fedfin_certificate_days", "Days until the certificate expires.", labels=["name"])
    for name, left in certificate_days.items():
        days.add_metric([name], left)
    yield days


class _Handler(WSGIRequestHandler):
    def handle(self) -> None:
        """Answer a request, or close its connection at the deadline, however slowly its bytes come."""
        deadline = threading.Timer(_REQUEST_WITHIN_S, self._close)
        deadline.daemon = True
        deadline.start()
        try:
            super().handle()
        finally:
            deadline.cancel()

    def _close(self) -> None:
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: object) -> None:
        """Say nothing: every user of the machine can make requests."""


class _Server(WSGIServer):
    def handle_error(self, *_: object) -> None:
        """Say nothing, as above."""


def serve_metrics(collector: Collector, port: int, settings: Path) -> tuple[BaseServer, threading.Thread]:
    """Serve the figures at http://127.0.0.1:`port`/metrics in a thread. Return the server and the thread.

    Args:
        settings: The file that names the port, for the message.

    Raises:
        ServiceError: The port is taken.
    """
    registry = CollectorRegistry()
    registry.register(collector)
    try:
        server = make_server("127.0.0.1", port, make_wsgi_app(registry), _Server, _Handler)
    except OSError as error:
        raise ServiceError(
            f"{settings}: metrics.port: 127.0.0.1:{port} cannot be used ({error.strerror}): choose another"
        ) from None
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    return server, thread
