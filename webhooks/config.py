"""The sections ``sources``, ``destinations`` and ``routes`` of wsmon.yaml.

Keys that are left out have their defaults, with two exceptions that apply leaves alone: secrets entered in
the admin (``stored``) and pauses of destinations made by people. A source that names no ``secrets`` looks in
its vendor's own variables; while these are unset it is *not configured*, and refuses what comes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import providers
from monitoring import literals
from monitoring.config import export_breaker, export_options
from monitoring.models import Service
from providers.hooks import Scheme
from webhooks.models import Destination, Route, Source
from webhooks.planning import DestinationPlanner, SourcePlanner, service_of
from webhooks.routeplanning import RoutePlanner, sources_in_use
from webhooks.routeschema import EVERYTHING, RouteSpec, priority_word, read_route
from webhooks.schema import (
    DestinationEntry,
    DestinationSpec,
    SourceSpec,
    default_secrets,
    read_destination,
    read_source,
    words_of,
)
from webhooks.vocabulary import DEFAULT_RETRY, PUBLISHED, Priority
from wsmon.config.named import in_use, read_named
from wsmon.config.problems import Finding, dotted, show
from wsmon.config.section import Exported, Plan
from wsmon.durations import format_duration
from wsmon.sizes import format_size
from wsmon.vocabulary import JSON

_DESTINATION = {name: field.default for name, field in DestinationEntry.model_fields.items()}


class SourcesSection:
    """Reads, plans and exports sources with their secrets."""

    key = "sources"

    def read(self, data: Any) -> tuple[list[SourceSpec], list[Finding]]:
        """Judge every source."""
        return read_named(data, read_source)

    def plan(self, wish: list[SourceSpec], *, prune: bool, earlier: Mapping[str, Plan]) -> Plan:
        """Compare with the database."""
        return SourcePlanner(wish, prune, in_use("services", Service, earlier)).plan()

    def export(self) -> Exported:
        """Every source in use, in the order they were made."""
        exported = Exported({})
        sources = Source.objects.filter(archived_at=None).exclude(slug=PUBLISHED).order_by("id")
        for source in sources.select_related("service").prefetch_related("secrets"):
            exported.data[source.slug] = export_source(source, exported.remarks)
        return exported


class DestinationsSection:
    """Reads, plans and exports destinations with their secrets, breakers and pauses."""

    key = "destinations"

    def read(self, data: Any) -> tuple[list[DestinationSpec], list[Finding]]:
        """Judge every destination."""
        return read_named(data, read_destination)

    def plan(self, wish: list[DestinationSpec], *, prune: bool, earlier: Mapping[str, Plan]) -> Plan:
        """Compare with the database."""
        return DestinationPlanner(wish, prune, in_use("services", Service, earlier)).plan()

    def export(self) -> Exported:
        """Every destination in use, in the order they were made."""
        exported = Exported({})
        destinations = Destination.objects.filter(archived_at=None).order_by("id")
        for one in destinations.select_related("service", "state").prefetch_related("secrets"):
            exported.data[one.slug] = export_destination(one, exported.remarks)
        return exported


class RoutesSection:
    """Reads, plans and exports routes. Names are looked up in the two sections before."""

    key = "routes"

    def read(self, data: Any) -> tuple[list[tuple[int, RouteSpec]], list[Finding]]:
        """Judge every route; a spec with its entry's position for each destination."""
        if not isinstance(data, list):
            return [], [Finding((), f"{show(data)} stands where a list belongs")]
        specs: list[tuple[int, RouteSpec]] = []
        findings: list[Finding] = []
        for index, one in enumerate(data):
            found, wrong = read_route(one)
            findings += [finding.under(index) for finding in wrong]
            specs += [(index, spec) for spec in found]
        return specs, findings + list(_same_routes(specs))

    def plan(self, wish: list[tuple[int, RouteSpec]], *, prune: bool, earlier: Mapping[str, Plan]) -> Plan:
        """Compare with the database."""
        return RoutePlanner(wish, prune, sources_in_use(earlier), in_use("destinations", Destination, earlier)).plan()

    def export(self) -> Exported:
        """Every route in use between what is in use, in the order they were made."""
        routes = Route.objects.filter(archived_at=None, source__archived_at=None, destination__archived_at=None)
        ordered = routes.select_related("source", "destination").order_by("id")
        return Exported([export_route(route) for route in ordered])


