"""From the services a file wishes for to a plan: which rows are made, changed, renamed, revived, archived."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import partial
from typing import Any, Protocol, TypeVar

from monitoring import actions, changes, renaming
from monitoring.literals import mask
from monitoring.models import Check, Credential, Service
from monitoring.schema import STORED, CheckSpec, ServiceSpec
from wsmon.audit import Actor
from wsmon.config.problems import Finding, show
from wsmon.config.section import Change, Plan
from wsmon.durations import format_duration

ACTOR = Actor.system("apply")
_PAUSED = "paused in the configuration file"
_DURATIONS = {"interval", "timeout", "degraded_over"}
_CHECK_FIELDS = ("kind", "interval", "timeout", "degraded_over", "confirm_down", "confirm_up")
_SERVICE_FIELDS = ("provider", "name", "criticality")


class Kept(Protocol):
    """A row that is archived instead of being deleted."""

    id: Any
    archived_at: Any


Row = TypeVar("Row", bound=Kept)


class Planner:
    """Compares specs with the rows as they are, and remembers what its changes touch."""

    def __init__(self, wish: list[ServiceSpec], prune: bool) -> None:
        self.wish = wish
        self.prune = prune
        self.result = Plan(finish=self.finish)
        self.rows: dict[str, Service] = {}
        self.touched_services: set[int] = set()
        self.touched_checks: set[int] = set()

    def plan(self) -> Plan:
        """Look at every service of the file, then at what the file does not mention."""
        changes.lock_checks()
        present = {
            service.slug: service
            for service in Service.objects.order_by("id").prefetch_related("checks", "credentials")
        }
        wished = {spec.slug for spec in self.wish}
        used: set[int] = set()
        for spec in self.wish:
            row, aside, problem = match(spec.slug, spec.renamed_from, present, wished)
            self.result.names[spec.slug] = row.id if row else None
            if problem:
                self.result.findings.append(Finding((spec.slug, "renamed_from"), problem))
                continue
            used |= {row.id} if row else set()
            self.service(spec, row, aside)
        for service in present.values():
            if service.archived_at is None and service.id not in used:
                self.result.names |= {} if self.prune else {service.slug: service.id}
                self.leave(f"service {service.slug}", partial(self.archive_service, service))
        return self.result

    def add(self, sign: str, text: str, act: Any) -> None:
        """Append a change."""
        self.result.changes.append(Change(sign, text, act))

    def leave(self, name: str, archive: Any) -> None:
        """Something is not in the file."""
        if self.prune:
            self.add("-", f"{name} (archived, its history is kept)", archive)
        else:
            self.result.not_in_file.append(name)

    def finish(self) -> None:
        """Make what changed due, and tell."""
        changes.changed(self.touched_checks, self.touched_services)

    # Services ------------------------------------------------------------------------------------

    def service(self, spec: ServiceSpec, row: Service | None, aside: Service | None) -> None:
        """Plan one service with its credentials, checks and pause."""
        differences = list(_service_differences(spec, row)) if row else []
        save = partial(self.save_service, spec, row, aside)
        if row is None:
            self.add("+", f"service {spec.slug} (provider {spec.provider})", save)
        elif row.archived_at is not None:
            words = ", ".join(["revived with its history", *differences])
            self.add("+", f"service {spec.slug}: {words}", save)
        elif differences:
            self.add("~", f"service {spec.slug}: " + ", ".join(differences), save)
        else:
            self.rows[spec.slug] = row
        self.credentials(spec, row)
        self.pause(spec, self.checks(spec, row))

    def save_service(self, spec: ServiceSpec, row: Service | None, aside: Service | None) -> None:
        """Write one service; an archived holder of its name makes room."""
        if aside:
            changes.move_aside_service(aside)
        service = row if row is not None else Service()
        old = service.slug
        service.slug, service.provider, service.name = spec.slug, spec.provider, spec.name
        service.criticality, service.breaker, service.archived_at = spec.criticality, dict(spec.breaker), None
        if row is None:
            service.save()
        else:
            service.save(update_fields=["slug", *_SERVICE_FIELDS, "breaker", "archived_at"])
            renaming.follow(service, old)
        self.rows[spec.slug] = service
        self.touched_services.add(service.id)
        self.touched_checks |= {check.id for check in service.checks.filter(archived_at=None)}

    def archive_service(self, service: Service) -> None:
        """Take a service out of use."""
        changes.archive_service(service)
        self.touched_services.add(service.id)

    # Credentials ---------------------------------------------------------------------------------

    def credentials(self, spec: ServiceSpec, row: Service | None) -> None:
        """Plan references; values stored in the admin only give way to a reference."""
        present = {one.variable: one for one in row.credentials.all()} if row else {}
        for variable, wanted in spec.credentials.items():
            one = present.get(variable)
            target = f"credential {spec.slug}/{variable}"
            set_it = partial(self.set_credential, spec.slug, variable, wanted)
            if wanted == STORED:
                if one is None or one.encrypted is None:
                    message = "says stored, but no value is stored: enter it in the admin first, or use env:NAME"
                    self.result.findings.append(Finding((spec.slug, "credentials", variable), message))
            elif one is None:
                self.add("+", f"{target}: {wanted}", set_it)
            elif one.reference != wanted:
                self.add("~", f"{target}: {one.reference or STORED} -> {wanted}", set_it)
        for variable, one in present.items():
            if variable in spec.credentials:
                continue
            if one.encrypted is not None:
                self.result.not_in_file.append(f"credential {spec.slug}/{variable} (stored in the admin)")
            else:
                remove = partial(self.remove_credential, spec.slug, one)
                self.add("-", f"credential {spec.slug}/{variable}: {one.reference}", remove)

    def set_credential(self, slug: str, variable: str, reference: str) -> None:
        """Write one reference."""
        service = self.rows[slug]
        values = {"reference": reference, "encrypted": None}
        Credential.objects.update_or_create(service=service, variable=variable, defaults=values)
        self.touch_all(service)

    def remove_credential(self, slug: str, credential: Credential) -> None:
        """Delete one reference; it has no history."""
        credential.delete()
        self.touch_all(self.rows[slug])

    def touch_all(self, service: Service) -> None:
        """Everything of a service is to be probed at once."""
        self.touched_services.add(service.id)
        self.touched_checks |= set(service.checks.filter(archived_at=None).values_list("id", flat=True))

    # Checks --------------------------------------------------------------------------------------

    def checks(self, spec: ServiceSpec, row: Service | None) -> list[Check | None]:
        """Plan the checks of one service; return those in use afterwards (None: yet to be made)."""
        revived = row is not None and row.archived_at is not None
        present = {check.name: check for check in row.checks.all()} if row else {}
        wished = {check.name for check in spec.checks}
        used: set[int] = set()
        in_use: list[Check | None] = []
        for index, wanted in enumerate(spec.checks):
            check, aside, problem = match(wanted.name, wanted.renamed_from, present, wished)
            if problem:
                path = (spec.slug, "checks", index, "renamed_from")
                self.result.findings.append(Finding(path, problem))
                continue
            used |= {check.id} if check else set()
            self.check(spec, wanted, check, aside)
            in_use.append(check if check and check.archived_at is None else None)
        for check in present.values():
            if check.id not in used and check.archived_at is None and not revived:
                self.leave(f"check {spec.slug}/{check.name}", partial(self.archive_check, check))
                in_use += [] if self.prune else [check]
        return in_use

    def check(self, spec: ServiceSpec, wanted: CheckSpec, check: Check | None, aside: Check | None) -> None:
        """Plan one check."""
        target = f"check {spec.slug}/{wanted.name}"
        differences = list(_check_differences(wanted, check)) if check else []
        save = partial(self.save_check, spec.slug, wanted, check, aside)
        if check is None:
            kind = "" if wanted.kind == wanted.name else f"{wanted.kind} "
            every = f"{kind}every {format_duration(wanted.interval)}, timeout {format_duration(wanted.timeout)}"
            self.add("+", f"{target}: {every}", save)
        elif check.archived_at is not None:
            self.add("+", f"{target}: " + ", ".join(["revived with its history", *differences]), save)
        elif differences:
            self.add("~", f"{target}: " + ", ".join(differences), save)

    def save_check(self, slug: str, wanted: CheckSpec, check: Check | None, aside: Check | None) -> None:
        """Write one check; an archived holder of its name makes room."""
        if aside:
            changes.move_aside_check(aside)
        new = check is None
        check = check or Check(service=self.rows[slug])
        check.name, check.options, check.archived_at = wanted.name, dict(wanted.options), None
        for name in _CHECK_FIELDS:
            setattr(check, name, getattr(wanted, name))
        if new:
            check.save()
        else:
            check.save(update_fields=["name", "options", "archived_at", *_CHECK_FIELDS])
        changes.equip(check)
        self.touched_checks.add(check.id)
        self.touched_services.add(check.service_id)

    def archive_check(self, check: Check) -> None:
        """Take a check out of use."""
        changes.archive_check(check)
        self.touched_services.add(check.service_id)

    # Pauses --------------------------------------------------------------------------------------

    def pause(self, spec: ServiceSpec, in_use: list[Check | None]) -> None:
        """Plan pausing or resuming; what people paused stays unless the file says otherwise."""
        running = [check for check in in_use if check is None or check.paused_at is None]
        paused = [check for check in in_use if check is not None and check.paused_at is not None]
        ours = [check for check in paused if check.paused_by == ACTOR.name]
        if spec.paused and running:
            self.add("~", f"service {spec.slug}: paused", partial(self.set_paused, spec.slug, True))
        elif paused and spec.paused is False:
            self.add("~", f"service {spec.slug}: resumed", partial(self.set_paused, spec.slug, False))
        elif ours and spec.paused is None:
            self.add("~", f"service {spec.slug}: resumed", partial(self.set_paused, spec.slug, False, ACTOR.name))

    def set_paused(self, slug: str, paused: bool, only_by: str | None = None) -> None:
        """Pause or resume the checks of a service, with their audit rows."""
        checks = self.rows[slug].checks.filter(archived_at=None)
        if only_by is not None:
            checks = checks.filter(paused_by=only_by)
        if paused:
            actions.pause(checks, ACTOR, _PAUSED)
        else:
            actions.resume(checks, ACTOR, "no longer paused in the configuration file")
        self.touched_services.add(self.rows[slug].id)


def match(
    name: str, renamed_from: str | None, present: Mapping[str, Row], wished: Collection[str]
) -> tuple[Row | None, Row | None, str]:
    """The row that is meant by a name: ``(row or None, archived row that holds the name, problem)``.

    ``renamed_from`` may stay in the file after it was done: it counts only while nothing in use has the
    new name.
    """
    row = present.get(name)
    source = present.get(renamed_from) if renamed_from and renamed_from != name else None
    if (
        source is None
        or renamed_from is None
        or (row is not None and (row.archived_at is None or source.archived_at is not None))
    ):
        return row, None, ""
    if renamed_from in wished:
        return row, None, f"{show(renamed_from)} is in the file too; it cannot be renamed and stay"
    return source, row, ""


def _service_differences(spec: ServiceSpec, row: Service) -> Iterator[str]:
    if row.slug != spec.slug:
        yield f"renamed from {row.slug}"
    for name in _SERVICE_FIELDS:
        old, new = getattr(row, name), getattr(spec, name)
        if old != new:
            yield f"{name} {_say(old)} -> {_say(new)}"
    if row.breaker != dict(spec.breaker):
        yield "breaker changed"


def _check_differences(wanted: CheckSpec, check: Check) -> Iterator[str]:
    if check.name != wanted.name:
        yield f"renamed from {check.name}"
    for name in _CHECK_FIELDS:
        old, new = getattr(check, name), getattr(wanted, name)
        if old != new:
            say = _say_duration if name in _DURATIONS else _say
            yield f"{name} {say(old)} -> {say(new)}"
    before, after = mask(check.options)[0], mask(wanted.options)[0]
    for name in sorted({*check.options, *wanted.options}):
        if check.options.get(name) != wanted.options.get(name):
            yield f"{name} {_say_option(before.get(name))} -> {_say_option(after.get(name))}"


def _say(value: object) -> str:
    return str(value) if value not in ("", None) else "none"


def _say_duration(seconds: float | None) -> str:
    return "none" if seconds is None else format_duration(seconds)


def _say_option(value: object) -> str:
    return "default" if value is None else show(value)
