"""The monitor over HTTP: /metrics, /livez and /readyz."""

import logging
import os
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from milonga.errors import MonitoringError
from milonga.monitoring._monitor import Check, Monitor, process_monitor

__all__ = ["PORT_VARIABLE", "MonitorServer", "serve_if_wanted"]

_log = logging.getLogger(__name__)

PORT_VARIABLE = "MILONGA_HEALTH_PORT"
"""Environment variable with the port; nothing is served without it."""

HOST_VARIABLE = "MILONGA_LISTEN"
"""Environment variable with the address that servers listen at; loopback without it."""

LOOPBACK = "127.0.0.1"
MAX_PORT = 65535

_CHECKS = {"/livez": Check.LIVE, "/readyz": Check.READY}


class MonitorServer:
    """Shows a monitor over HTTP, in threads of its own, until it is closed.

    ``/livez`` and ``/readyz`` answer 200 and ``ok``, or 503 and what is wrong, a line each;
    ``/metrics`` answers in the text format of Prometheus.

    Parameters
    ----------
    monitor : Monitor
        What is shown.
    host : str, optional
        Address to listen at.
    port : int, optional
        Port to listen at; 0 takes a free one.

    Raises
    ------
    MonitoringError
        If nobody can listen there.
    """

    def __init__(self, monitor: Monitor, host: str = LOOPBACK, port: int = 0) -> None:
        handler = type("Handler", (_Handler,), {"monitor": monitor})
        try:
            self._server = ThreadingHTTPServer((host, port), handler)
        except OSError as error:
            raise MonitoringError(f"cannot serve metrics at {host}:{port}: {error}") from error
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="milonga-monitoring", daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that is listened at."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def serve_if_wanted() -> MonitorServer | None:
    """Show the monitor of this process at the port that the environment names, if it does.

    Raises
    ------
    MonitoringError
        If that is no port, or nobody can listen there.
    """
    text = os.environ.get(PORT_VARIABLE, "")
    if not text:
        return None
    if not (text.isdecimal() and int(text) <= MAX_PORT):
        raise MonitoringError(
            f"{PORT_VARIABLE}: found {text!r}, expected a port from 0 to {MAX_PORT}"
        )
    host = os.environ.get(HOST_VARIABLE) or LOOPBACK
    server = MonitorServer(process_monitor(), host, int(text))
    _log.info("metrics and probes at http://%s:%d", host, server.port)
    return server


class _Handler(BaseHTTPRequestHandler):
    monitor: Monitor
    timeout = 10.0
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer a probe or a scrape."""
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._send(HTTPStatus.OK, generate_latest(self.monitor.registry), CONTENT_TYPE_LATEST)
        elif path in _CHECKS:
            problems = self.monitor.problems(_CHECKS[path])
            status = HTTPStatus.SERVICE_UNAVAILABLE if problems else HTTPStatus.OK
            self._send(status, "".join(f"{line}\n" for line in problems or ["ok"]).encode())
        else:
            known = ", ".join(["/metrics", *_CHECKS])
            self._send(HTTPStatus.NOT_FOUND, f"found {path}, expected one of {known}\n".encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as in the base class
        """Tell of requests only who wants to know: there are several a minute."""
        _log.debug(format, *args)

    def _send(
        self, status: HTTPStatus, body: bytes, kind: str = "text/plain; charset=utf-8"
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
