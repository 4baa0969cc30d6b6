"""A receiver of traces, as small as it can be: OTLP over HTTP, kept in memory."""

import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from google.protobuf.json_format import Parse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Span:
    """A span that has ended."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    service: str
    attributes: dict[str, Any]
    is_error: bool


class TraceCollector:
    """A context manager that keeps all spans that are sent to `url`."""

    def __init__(self) -> None:
        collector = self
        self._lock = threading.Lock()
        self._spans: list[Span] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                request = ExportTraceServiceRequest()
                if "json" in self.headers["Content-Type"]:
                    Parse(body, request)
                else:
                    request.ParseFromString(body)
                collector.take(request)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Keep quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True
        )

    @property
    def url(self) -> str:
        """Where to send traces."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1/traces"

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs in its environment to send its traces here."""
        return {
            "TANGO_TELEMETRY_ENABLE": "on",
            "TANGO_TELEMETRY_TYPES": "tracing",
            "TANGO_TELEMETRY_TRACING_EXPORTERS": "http",
            "TANGO_TELEMETRY_TRACING_ENDPOINTS": self.url,
            "PYTANGO_TELEMETRY_SPAN_PROCESSOR_TYPE": "batch",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }

    def take(self, request: ExportTraceServiceRequest) -> None:
        """Keep the spans of a request."""
        found = []
        for of_resource in request.resource_spans:
            resource = {a.key: a.value.string_value for a in of_resource.resource.attributes}
            for of_scope in of_resource.scope_spans:
                found += [
                    Span(
                        span.trace_id.hex(),
                        span.span_id.hex(),
                        span.parent_span_id.hex(),
                        span.name,
                        resource.get("service.name", ""),
                        {a.key: a.value.string_value for a in span.attributes},
                        span.status.code == span.status.STATUS_CODE_ERROR,
                    )
                    for span in of_scope.spans
                ]
        with self._lock:
            self._spans += found

    def spans(self) -> list[Span]:
        """Return all spans so far."""
        with self._lock:
            return list(self._spans)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5.0)
