"""Replays, what was asked for with an idempotency key, and what was erased."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now

from webhooks.configmodels import Destination
from webhooks.vocabulary import ReplayStatus
from wsmon.ids import uuid7

REPLAY_STATUSES = [(word.value, word.value) for word in ReplayStatus]


class Replay(models.Model):
    """One or many events sent again on purpose. Its id stands in the header ``Webhook-Replay``.

    ``selection`` says which deliveries: ``{"deliveries": [id, ...]}``, ``{"event": id}`` or a filter of the
    list. A job goes through them by ``cursor``, the highest delivery id that is done, up to ``last``.
    """

    id = models.UUIDField(primary_key=True, default=uuid7)
    created_at = models.DateTimeField(db_default=Now())
    created_by = models.CharField(max_length=200)
    reason = models.CharField(max_length=500, blank=True)
    selection = models.JSONField(default=dict)
    destination = models.ForeignKey(
        Destination, null=True, blank=True, on_delete=models.SET_NULL, related_name="+", help_text="instead of theirs"
    )
    max_retries = models.SmallIntegerField(default=3)
    force = models.BooleanField(default=False, help_text="also what was delivered")
    per_second = models.FloatField(default=5)
    status = models.CharField(max_length=10, choices=REPLAY_STATUSES, default=ReplayStatus.RUNNING)
    total = models.IntegerField(default=0, help_text="deliveries that were selected")
    made = models.IntegerField(default=0, help_text="new deliveries so far")
    skipped = models.IntegerField(default=0)
    skips = models.JSONField(default=dict, help_text="why, with counts")
    cursor = models.BigIntegerField(default=0)
    last = models.BigIntegerField(default=0)
    due_at = models.DateTimeField(db_default=Now(), help_text="when the next step may be made")
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-created_at"]
        permissions = [("replay", "Can replay and cancel deliveries"), ("reveal", "Can see masked payloads")]

    def __str__(self) -> str:
        return f"replay {self.id}"


class IdempotencyKey(models.Model):
    """The answer to a request that was sent with an idempotency key, for whoever sends it again."""

    scope = models.CharField(max_length=60, help_text="the operation and who asked")
    key = models.CharField(max_length=255)
    digest = models.CharField(max_length=64, help_text="SHA-256 of what was asked for")
    answer = models.JSONField(default=dict)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [models.UniqueConstraint(fields=["scope", "key"], name="idempotency_once")]
        indexes = [models.Index(fields=["created_at"], name="idempotency_old")]  # housekeeping

    def __str__(self) -> str:
        return f"{self.scope} {self.key}"


class Erasure(models.Model):
    """A receipt: what was erased of a person. The subject is kept as a keyed hash, and, encrypted, while it runs.

    It goes through the events by ``cursor``, the highest event id that is done, up to ``last``.
    """

    id = models.UUIDField(primary_key=True, default=uuid7)
    at = models.DateTimeField(db_default=Now())
    by = models.CharField(max_length=200)
    reason = models.CharField(max_length=500, blank=True)
    digest = models.CharField(max_length=64)
    status = models.CharField(max_length=10, default="running", choices=[("running", "running"), ("done", "done")])
    events = models.IntegerField(default=0)
    attempts = models.IntegerField(default=0)
    messages = models.IntegerField(default=0)
    mentions = models.IntegerField(default=0, help_text="rows of replays, alerts, the audit, ... that named it")
    scanned = models.IntegerField(default=0)
    unreadable = models.IntegerField(default=0, help_text="events and attempts that no present key opens")
    sealed = models.BinaryField(null=True, editable=False)
    cursor = models.UUIDField(null=True)
    last = models.UUIDField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-at"]

    def __str__(self) -> str:
        return f"erasure {self.id}"


class TypeRate(models.Model):
    """What is usual of one source and type, by hour of the week (UTC), and whether it has gone silent."""

    source = models.ForeignKey("webhooks.Source", on_delete=models.CASCADE, related_name="rates")
    type = models.CharField(max_length=200, help_text='"" for all of the source together')
    usual = models.JSONField(default=list, help_text="168 events per hour, Monday 00:00 first")
    weeks = models.SmallIntegerField(default=0, help_text="learned from so many")
    spread = models.FloatField(default=1, help_text="variance over mean: how many events come at once")
    last_at = models.DateTimeField(null=True)
    watched_at = models.DateTimeField(null=True, help_text="when wsmon last looked")
    expected = models.FloatField(default=0, help_text="events since the last one, had they gone on as usual")
    silent_since = models.DateTimeField(null=True)
    learned_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["source", "type"], name="rate_once")]

    def __str__(self) -> str:
        return f"{self.source_id} {self.type}"


class Reconciliation(models.Model):
    """How the comparison of a source with the vendor's own list of events goes, and the lease on it."""

    source = models.OneToOneField(
        "webhooks.Source", on_delete=models.CASCADE, primary_key=True, related_name="reconciliation"
    )
    due_at = models.DateTimeField(db_default=Now())
    lease_until = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    done_at = models.DateTimeField(null=True, help_text="start of the last one that succeeded")
    found = models.IntegerField(default=0, help_text="events that never came and were fetched, ever")
    last_found = models.IntegerField(default=0, help_text="by the last one")
    failures = models.IntegerField(default=0, help_text="in a row")
    problem = models.CharField(max_length=300, blank=True)

    def __str__(self) -> str:
        return f"reconciliation of source {self.source_id}"
