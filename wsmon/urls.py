"""The site map. Other rooms are named by string: ``wsmon`` imports none of them."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.decorators import login_not_required
from django.urls import include, path
from django.views.generic import RedirectView

from wsmon import api, health, metrics

urlpatterns = [
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("metrics", metrics.metrics, name="metrics"),
    path("api/heartbeat/", include("monitoring.heartbeats")),
    path("api/", include(api.urlpatterns)),
    # One login for everything: the admin's own would not ask for the second factor.
    path("admin/login/", login_not_required(RedirectView.as_view(pattern_name="login", query_string=True))),
    path("admin/", admin.site.urls),
    path("", include("wsmon.accounts.urls")),
    path("", include("monitoring.urls")),
]
