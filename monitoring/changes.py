"""Steps that apply and the admin share when services and checks change. All inside the caller's transaction.

Nothing with history is deleted: it is archived, and revived when its name comes back.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

from django.db.models.functions import Now
from django.utils import timezone

from monitoring import variables
from monitoring.actions import due_now
from monitoring.incidents import store as incidents
from monitoring.models import Check, CheckState, Heartbeat, Service
from monitoring.statuses import settle_services
from wsmon import live

HEARTBEAT = "heartbeat"


def lock_checks() -> None:
    """Lock every check and its state, in the order in which workers and actions lock them."""
    list(Check.objects.select_for_update().order_by("id").values_list("id", flat=True))
    list(CheckState.objects.select_for_update().order_by("check_ref_id").values_list("check_ref_id", flat=True))


def equip(check: Check) -> None:
    """Give a new or revived check the rows that go with it."""
    CheckState.objects.get_or_create(check_ref=check)
    if check.kind == HEARTBEAT:
        Heartbeat.objects.get_or_create(check_ref=check)


def archive_service(service: Service) -> None:
    """Take a service and its checks out of use; its history stays."""
    now = timezone.now()  # the same for all, so that reviving knows what went along
    service.checks.filter(archived_at=None).update(archived_at=now)
    Service.objects.filter(id=service.id, archived_at=None).update(archived_at=now)


def archive_check(check: Check) -> None:
    """Take a check out of use; its history stays."""
    Check.objects.filter(id=check.id, archived_at=None).update(archived_at=Now())


def revive_service(service: Service) -> list[Check]:
    """Take a service into use again, with the checks that were archived along with it."""
    checks = list(service.checks.filter(archived_at=service.archived_at)) if service.archived_at else []
    for check in checks:
        check.archived_at = None
        check.save(update_fields=["archived_at"])
        equip(check)
    Service.objects.filter(id=service.id).update(archived_at=None)
    return checks


def archive(row: Any) -> None:
    """Take something that has no parts out of use; its history stays."""
    row.archived_at = timezone.now()
    row.save(update_fields=["archived_at"])


def move_aside(row: Any) -> None:
    """Rename something archived because its name, its ``slug``, is wanted."""
    others = type(row)._default_manager
    row.slug = free_name(row.slug, lambda slug: others.filter(slug=slug).exists())
    row.save(update_fields=["slug"])


def move_aside_check(check: Check) -> None:
    """Rename an archived check because its name is wanted."""
    others = Check.objects.filter(service=check.service_id)
    check.name = free_name(check.name, lambda name: others.filter(name=name).exists())
    check.save(update_fields=["name"])


def changed(check_ids: Collection[int], service_ids: Iterable[int]) -> None:
    """After any change: the checks are due at once, services settled (or, archived, let go), every page told."""
    ids = sorted(set(service_ids))
    due_now(sorted(check_ids))
    variables.forget()
    now = timezone.now()
    in_use = set(Service.objects.filter(id__in=ids, archived_at=None).values_list("id", flat=True))
    settle_services(dict.fromkeys(in_use, now))
    incidents.let_go(set(ids) - in_use, now)
    if ids:
        live.publish("state", {"services": ids})


def free_name(name: str, taken: Callable[[str], bool]) -> str:
    """The name that what is archived gets when its own is wanted."""
    number = 1
    while True:
        suffix = "-archived" if number == 1 else f"-archived-{number}"
        candidate = name[: 60 - len(suffix)] + suffix
        if not taken(candidate):
            return candidate
        number += 1
