"""``/metrics`` for Prometheus, read from the database at scrape time: any web process gives the same.

Rooms register collectors in ``settings.METRIC_COLLECTORS``: dotted paths of functions that yield metric
families.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.utils.module_loading import import_string
from django.views.decorators.csrf import csrf_exempt
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from wsmon import __version__, problems
from wsmon.callers import authenticate
from wsmon.problems import Problem

FRESH_S = 1.0
"""Scrapes within this time share one answer."""


class _Rooms(Collector):
    """Asks every room's collector."""

    def collect(self) -> Iterator[Metric]:
        yield _build()
        for path in settings.METRIC_COLLECTORS:
            yield from import_string(path)()


def _build() -> Metric:
    family = GaugeMetricFamily("wsmon_build_info", "Always 1; the version is its label.", labels=["version"])
    family.add_metric([__version__], 1)
    return family


class _Kept:
    """One text per format, made by one thread at a time and kept for ``FRESH_S``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._texts: dict[str, tuple[float, bytes]] = {}

    def get(self, content_type: str, make: Callable[[], bytes]) -> bytes:
        with self._lock:
            made, text = self._texts.get(content_type, (-FRESH_S, b""))
            if time.monotonic() - made >= FRESH_S:
                text = make()
                self._texts[content_type] = time.monotonic(), text
            return text

    def clear(self) -> None:
        with self._lock:
            self._texts.clear()


kept = _Kept()


@csrf_exempt
@login_not_required
def metrics(request: HttpRequest) -> HttpResponse:
    """Answer in Prometheus' text format or OpenMetrics: scope ``monitoring:read``, or staff who may view."""
    try:
        if request.method not in ("GET", "HEAD"):
            raise Problem(405, f"{request.method} is not allowed here", headers={"Allow": "GET, HEAD"})
        authenticate(request, "monitoring:read", "monitoring.view_service")
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Rooms())
        response = HttpResponse(kept.get(content_type, lambda: encode(registry)), content_type=content_type)
    except Exception as error:
        response = problems.response(problems.of(request, error))
    response.headers["Cache-Control"] = "no-store"
    return response
