"""The site map. Other rooms are named by string: ``wsmon`` imports none of them."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from wsmon import health, metrics

urlpatterns = [
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("metrics", metrics.metrics, name="metrics"),
    path("api/heartbeat/", include("monitoring.heartbeats")),
    path("api/", include("wsmon.api")),
    path("", include("wsmon.accounts.urls")),
    path("admin/", admin.site.urls),
    path("webhooks/", include("webhooks.urls")),
    path("", include("monitoring.urls")),
]

# Errors that arise before a view is reached; the API answers them in its own way.
handler400 = "wsmon.problems.bad_request"
handler500 = "wsmon.problems.server_error"
