"""OpenTelemetry traces of requests, when ``OTEL_EXPORTER_OTLP_ENDPOINT`` is set; else nothing is imported."""

from __future__ import annotations

import os


def start() -> bool:
    """Send a span for each request to the collector (OTLP over HTTP). Return whether it was asked for.

    The exporter reads its own variables (``OTEL_EXPORTER_OTLP_*``, ``OTEL_SERVICE_NAME``).
    """
    if not os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        return False
    # Read when the instrumentation is imported. A heartbeat's URL is a secret.
    os.environ.setdefault("OTEL_PYTHON_DJANGO_EXCLUDED_URLS", "healthz,readyz,metrics,static/.*,api/heartbeat/.*")
    from opentelemetry import trace  # noqa: PLC0415  (half a second of imports that few need)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.instrumentation.django import DjangoInstrumentor  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    name = os.environ.get("OTEL_SERVICE_NAME", "wsmon")
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    DjangoInstrumentor().instrument()
    return True
