"""From the services a file wishes for to a plan: which rows are made, changed, renamed, revived, archived."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from monitoring import actions, changes, renaming
from monitoring.literals import mask
from monitoring.models import Check, Credential, Service
from monitoring.schema import STORED, CheckSpec, ServiceSpec
from wsmon.audit import Actor
from wsmon.config.named import Planner, match
from wsmon.config.problems import Finding, show
from wsmon.durations import format_duration

ACTOR = Actor.system("apply")
_PAUSED = "paused in the configuration file"
_DURATIONS = {"interval", "timeout", "degraded_over"}
_CHECK_FIELDS = ("kind", "interval", "timeout", "degraded_over", "confirm_down", "confirm_up")
_SERVICE_FIELDS = ("provider", "name", "criticality")


class ServicePlanner(Planner[ServiceSpec, Service]):
    """Plans services with their credentials, checks and pauses, and remembers what its changes touch."""

    noun = "service"

    def __init__(self, wish: list[ServiceSpec], prune: bool) -> None:
        super().__init__(wish, prune, self.finish)
        self.touched_services: set[int] = set()
        self.touched_checks: set[int] = set()

    def present(self) -> dict[str, Service]:
        """Every service with its checks and credentials; nobody else changes these meanwhile."""
        changes.lock_checks()
        rows = Service.objects.order_by("id").prefetch_related("checks", "credentials")
        return {service.slug: service for service in rows}

    def finish(self) -> None:
        """Make what changed due, and tell."""
        changes.changed(self.touched_checks, self.touched_services)

    # Services ------------------------------------------------------------------------------------

    def one(self, spec: ServiceSpec, row: Service | None, aside: Service | None) -> None:
        """Plan one service with its credentials, checks and pause."""
        super().one(spec, row, aside)
        self.credentials(spec, row)
        self.pause(spec, self.checks(spec, row))

    def what(self, spec: ServiceSpec) -> str:
        """Its provider."""
        return f"provider {spec.provider}"

    def differences(self, spec: ServiceSpec, row: Service) -> Iterator[str]:
        """What a change would change."""
        if row.slug != spec.slug:
            yield f"renamed from {row.slug}"
        for name in _SERVICE_FIELDS:
            old, new = getattr(row, name), getattr(spec, name)
            if old != new:
                yield f"{name} {_say(old)} -> {_say(new)}"
        if row.breaker != dict(spec.breaker):
            yield "breaker changed"

    def save(self, spec: ServiceSpec, row: Service | None, aside: Service | None) -> None:
        """Write one service; an archived holder of its name makes room."""
        if aside:
            changes.move_aside(aside)
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

    def archive(self, row: Service) -> None:
        """Take a service out of use."""
        changes.archive_service(row)
        self.touched_services.add(row.id)

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
            self.add("+", f"{target}: " + ", ".join([self.revived, *differences]), save)
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
