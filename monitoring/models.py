"""Services, checks and what was found. Configuration and fast-changing state stand in separate tables.

Nothing is deleted while it has history: a service or check that leaves the configuration is archived.
"""

from __future__ import annotations

import secrets
import uuid

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from monitoring.alertmodels import (
    AckLink,
    Alert,
    AlertThresholds,
    Channel,
    Escalation,
    Notification,
    PushKey,
    PushSubscription,
    Rotation,
)
from monitoring.breakermodels import (
    Breaker,
    BreakerMinute,
    BreakerSlot,
    BreakerTransition,
    Circuit,
    Guarded,
    RecoveryFactor,
)
from monitoring.criticalmodels import (
    CalendarFeed,
    CriticalOverride,
    CriticalRule,
    DeployPass,
    DeployRequest,
    Emergency,
    Forecast,
    Posture,
)
from monitoring.incidentmodels import ControlTarget, Incident, IncidentEntry, VendorStatus
from wsmon.vocabulary import Category, Criticality, Outcome, Status

__all__ = [
    "AckLink",
    "Alert",
    "AlertThresholds",
    "Breaker",
    "BreakerMinute",
    "BreakerSlot",
    "BreakerTransition",
    "CalendarFeed",
    "Channel",
    "Check",
    "CheckState",
    "Circuit",
    "ControlTarget",
    "Credential",
    "CriticalOverride",
    "CriticalRule",
    "DeployPass",
    "DeployRequest",
    "Emergency",
    "Escalation",
    "Forecast",
    "Guarded",
    "Heartbeat",
    "Incident",
    "IncidentEntry",
    "MaintenanceWindow",
    "Notification",
    "Posture",
    "ProbeResult",
    "Process",
    "PushKey",
    "PushSubscription",
    "RecoveryFactor",
    "Rollup",
    "Rotation",
    "Service",
    "ServiceSummary",
    "StateChange",
    "VendorStatus",
]

STATUSES = [(word.value, word.value.replace("_", " ")) for word in Status]
OUTCOMES = [(word.value, word.value) for word in Outcome]
CRITICALITIES = [(word.value, word.value) for word in Criticality]
CATEGORIES = [(word.value, word.value) for word in Category]


class Service(models.Model):
    """One external dependency. ``slug`` is its name in wsmon.yaml, in URLs and in the API."""

    slug = models.SlugField(max_length=60, unique=True)
    name = models.CharField(max_length=100, blank=True, help_text="shown instead of the slug")
    provider = models.CharField(max_length=60)
    criticality = models.CharField(max_length=10, choices=CRITICALITIES, default=Criticality.NORMAL)
    breaker = models.JSONField(default=dict, blank=True, help_text="the breaker's policy, as in wsmon.yaml")
    archived_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    status = models.CharField(max_length=15, choices=STATUSES, default=Status.UNKNOWN, editable=False)
    status_since = models.DateTimeField(db_default=Now(), editable=False)
    reason = models.CharField(max_length=500, blank=True, editable=False)

    class Meta:
        ordering = ["slug"]
        permissions = [("operate", "Can test, pause and maintain services")]

    def __str__(self) -> str:
        return self.label

    @property
    def label(self) -> str:
        """What people read: the name, or the slug."""
        return self.name or self.slug


class Credential(models.Model):
    """A variable of one service's provider: a reference (``env:X``, ``file:/p``) or an encrypted value."""

    service = models.ForeignKey(Service, on_delete=models.CASCADE, related_name="credentials")
    variable = models.CharField(max_length=80)
    reference = models.CharField(max_length=300, blank=True)
    encrypted = models.BinaryField(null=True, editable=False)
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["variable"]
        constraints = [
            models.UniqueConstraint(fields=["service", "variable"], name="one_value_per_variable"),
            models.CheckConstraint(
                condition=~Q(reference="") ^ Q(encrypted__isnull=False), name="reference_or_encrypted"
            ),
        ]

    def __str__(self) -> str:
        return self.variable


class Check(models.Model):
    """One thing probed on a schedule. All durations are seconds."""

    service = models.ForeignKey(Service, on_delete=models.CASCADE, related_name="checks")
    name = models.SlugField(max_length=60, help_text="unique in its service; defaults to the kind")
    kind = models.CharField(max_length=40)
    interval = models.FloatField(default=60, validators=[MinValueValidator(1), MaxValueValidator(86_400)])
    timeout = models.FloatField(default=5, validators=[MinValueValidator(0.1), MaxValueValidator(120)])
    degraded_over = models.FloatField(null=True, blank=True, validators=[MinValueValidator(0.001)])
    confirm_down = models.PositiveSmallIntegerField(
        default=2, validators=[MinValueValidator(1), MaxValueValidator(20)]
    )
    confirm_up = models.PositiveSmallIntegerField(default=2, validators=[MinValueValidator(1), MaxValueValidator(20)])
    options = models.JSONField(default=dict, blank=True, help_text="the kind's own settings, references unresolved")
    archived_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    paused_at = models.DateTimeField(null=True, blank=True, editable=False)
    paused_until = models.DateTimeField(null=True, blank=True, editable=False)
    paused_by = models.CharField(max_length=200, blank=True, editable=False)
    paused_reason = models.CharField(max_length=500, blank=True, editable=False)

    class Meta:
        db_table = "monitoring_configuration"
        ordering = ["service", "id"]
        constraints = [models.UniqueConstraint(fields=["service", "name"], name="check_name_in_service")]

    def __str__(self) -> str:
        return f"{self.service.slug}/{self.name}"


