"""What people do to deliveries and destinations: cancel, pause, resume, disable, enable. Each leaves an audit row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from django.db import transaction
from django.utils import timezone

from monitoring import alerts
from monitoring.actions import cleaned
from webhooks import settling, store
from webhooks.configmodels import Destination, DestinationState
from webhooks.eventmodels import Delivery
from webhooks.filters import Filter
from webhooks.vocabulary import WAITING, DeliveryStatus
from wsmon import live
from wsmon.audit import Actor, record

BATCH = 2_000
"""Deliveries cancelled in one transaction."""
LISTED = 100
"""Ids that an audit row names."""


class Refused(ValueError):
    """An action cannot be done; the message says why and may be shown."""


def cancel_deliveries(chosen: Iterable[int] | Filter, actor: Actor, reason: str = "") -> int:
    """Cancel deliveries that wait, by id or by filter; returns how many.

    What is just being sent, or has ended, stays what it is. Many are cancelled in several transactions, each
    with its audit row.
    """
    told: dict[str, object]
    if isinstance(chosen, Filter):
        found, told = chosen.deliveries(), {"filter": chosen.stored()}
    else:
        ids = sorted(set(chosen))
        found, told = Delivery.objects.filter(id__in=ids), {"deliveries": [str(id_) for id_ in ids[:LISTED]]}
    waiting = found.filter(status__in=WAITING).order_by("id")
    cancelled = 0
    while True:
        with transaction.atomic():
            rows = list(
                waiting.select_for_update(of=("self",), skip_locked=True).values_list("id", "destination_id")[:BATCH]
            )
            if not rows:
                return cancelled
            Delivery.objects.filter(id__in=[row[0] for row in rows]).update(
                status=DeliveryStatus.CANCELLED, finished_at=timezone.now()
            )
            record(actor, "delivery.cancel", "deliveries", cleaned(reason), count=len(rows), **told)
            live.publish("deliveries", {"destinations": sorted({row[1] for row in rows})})
        cancelled += len(rows)


def pause_destination(destination: Destination, actor: Actor, reason: str = "") -> bool:
    """Send nothing there until it is resumed; its backlog waits. False when it was paused already."""
    reason = cleaned(reason)
    values = {"paused_by": actor.name[:200], "paused_reason": reason}
    return _set(destination, actor, reason, "pause", "paused_at", values)


def resume_destination(destination: Destination, actor: Actor, reason: str = "") -> bool:
    """Send again, the backlog first. False when it was not paused."""
    return _unset(destination, actor, cleaned(reason), "resume", "paused_at", {"paused_by": "", "paused_reason": ""})


def disable_destination(destination: Destination, actor: Actor, reason: str = "") -> bool:
    """Take it out of use until a person, or its health URL, enables it; its backlog stays. False: it was."""
    reason = cleaned(reason)
    values = {"disabled_by": actor.name[:200], "disabled_reason": reason}
    return _set(destination, actor, reason, "disable", "disabled_at", values)


@transaction.atomic
def enable_destination(destination: Destination, actor: Actor, reason: str = "") -> bool:
    """Use it again; how long it has been failing counts from now. False when it was not disabled."""
    alerts.resolve(settling.alert_key(destination.slug))
    values = {"disabled_by": "", "disabled_reason": "", "failing_since": None, "held_until": None}
    return _unset(destination, actor, cleaned(reason), "enable", "disabled_at", values)


@transaction.atomic
def _set(
    destination: Destination, actor: Actor, reason: str, verb: str, moment: str, values: Mapping[str, object]
) -> bool:
    if destination.archived_at is not None:
        raise Refused("the destination is archived")
    free = DestinationState.objects.filter(destination=destination, **{f"{moment}__isnull": True})
    if not free.update(**{moment: timezone.now()}, **values):
        return False
    _tell(destination, actor, reason, verb)
    return True


@transaction.atomic
def _unset(
    destination: Destination, actor: Actor, reason: str, verb: str, moment: str, values: Mapping[str, object]
) -> bool:
    held = DestinationState.objects.filter(destination=destination, **{f"{moment}__isnull": False})
    if not held.update(**{moment: None}, **values):
        return False
    _tell(destination, actor, reason, verb)
    return True


def _tell(destination: Destination, actor: Actor, reason: str, verb: str) -> None:
    """The audit row; open pages; and whoever delivers, since there may be something to do again."""
    record(actor, f"destination.{verb}", f"destination:{destination.slug}", reason)
    store.announce([destination.id])
