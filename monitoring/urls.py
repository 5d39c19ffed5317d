"""The monitoring room's pages. ``/live/`` is not here: wsmon/asgi.py answers it beside Django."""

from __future__ import annotations

from django.urls import include, path, register_converter
from django.urls.converters import StringConverter

from monitoring.views import actions, breakers, critical, incidentacts, incidents, overview, service


class NameConverter(StringConverter):
    """The name of a service, or of a circuit with its kind: ``destination:app``."""

    regex = "(?:[a-z]+:)?[-a-zA-Z0-9_]+"


register_converter(NameConverter, "guarded")

urlpatterns = [
    path("", include("monitoring.notifications.urls")),
    path("", overview.overview, name="overview"),
    path("wall/", overview.wall, name="wall"),
    path("changes/", overview.changes, name="changes"),
    path("incidents/", incidents.incidents, name="incidents"),
    path("incidents/sla/", incidents.statement, name="incident-sla"),
    path("incidents/sla.csv", incidents.statement_csv, name="incident-sla-csv"),
    path("incidents/<int:number>/", incidents.incident, name="incident"),
    path("incidents/<int:number>/export.md", incidents.markdown, name="incident-export"),
    path("incidents/<int:number>/<slug:verb>/", incidentacts.act, name="incident-act"),
    path("breakers/", breakers.breakers, name="breakers"),
    path("breakers/transitions/", breakers.transitions, name="breaker-transitions"),
    path("breakers/<guarded:slug>/<slug:action>/", breakers.act, name="breaker-act"),
    path("critical-days/", critical.critical_days, name="critical-days"),
    path("critical-days/<slug:action>/", critical.act, name="critical-day-act"),
    path("services/<slug:slug>/", service.service, name="service"),
    path("services/<slug:slug>/live/", service.live, name="service-live"),
    path("services/<slug:slug>/series.json", service.series, name="service-series"),
    path("services/<slug:slug>/results/", service.results, name="service-results"),
    path("services/<slug:slug>/test/", actions.test, name="service-test"),
    path("services/<slug:slug>/pause/", actions.pause, name="service-pause"),
    path("services/<slug:slug>/resume/", actions.resume, name="service-resume"),
    path("services/<slug:slug>/maintenance/", actions.maintenance, name="service-maintenance"),
    path(
        "services/<slug:slug>/maintenance/<int:window>/cancel/",
        actions.cancel_maintenance,
        name="service-maintenance-cancel",
    ),
]