class CheckState(models.Model):
    """The fast-changing half of a check: its schedule, its lease, its verdict and its last result.

    ``recent`` holds the outcomes the verdict is made of, oldest first; ``recent_ms`` the sparkline.
    """

    check_ref = models.OneToOneField(
        Check, on_delete=models.CASCADE, primary_key=True, related_name="state", db_column="check_id"
    )
    next_due_at = models.DateTimeField(db_default=Now())
    lease_token = models.UUIDField(null=True)
    lease_until = models.DateTimeField(null=True)
    lease_owner = models.UUIDField(null=True, help_text="the Process that is probing")

    status = models.CharField(max_length=15, choices=STATUSES, default=Status.UNKNOWN)
    status_since = models.DateTimeField(db_default=Now())
    recent = ArrayField(models.CharField(max_length=10), default=list)
    recent_ms = ArrayField(models.FloatField(null=True), default=list)

    checked_at = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=10, choices=OUTCOMES, blank=True)
    category = models.CharField(max_length=30, choices=CATEGORIES, blank=True)
    message = models.CharField(max_length=500, blank=True)
    total_ms = models.FloatField(null=True)
    http_status = models.PositiveSmallIntegerField(null=True)
    details = models.JSONField(default=dict)
    missing = ArrayField(models.CharField(max_length=80), default=list, help_text="variables to set")

    class Meta:
        indexes = [
            # The claim in monitoring/claims.py: what is due, oldest first.
            models.Index(fields=["next_due_at"], name="checkstate_due"),
        ]

    def __str__(self) -> str:
        return f"{self.check_ref_id}: {self.status}"


class ProbeResult(models.Model):
    """One probe's result, raw. Partitioned by day (UTC); old partitions are dropped.

    The table is made by SQL in the migration, since Django knows no partitions.
    """

    pk = models.CompositePrimaryKey("at", "id")
    id = models.BigIntegerField(db_default=models.Value(0))
    at = models.DateTimeField()
    check_ref = models.ForeignKey(
        Check, on_delete=models.DO_NOTHING, db_column="check_id", db_constraint=False, related_name="results"
    )
    outcome = models.CharField(max_length=10, choices=OUTCOMES)
    category = models.CharField(max_length=30, blank=True)
    message = models.CharField(max_length=500, blank=True)
    total_ms = models.FloatField(null=True)
    dns_ms = models.FloatField(null=True)
    connect_ms = models.FloatField(null=True)
    tls_ms = models.FloatField(null=True)
    first_byte_ms = models.FloatField(null=True)
    http_status = models.PositiveSmallIntegerField(null=True)
    manual = models.BooleanField(default=False, help_text="asked for by a person or program, not scheduled")
    details = models.JSONField(default=dict)

    class Meta:
        managed = False
        db_table = "service_health_metrics"
        ordering = ["-at", "-id"]

    def __str__(self) -> str:
        return f"{self.check_ref_id} {self.at:%F %T} {self.outcome}"


class Rollup(models.Model):
    """Counts and a latency histogram of one check over one bucket of time.

    ``histogram[i]`` counts results in bin ``i`` of ``monitoring.histogram``; histograms add up, so any
    percentile over any span comes from few rows. Written in the transaction that stores the results,
    so that no result is counted twice or forgotten.
    """

    class Level(models.IntegerChoices):
        """The bucket's length in seconds. SLOT is a ninetieth of a day: one bar of the uptime strip."""

        MINUTE = 60
        SLOT = 960
        HOUR = 3600
        DAY = 86_400

    pk = models.CompositePrimaryKey("level", "check_id", "start")
    level = models.IntegerField(choices=Level.choices)
    check_id = models.BigIntegerField()
    start = models.DateTimeField()
    healthy = models.IntegerField(default=0)
    degraded = models.IntegerField(default=0)
    critical = models.IntegerField(default=0)
    error = models.IntegerField(default=0)
    sum_ms = models.FloatField(default=0)
    max_ms = models.FloatField(null=True)
    histogram = ArrayField(models.IntegerField(), default=list)

    def __str__(self) -> str:
        return f"{self.check_id} {self.level}s {self.start:%F %T}"


