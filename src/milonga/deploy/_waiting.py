"""Answers to a cluster's probes while a process waits for others to come up.

A process that waits is alive but not ready. Without an answer the cluster would take it for dead,
kill it, and call that a crash loop.
"""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import TracebackType
from typing import Self

from milonga.errors import DeploymentError

__all__ = ["WaitingRoom"]


class WaitingRoom:
    """A context manager within which ``/livez`` is good and ``/readyz`` is not.

    Parameters
    ----------
    host : str
        Address to listen at.
    port : int, optional
        TCP port; without one nothing is answered.
    """

    def __init__(self, host: str, port: int | None) -> None:
        self.reason = "starting"
        self._host = host
        self._wanted = port
        self._server: ThreadingHTTPServer | None = None

    @property
    def port(self) -> int | None:
        """The port that is listened at."""
        return None if self._server is None else int(self._server.server_address[1])

    def __enter__(self) -> Self:
        if self._wanted is None:
            return self
        room = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                alive = self.path == "/livez"
                known = alive or self.path == "/readyz"
                body = json.dumps({"ok": alive, "waiting": room.reason}).encode()
                self.send_response((200 if alive else 503) if known else 404)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments: object) -> None:
                """Keep probes out of the log: they come every few seconds."""

        try:
            self._server = ThreadingHTTPServer((self._host, self._wanted), Answer)
        except OSError as error:
            raise DeploymentError(
                f"the probes cannot be answered at {self._host}:{self._wanted}: {error.strerror}"
            ) from error
        self._server.daemon_threads = True
        self._thread = Thread(
            target=self._server.serve_forever, args=(0.05,), name="milonga-waiting", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = None
