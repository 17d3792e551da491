"""A span per request for OpenTelemetry, where OTEL_EXPORTER_OTLP_ENDPOINT names a collector; else nothing is imported."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from mlops.errors import UserError
from mlops.serving.guard import Call


def tracing(exporter: Any = None) -> tuple[Callable[[Call], None], Callable[[], None]] | None:
    """(what is told of every request, what ends it); none where no collector is named.

    exporter: another one than OTLP over HTTP, whose own environment variables count. Spans are sent by a thread of the
    library's, in batches, and dropped where the collector does not keep up.
    """
    if exporter is None and not os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        return None
    try:
        from opentelemetry.propagate import extract
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace import SpanKind, Status, StatusCode

        if exporter is None:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            exporter = OTLPSpanExporter()
    except ImportError as error:
        told = f"OTEL_EXPORTER_OTLP_ENDPOINT is set, but {error.name} is not installed"
        raise UserError(f"{told}; install opentelemetry-exporter-otlp-proto-http, or unset it") from None
    provider = TracerProvider(resource=Resource.create({"service.name": "evergreen"}))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("evergreen")

    def done(call: Call) -> None:
        end = time.time_ns()
        attributes: dict[str, Any] = {
            "http.request.method": call.method,
            "http.route": call.route or "",
            "http.response.status_code": call.status,
            "evergreen.request_id": call.request_id,
        }
        attributes |= {f"evergreen.{name}": value for name, value in call.facts.items()}
        span = tracer.start_span(
            f"{call.method} {call.route}",
            context=extract({"traceparent": call.traceparent} if call.traceparent else {}),
            kind=SpanKind.SERVER,
            attributes=attributes,
            start_time=end - int(call.seconds * 1e9),
        )
        if call.status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        span.end(end)

    return done, provider.shutdown
