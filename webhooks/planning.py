"""From the sources and destinations a file wishes for to a plan. Routes: ``webhooks.routeplanning``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, TypeVar

from monitoring.changes import move_aside
from monitoring.literals import mask
from monitoring.models import Service
from monitoring.schema import STORED
from webhooks import actions, changes
from webhooks.models import Destination, Secret, Source
from webhooks.schema import DestinationSpec, SourceSpec, words_of
from webhooks.vocabulary import PUBLISHED
from wsmon.audit import Actor
from wsmon.config import named
from wsmon.config.problems import Finding, not_one_of, show
from wsmon.config.section import Plan
from wsmon.durations import format_duration

ACTOR = Actor.system("apply")
_PAUSED = "paused in the configuration file"
_RESUMED = "no longer paused in the configuration file"
_SOURCE_FIELDS = ("provider", "url", "max_bytes", "watch_silence", "reconcile")
_DESTINATION_FIELDS = (
    "url",
    "timeout",
    "max_per_second",
    "concurrency",
    "order_by",
    "forward_headers",
    "disable_after",
    "health_url",
)
_DURATIONS = {"timeout", "disable_after"}

Spec = TypeVar("Spec", bound=SourceSpec | DestinationSpec)
Row = TypeVar("Row", bound=Source | Destination)


class Planner(named.Planner[Spec, Row]):
    """Compares specs with the rows as they are: what sources and destinations have in common."""

    secrets_key: ClassVar[str]

    def __init__(self, wish: Sequence[Spec], prune: bool, services: named.Names) -> None:
        super().__init__(wish, prune, changes.told)
        self.services = services

    def one(self, spec: Spec, row: Row | None, aside: Row | None) -> None:
        """Plan one of them with its secrets; a service that is named must be there afterwards."""
        if spec.service is not None and spec.service not in self.services:
            message = not_one_of(spec.service, self.services, "a service")
            self.result.findings.append(Finding((spec.slug, "service"), message))
        super().one(spec, row, aside)
        self.secrets(spec, row)

    def secrets(self, spec: Spec, row: Row | None) -> None:
        """Plan references; values that were stored in the admin are put in order, and stay if not mentioned."""
        present = words_of(sorted(row.secrets.all(), key=_by_position)) if row else ()
        missing = spec.secrets.count(STORED) - present.count(STORED)
        if missing > 0:
            message = f"says stored, but {_stored(present)} stored: enter it in the admin first, or use env:NAME"
            self.result.findings.append(Finding((spec.slug, self.secrets_key), message))
            return
        if missing < 0:
            self.result.not_in_file.append(f"secret of {self.noun} {spec.slug} (stored in the admin)")
        words = (*spec.secrets, *[STORED] * -missing)
        if words != present:
            before, after = ", ".join(present) or "none", ", ".join(words) or "none"
            sign, text = ("~", f"{before} -> {after}") if present else ("+", after)
            self.add(sign, f"secrets of {self.noun} {spec.slug}: {text}", partial(self.set_secrets, spec.slug, words))

    def set_secrets(self, slug: str, words: Sequence[str]) -> None:
        """Write the secrets of one."""
        changes.write_secrets(self.rows[slug], words)


class SourcePlanner(Planner[SourceSpec, Source]):
    """Plans sources; ``published`` is nobody's business, and always there."""

    noun = "source"
    secrets_key = "secrets"

    def plan(self) -> Plan:
        """As the others, and ``published`` can be named too."""
        plan = super().plan()
        plan.names |= published()
        return plan

    def present(self) -> dict[str, Source]:
        """Every source but ``published``."""
        rows = Source.objects.exclude(slug=PUBLISHED).order_by("id")
        return {row.slug: row for row in rows.select_related("service").prefetch_related("secrets")}

    def what(self, spec: SourceSpec) -> str:
        """Its provider."""
        return f"provider {spec.provider}"

    def differences(self, spec: SourceSpec, row: Source) -> Iterator[str]:
        """What a change would change."""
        yield from _plain_differences(spec, row, _SOURCE_FIELDS)
        yield from _option_differences(spec.options, row.options)

    def save(self, spec: SourceSpec, row: Source | None, aside: Source | None) -> None:
        """Write one source."""
        if aside:
            move_aside(aside)
        source = row if row is not None else Source()
        for name in _SOURCE_FIELDS:
            setattr(source, name, getattr(spec, name))
        source.slug, source.options, source.archived_at = spec.slug, dict(spec.options), None
        source.service = _service(spec.service)
        source.save()
        self.rows[spec.slug] = source

    def archive(self, row: Source) -> None:
        """Take a source out of use."""
        changes.archive_source(row)


