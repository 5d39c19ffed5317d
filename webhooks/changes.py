"""Steps that apply and the admin share when sources, destinations and routes change. All inside the caller's
transaction, which ends with :func:`told`.

Nothing with history is deleted: it is archived, and revived when its name comes back. Routes are archived
along with either end.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from django.utils import timezone

from monitoring.breakers import circuits
from monitoring.schema import STORED
from webhooks import catalog
from webhooks.circuits import DEFAULT_POLICY, own_name
from webhooks.models import Destination, DestinationState, Route, Secret, Source
from webhooks.routeschema import selection_of
from webhooks.vocabulary import PUBLISHED


def told() -> None:
    """After any change: every process reads the configuration anew when the transaction commits."""
    catalog.changed()


def published_source() -> Source:
    """wsmon's own source, made or revived when somebody asks for it."""
    row, _made = Source.objects.get_or_create(
        slug=PUBLISHED, defaults={"provider": PUBLISHED, "watch_silence": False}
    )
    if row.archived_at is not None:
        row.archived_at = None
        row.save(update_fields=["archived_at"])
    return row


def source_named(slug: str) -> Source:
    """The source of that name, which is in use; ``published`` always is."""
    return published_source() if slug == PUBLISHED else Source.objects.get(slug=slug)


# Secrets ------------------------------------------------------------------------------------------


def secrets_of(owner: Source | Destination) -> list[Secret]:
    """A source's or a destination's secrets in their order."""
    return list(owner.secrets.order_by("position", "id"))


def write_secrets(owner: Source | Destination, words: Sequence[str]) -> None:
    """Make ``owner``'s secrets as ``words`` say: references, and ``stored`` for each stored value, in order.

    There must be as many of these as there are stored values: none is made or lost here.
    """
    present = secrets_of(owner)
    stored = iter([one for one in present if one.encrypted is not None])
    references = {one.reference: one for one in present if one.encrypted is None}
    for position, word in enumerate(words):
        row = next(stored) if word == STORED else references.pop(word, None)
        if row is None:
            owner.secrets.create(position=position, reference=word)
        elif row.position != position:
            Secret.objects.filter(id=row.id).update(position=position)  # its time of change stays
    for row in references.values():
        row.delete()


# Sources ------------------------------------------------------------------------------------------


def archive_source(source: Source) -> None:
    """Take a source and its routes out of use; what it received stays."""
    _archive(source)


# Destinations -------------------------------------------------------------------------------------


def equip(destination: Destination, was: str = "") -> None:
    """Give a new, changed or revived destination its state and its breaker. ``was``: the name that it had.

    One that shares a service's breaker has none of its own; what it had is archived.
    """
    DestinationState.objects.get_or_create(destination=destination)
    name, page = own_name(destination.slug), page_of(destination)
    if was and was != destination.slug:
        with suppress(LookupError):  # archived, or it shared a service's: then it starts anew
            circuits.rename(own_name(was), name, destination.slug, page)
    if destination.service_id is None:
        circuits.ensure(name, label=destination.slug, policy=destination.breaker or DEFAULT_POLICY, url=page)
    else:
        circuits.archive(name)


def page_of(destination: Destination) -> str:
    """Where its deliveries are listed."""
    return f"/webhooks/?destination={destination.slug}"


def archive_destination(destination: Destination) -> None:
    """Take a destination, its routes and its breaker out of use; its deliveries stay."""
    _archive(destination)
    circuits.archive(own_name(destination.slug))


def _archive(row: Source | Destination) -> None:
    now = timezone.now()  # the same for all, so that reviving knows what went along
    row.routes.filter(archived_at=None).update(archived_at=now)
    type(row)._default_manager.filter(id=row.id, archived_at=None).update(archived_at=now)
    row.archived_at = now


def revive(row: Source | Destination) -> None:
    """Take it into use again, with the routes that were archived along with it and whose other end is in use."""
    other = "destination" if isinstance(row, Source) else "source"
    alive: dict[str, Any] = {f"{other}__archived_at": None}
    routes = row.routes.filter(archived_at=row.archived_at, **alive).values_list("id", flat=True)
    Route.objects.filter(id__in=list(routes)).update(archived_at=None)
    row.archived_at = None
    row.save(update_fields=["archived_at"])
    if isinstance(row, Destination):
        equip(row)


# Routes -------------------------------------------------------------------------------------------


def archive_route(route: Route) -> None:
    """Take a route out of use; what it sent stays."""
    Route.objects.filter(id=route.id, archived_at=None).update(archived_at=timezone.now())


def revive_route(route: Route) -> bool:
    """Take a route into use again; False when an end of it is archived, or there is the same one by now."""
    others = Route.objects.filter(source=route.source, destination=route.destination, archived_at=None)
    selection = selection_of(route.events, route.filters)
    if (
        route.source.archived_at is not None
        or route.destination.archived_at is not None
        or any(selection_of(other.events, other.filters) == selection for other in others.exclude(pk=route.pk))
    ):
        return False
    route.archived_at = None
    route.save(update_fields=["archived_at"])
    return True
