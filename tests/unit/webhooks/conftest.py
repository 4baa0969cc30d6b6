"""A receiver of webhooks, and a store whose outbox is delivered."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from milonga.records import RecordCommands, RecordStore, StoreSettings, WebhookOutbox, start_task
from milonga.webhooks import DeliverySettings, WebhookDeliverer

SOON = 20.0


@dataclass
class Call:
    """One request."""

    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        """The body, parsed."""
        seen: dict[str, Any] = json.loads(self.body)
        return seen


class Receiver:
    """An HTTP server on a port of its own that does as the test says."""

    def __init__(self, port: int = 0) -> None:
        self.calls: list[Call] = []
        self.answers: list[int] = []
        self.location = ""
        self.refuses = ""
        self._news = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            """Notes requests."""

            def do_POST(self) -> None:
                """Note a request, and answer."""
                receiver._take(self)

            def log_message(self, *arguments: Any) -> None:
                """Be quiet."""

        class Server(ThreadingHTTPServer):
            """A server that can have the port of one that has just ended."""

            allow_reuse_address = True
            daemon_threads = True

        self._server = Server(("127.0.0.1", port), Handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}/hook?key=a%20b"

    def _take(self, request: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(request.path)
        length = int(request.headers.get("Content-Length", 0))
        call = Call(
            parts.path,
            {key: values[0] for key, values in parse_qs(parts.query).items()},
            dict(request.headers.items()),
            request.rfile.read(length),
        )
        with self._news:
            self.calls.append(call)
            answer = self.answers.pop(0) if self.answers else 204
            self._news.notify_all()
        if call.query["source"] == self.refuses:
            answer = 500
        request.send_response(answer)
        if self.location:
            request.send_header("Location", self.location)
        request.send_header("Content-Length", "0")
        request.end_headers()

    def wait_for(self, count: int) -> list[Call]:
        """Wait for so many calls."""
        with self._news:
            assert self._news.wait_for(lambda: len(self.calls) >= count, SOON), self.calls
            return list(self.calls)

    def close(self) -> None:
        """End the server."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Dripper:
    """A server whose answers never end: each of their bytes is there in time."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}/"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def answering(self) -> bool:
        """Whether somebody has called."""
        return len(self._threads) > 1

    def _accept(self) -> None:
        while not self._ended.is_set():
            with suppress(OSError):
                connection, _ = self._server.accept()
                self._threads.append(threading.Thread(target=self._drip, args=(connection,)))
                self._threads[-1].start()

    def _drip(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
            while not self._ended.wait(0.02):
                connection.sendall(b"a")

    def close(self) -> None:
        """End the server."""
        self._ended.set()
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def dripper() -> Iterator[Dripper]:
    """Give a server that drips."""
    made = Dripper()
    yield made
    made.close()


@pytest.fixture
def new_receiver() -> Iterator[Callable[..., Receiver]]:
    """Make receivers."""
    made: list[Receiver] = []

    def make(port: int = 0) -> Receiver:
        made.append(Receiver(port))
        return made[-1]

    yield make
    for receiver in made:
        receiver.close()


@pytest.fixture
def receiver(new_receiver: Callable[..., Receiver]) -> Receiver:
    """Give a receiver."""
    return new_receiver()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RecordStore]:
    """Give a store that does not gather details for long."""
    settings = StoreSettings(details_interval=0.05)
    with RecordStore(tmp_path / "records.db", settings) as store:
        yield store


@pytest.fixture
def task(store: RecordStore, receiver: Receiver) -> int:
    """Give a task that the receiver has subscribed to."""
    number = start_task(store, "Configure")
    RecordCommands(store).post_task(
        number, json.dumps({"command": "subscribe", "webhookHref": receiver.url})
    )
    return number


@pytest.fixture
def deliver(store: RecordStore) -> Iterator[Callable[..., WebhookDeliverer]]:
    """Start deliverers of the store's outbox, in a hurry."""
    started: list[WebhookDeliverer] = []
    quick = {"timeout": 2.0, "tries": 2, "retry_first": 0.05, "retry_longest": 0.1}

    def start(settings: dict[str, Any] | None = None, **options: Any) -> WebhookDeliverer:
        deliverer = WebhookDeliverer(
            WebhookOutbox(store, lease=5.0),
            settings=DeliverySettings(**(quick | (settings or {}))),
            **options,
        )
        store.listen_to_outbox(deliverer.wake)
        started.append(deliverer)
        return deliverer

    yield start
    for deliverer in started:
        assert deliverer.close(SOON)