class DestinationPlanner(Planner[DestinationSpec, Destination]):
    """Plans destinations with their breakers and pauses."""

    noun = "destination"
    secrets_key = "signing_secret"

    def present(self) -> dict[str, Destination]:
        """Every destination."""
        rows = Destination.objects.order_by("id").select_related("service", "state")
        return {row.slug: row for row in rows.prefetch_related("secrets")}

    def what(self, spec: DestinationSpec) -> str:
        """Where it is."""
        return show(spec.url).strip('"')

    def differences(self, spec: DestinationSpec, row: Destination) -> Iterator[str]:
        """What a change would change."""
        yield from _plain_differences(spec, row, _DESTINATION_FIELDS)
        yield from _option_differences({"headers": dict(spec.headers)}, {"headers": row.headers})
        if list(spec.retry) != row.retry:
            yield f"retry {_schedule(row.retry)} -> {_schedule(spec.retry)}"
        if dict(spec.breaker) != row.breaker:
            yield "breaker changed"

    def one(self, spec: DestinationSpec, row: Destination | None, aside: Destination | None) -> None:
        """Plan one destination with its secrets and pause."""
        super().one(spec, row, aside)
        state = getattr(row, "state", None)
        paused = state is not None and state.paused_at is not None
        ours = state is not None and state.paused_by == ACTOR.name
        if spec.paused and not paused:
            self.add("~", f"destination {spec.slug}: paused", partial(self.set_paused, spec.slug, True))
        elif paused and (spec.paused is False or (spec.paused is None and ours)):
            self.add("~", f"destination {spec.slug}: resumed", partial(self.set_paused, spec.slug, False))

    def save(self, spec: DestinationSpec, row: Destination | None, aside: Destination | None) -> None:
        """Write one destination, its state and its breaker."""
        if aside:
            move_aside(aside)
        destination = row if row is not None else Destination()
        was = destination.slug
        for name in _DESTINATION_FIELDS:
            setattr(destination, name, getattr(spec, name))
        destination.slug, destination.archived_at = spec.slug, None
        destination.headers, destination.retry = dict(spec.headers), list(spec.retry)
        destination.breaker, destination.service = dict(spec.breaker), _service(spec.service)
        destination.save()
        changes.equip(destination, was)
        self.rows[spec.slug] = destination

    def archive(self, row: Destination) -> None:
        """Take a destination out of use."""
        changes.archive_destination(row)

    def set_paused(self, slug: str, paused: bool) -> None:
        """Pause or resume one destination, with its audit row."""
        if paused:
            actions.pause_destination(self.rows[slug], ACTOR, _PAUSED)
        else:
            actions.resume_destination(self.rows[slug], ACTOR, _RESUMED)


def service_of(row: Source | Destination) -> str | None:
    """The service that it names, unless that is archived: then it is as if there were none."""
    return row.service.slug if row.service and row.service.archived_at is None else None


def published() -> dict[str, int | None]:
    """The source of the team's own events as one that can be named, whether it has a row yet or not."""
    return {PUBLISHED: Source.objects.filter(slug=PUBLISHED).values_list("id", flat=True).first()}


def _service(slug: str | None) -> Service | None:
    return None if slug is None else Service.objects.get(slug=slug)


def _by_position(secret: Secret) -> tuple[int, int]:
    return secret.position, secret.id


def _stored(present: Sequence[str]) -> str:
    count = present.count(STORED)
    return "no value is" if not count else f"only {count} {'value is' if count == 1 else 'values are'}"


def _plain_differences(spec: Any, row: Any, names: Sequence[str]) -> Iterator[str]:
    if row.slug != spec.slug:
        yield f"renamed from {row.slug}"
    for name in names:
        old, new = getattr(row, name), getattr(spec, name)
        if old != new:
            say = format_duration if name in _DURATIONS else _say
            yield f"{name} {say(old)} -> {say(new)}"
    service = service_of(row)
    if service != spec.service:
        yield f"service {_say(service)} -> {_say(spec.service)}"


def _option_differences(wanted: Mapping[str, Any], present: Mapping[str, Any]) -> Iterator[str]:
    before, after = mask(present)[0], mask(wanted)[0]
    for name in sorted({*present, *wanted}):
        if present.get(name) != wanted.get(name):
            yield f"{name} {_say_option(before.get(name))} -> {_say_option(after.get(name))}"


def _say(value: object) -> str:
    return "none" if value in ("", None) else show(value).strip('"')


def _say_option(value: object) -> str:
    return "default" if value is None else show(value)


def _schedule(waits: Sequence[float]) -> str:
    return ", ".join(map(format_duration, waits)) or "none"