sources_section = SourcesSection()
destinations_section = DestinationsSection()
routes_section = RoutesSection()


def export_source(source: Source, remarks: list[str]) -> dict[str, JSON]:
    """A source as in the file: keys in the order of the README, defaults left out."""
    scheme = _scheme(source.provider)
    found: dict[str, JSON] = {}
    if source.provider != source.slug:
        found["provider"] = source.provider
    words = words_of(source.secrets.all())
    if scheme is None or words != default_secrets(scheme):
        found["secrets"] = list(words)
    if source.url:
        found["url"] = source.url
    if source.max_bytes is not None:
        found["max_bytes"] = format_size(source.max_bytes)
    if service := service_of(source):
        found["service"] = service
    if not source.watch_silence:
        found["watch_silence"] = False
    if source.reconcile:
        found["reconcile"] = True
    return found | _masked(
        export_options(scheme.options if scheme else None, source.options), ("sources", source.slug), remarks
    )


def export_destination(destination: Destination, remarks: list[str]) -> dict[str, JSON]:
    """A destination as in the file: keys in the order of the README, defaults left out."""
    found: dict[str, JSON] = {"url": destination.url}
    if destination.headers:
        found["headers"] = dict(destination.headers)
    if destination.health_url:
        found["health_url"] = destination.health_url
    found = _masked(found, ("destinations", destination.slug), remarks)
    for name in ("timeout", "disable_after"):
        if getattr(destination, name) != _DESTINATION[name]:
            found[name] = format_duration(getattr(destination, name))
    for name in ("max_per_second", "concurrency", "order_by", "forward_headers"):
        if getattr(destination, name) != _DESTINATION[name]:
            found[name] = getattr(destination, name)
    words = words_of(destination.secrets.all())
    if words:
        found["signing_secret"] = words[0] if len(words) == 1 else list(words)
    if destination.retry != list(DEFAULT_RETRY):
        found["retry"] = [format_duration(wait) for wait in destination.retry]
    if service := service_of(destination):
        found["service"] = service
    elif destination.breaker:
        found["breaker"] = export_breaker(destination.breaker)
    state = getattr(destination, "state", None)
    if state is not None and state.paused_at is not None:
        found["paused"] = True
    return found


def export_route(route: Route) -> dict[str, JSON]:
    """A route as in the file."""
    found: dict[str, JSON] = {"source": route.source.slug, "destination": route.destination.slug}
    if tuple(route.events or EVERYTHING) != EVERYTHING:
        found["events"] = list(route.events)
    if route.filters:
        found["filters"] = dict(route.filters)
    if route.priority != Priority.NORMAL:
        found["priority"] = priority_word(route.priority)
    return found


def _same_routes(specs: list[tuple[int, RouteSpec]]) -> Iterator[Finding]:
    seen: dict[Any, int] = {}
    for index, spec in specs:
        first = seen.setdefault((spec.source, spec.destination, spec.selection), index)
        if first != index:
            yield Finding((index,), f"is the same as routes[{first}]: its source, destination, events and filters")


def _masked(options: Mapping[str, JSON], path: tuple[str, str], remarks: list[str]) -> dict[str, JSON]:
    masked, places = literals.mask(options)
    remarks += [
        f"{dotted((*path, *place))}: a secret stands here in clear; it is masked, put it behind env: or file:"
        for place in places
    ]
    return masked


def _scheme(provider: str) -> Scheme | None:
    try:
        return providers.get(provider).hooks
    except providers.UnknownProvider:
        return None