class ServiceSummary(models.Model):
    """What the overview shows of a service over a period, made from rollups by ``monitoring.summaries``.

    ``bar`` has 90 letters, oldest first: h, d, e, c for the worst outcome of a slot, ``.`` for no data;
    ``notes`` maps the index of a bad slot to its tooltip.
    """

    pk = models.CompositePrimaryKey("service_id", "period")
    service = models.ForeignKey(Service, on_delete=models.CASCADE, related_name="summaries")
    period = models.CharField(max_length=4)
    first_start = models.DateTimeField(help_text="start of the bar's first slot")
    bar = models.CharField(max_length=90)
    notes = models.JSONField(default=dict)
    uptime = models.FloatField(null=True)
    p50_ms = models.FloatField(null=True)
    p95_ms = models.FloatField(null=True)
    p99_ms = models.FloatField(null=True)
    healthy = models.BigIntegerField(default=0)
    degraded = models.BigIntegerField(default=0)
    critical = models.BigIntegerField(default=0)
    error = models.BigIntegerField(default=0)
    made_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "service summaries"

    def __str__(self) -> str:
        return f"{self.service_id} {self.period}"


class StateChange(models.Model):
    """A confirmed change of a check's status, or (``check_ref`` empty) of its service's."""

    at = models.DateTimeField()
    service = models.ForeignKey(Service, on_delete=models.CASCADE, related_name="changes")
    check_ref = models.ForeignKey(
        Check, null=True, on_delete=models.CASCADE, related_name="changes", db_column="check_id"
    )
    old = models.CharField(max_length=15, choices=STATUSES)
    new = models.CharField(max_length=15, choices=STATUSES)
    category = models.CharField(max_length=30, blank=True)
    reason = models.CharField(max_length=500, blank=True)

    class Meta:
        ordering = ["-at", "-id"]
        indexes = [
            # Timelines: of everything, of one service, of one check.
            models.Index(F("at").desc(), F("id").desc(), name="statechange_time"),
            models.Index("service", F("at").desc(), name="statechange_service"),
            models.Index("check_ref", F("at").desc(), name="statechange_check", condition=Q(check_ref__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.service_id}/{self.check_ref_id}: {self.old} to {self.new}"


def _heartbeat_token() -> str:
    return secrets.token_urlsafe(18)


class Heartbeat(models.Model):
    """The calls of one cron job. ``token`` is the secret in its URL."""

    check_ref = models.OneToOneField(
        Check, on_delete=models.CASCADE, primary_key=True, related_name="heartbeat", db_column="check_id"
    )
    token = models.CharField(max_length=40, unique=True, default=_heartbeat_token)
    created_at = models.DateTimeField(db_default=Now())
    last_success_at = models.DateTimeField(null=True)
    last_start_at = models.DateTimeField(null=True)
    last_fail_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"heartbeat of check {self.check_ref_id}"


class MaintenanceWindow(models.Model):
    """Planned work: probing goes on, alerts are held. One-off, or repeated by an RFC 5545 RRULE."""

    service = models.ForeignKey(
        Service,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="maintenance",
        help_text="empty: every service",
    )
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField(help_text="end of the first occurrence")
    recurrence = models.CharField(max_length=300, blank=True, help_text="e.g. FREQ=WEEKLY;BYDAY=SU")
    time_zone = models.CharField(max_length=60, default="UTC", help_text="in which recurrences keep their hour")
    reason = models.CharField(max_length=500)
    created_by = models.CharField(max_length=200, blank=True)
    cancelled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["starts_at"]
        constraints = [
            models.CheckConstraint(condition=Q(ends_at__gt=F("starts_at")), name="maintenance_ends_after_start")
        ]

    def __str__(self) -> str:
        return f"{self.starts_at:%F %R}: {self.reason}"


class Process(models.Model):
    """A running process of wsmon, so that wsmon can watch itself."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    role = models.CharField(max_length=10, choices=[("worker", "worker"), ("web", "web")])
    host = models.CharField(max_length=200)
    pid = models.IntegerField()
    started_at = models.DateTimeField(db_default=Now())
    seen_at = models.DateTimeField(db_default=Now())
    beat_at = models.DateTimeField(null=True, help_text="when it last received a tick of the scheduler")
    probes = models.BigIntegerField(default=0, help_text="probed since it started")
    probes_per_second = models.FloatField(default=0)
    late_ms = models.FloatField(default=0, help_text="99th percentile of the last minute's probes")

    class Meta:
        verbose_name_plural = "processes"

    def __str__(self) -> str:
        return f"{self.role} {self.pid} on {self.host}"
