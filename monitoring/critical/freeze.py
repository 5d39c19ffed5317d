"""The deploy freeze: whether a pipeline may deploy now, counted, and one let through when a person said so."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import Count, Q
from django.utils import timezone

from monitoring import storable
from monitoring.critical import inforce
from monitoring.critical.inforce import InForce
from monitoring.models import DeployPass, DeployRequest
from wsmon.audit import Actor, record
from wsmon.etags import tag_of

KEPT = timedelta(days=90)
"""How long it is remembered who asked."""
LONGEST_WAIT = 3600
"""Seconds after which a pipeline may ask again, at the latest: a person may end the freeze."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a pipeline is told."""

    allowed: bool
    reason: str
    """Why deployments are frozen; of one that is let through all the same too. Empty: they are not."""
    until: datetime | None
    read_only: bool
    passed: str = ""
    """Why this one was let through a freeze."""
    next_freeze_at: datetime | None = None

    @property
    def tag(self) -> str:
        """An ETag: the same while the answer is."""
        told = [self.allowed, self.reason, str(self.until), self.read_only, self.passed, str(self.next_freeze_at)]
        return tag_of(told)

    def retry_after(self, now: datetime) -> int:
        """Seconds after which it is worth asking again."""
        left = (self.until - now).total_seconds() if self.until else LONGEST_WAIT
        return max(1, min(LONGEST_WAIT, int(left) + 1))


def look(now: datetime | None = None) -> Answer:
    """What would be answered, without counting the question or using up a pass."""
    return answer_of(inforce.now_in_force(now or timezone.now()))


def answer_of(found: InForce) -> Answer:
    """What is in force, as a pipeline is told it."""
    coming = found.next
    freezes = coming is not None and any(reason.freezes for reason in coming.reasons)
    return Answer(
        not found.frozen,
        inforce.why(found) if found.frozen else "",
        found.frozen_until,
        found.read_only,
        next_freeze_at=coming.starts_at if coming and freezes and not found.frozen else None,
    )


def ask(actor: Actor, pipeline: str = "", now: datetime | None = None) -> Answer:
    """A pipeline wants to deploy: what it is told is remembered, and a person's permission used up."""
    now = now or timezone.now()
    answer = look(now)
    with transaction.atomic():
        if not answer.allowed and (used := _use_pass(now)) is not None:
            reason, by = used
            answer = Answer(True, answer.reason, answer.until, answer.read_only, passed=reason)
            record(actor, "deploy.passed", "critical-days", reason, allowed_by=by, pipeline=pipeline[:200])
        DeployRequest.objects.create(
            at=now, by=actor.name[:200], pipeline=storable.text(pipeline.strip(), 200), allowed=answer.allowed
        )
    return answer


def _use_pass(now: datetime) -> tuple[str, str] | None:
    """Use up one permission, of several askers at once for one of them: why it was given, and by whom."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE monitoring_deploypass SET used_at = %(now)s WHERE id = (
                SELECT id FROM monitoring_deploypass WHERE used_at IS NULL AND expires_at > %(now)s
                ORDER BY expires_at, id LIMIT 1 FOR UPDATE SKIP LOCKED
            ) RETURNING reason, by
            """,
            {"now": now},
        )
        row: tuple[str, str] | None = cursor.fetchone()
    return row


def waiting_pass(now: datetime) -> DeployPass | None:
    """A permission that nobody has used yet."""
    return DeployPass.objects.filter(used_at=None, expires_at__gt=now).order_by("expires_at", "id").first()


def asked_since(at: datetime) -> dict[str, int]:
    """How many asked, and how many of them were refused."""
    rows = DeployRequest.objects.filter(at__gte=at)
    return rows.aggregate(asked=Count("id"), refused=Count("id", filter=Q(allowed=False)))


def forget_old(now: datetime) -> Any:
    """Drop what is not looked at any more."""
    DeployPass.objects.filter(expires_at__lt=now - KEPT).delete()
    return DeployRequest.objects.filter(at__lt=now - KEPT).delete()
