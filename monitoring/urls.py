"""The monitoring room's pages. ``/live/`` is not here: wsmon/asgi.py answers it beside Django."""

from __future__ import annotations

from django.urls import path

from monitoring.views import overview, service

urlpatterns = [
    path("", overview.overview, name="overview"),
    path("wall/", overview.wall, name="wall"),
    path("changes/", overview.changes, name="changes"),
    path("services/<slug:slug>/", service.service, name="service"),
    path("services/<slug:slug>/series.json", service.series, name="service-series"),
    path("services/<slug:slug>/results/", service.results, name="service-results"),
    path("services/<slug:slug>/test/", service.test, name="service-test"),
    path("services/<slug:slug>/pause/", service.pause, name="service-pause"),
    path("services/<slug:slug>/resume/", service.resume, name="service-resume"),
    path("services/<slug:slug>/maintenance/", service.maintenance, name="service-maintenance"),
]
