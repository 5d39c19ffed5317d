"""The tables of critical days: rules, feeds, overrides, and what is in force now."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now


class CriticalRule(models.Model):
    """When a critical day is. ``spec`` has one of: ``every`` (weekdays), ``dates``, ``ranges``, ``rrule`` with
    ``starts_at``/``lasts``, ``ical`` with ``match``, ``holidays`` (country, subdivision). Seconds for durations.
    """

    slug = models.SlugField(max_length=60, unique=True)
    name = models.CharField(max_length=100, blank=True)
    spec = models.JSONField(default=dict)
    time_zone = models.CharField(max_length=60, blank=True, help_text="empty: WSMON_TIME_ZONE")
    lead = models.FloatField(default=7200, help_text="seconds before")
    trail = models.FloatField(default=0, help_text="seconds after")
    archived_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.name or self.slug


class CalendarFeed(models.Model):
    """An iCal feed as last read, kept by its owner's name (``critical:fairs``, ``rotation:ops``)."""

    owner = models.CharField(max_length=80, primary_key=True)
    text = models.TextField(blank=True, help_text="the calendar, as far as it could be read")
    etag = models.CharField(max_length=200, blank=True)
    read_at = models.DateTimeField(null=True, help_text="when it was last read whole")
    tried_at = models.DateTimeField(null=True)
    problem = models.CharField(max_length=300, blank=True)

    def __str__(self) -> str:
        return self.owner


class CriticalOverride(models.Model):
    """A person's word against the calendar: on or off until it expires."""

    on = models.BooleanField(help_text="a critical day is in force; otherwise none is")
    starts_at = models.DateTimeField(db_default=Now())
    ends_at = models.DateTimeField()
    reason = models.CharField(max_length=500)
    by = models.CharField(max_length=200)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-starts_at", "-id"]

    def __str__(self) -> str:
        return f"{'on' if self.on else 'off'} until {self.ends_at:%F %R}"


class Emergency(models.Model):
    """Everything at its strictest, for all services or one; it ends by itself."""

    service = models.ForeignKey(
        "monitoring.Service", null=True, blank=True, on_delete=models.CASCADE, related_name="emergencies"
    )
    starts_at = models.DateTimeField(db_default=Now())
    ends_at = models.DateTimeField()
    reason = models.CharField(max_length=500)
    by = models.CharField(max_length=200)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-starts_at", "-id"]
        verbose_name_plural = "emergencies"

    def __str__(self) -> str:
        return f"until {self.ends_at:%F %R}: {self.reason}"


class Posture(models.Model):
    """What is in force now, for SQL and for other processes: one row for everything, one for each service of an
    emergency. Factors multiply the configured values; ``until`` is when it must be worked out again.
    """

    service = models.OneToOneField("monitoring.Service", null=True, on_delete=models.CASCADE, related_name="posture")
    critical = models.BooleanField(default=False)
    emergency = models.BooleanField(default=False)
    interval = models.FloatField(default=1, help_text="factor of check intervals of services that matter")
    spare = models.FloatField(default=1, help_text="factor of check intervals of normal and low ones")
    timeout = models.FloatField(default=1)
    confirm = models.FloatField(default=1)
    recovery = models.FloatField(default=1)
    frozen = models.BooleanField(default=False)
    read_only = models.BooleanField(default=False)
    since = models.DateTimeField(null=True)
    until = models.DateTimeField(null=True)
    reasons = models.JSONField(default=list, help_text="[{rule, name, why, until}]")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["service"], name="one_posture", nulls_distinct=False),
        ]

    def __str__(self) -> str:
        return "critical" if self.critical else "usual"


class DeployRequest(models.Model):
    """A pipeline that asked whether it may deploy, and what it was told."""

    at = models.DateTimeField(db_default=Now())
    by = models.CharField(max_length=200)
    pipeline = models.CharField(max_length=200, blank=True)
    allowed = models.BooleanField()

    class Meta:
        ordering = ["-at", "-id"]

    def __str__(self) -> str:
        return f"{self.by} {self.at:%F %R}"


class DeployPass(models.Model):
    """One deploy that a person let through a freeze."""

    reason = models.CharField(max_length=500)
    by = models.CharField(max_length=200)
    created_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-created_at", "-id"]
        indexes = [models.Index(fields=["expires_at"], name="deploypass_free", condition=Q(used_at=None))]

    def __str__(self) -> str:
        return self.reason


class Forecast(models.Model):
    """What is expected of one number of a check, and when it crosses its limit.

    What was said first stands (``made_at`` to ``signal``) and is held against what came; ``renewed_at``,
    ``expected_at`` and ``points``, for the chart, follow the newest numbers.
    """

    check_ref = models.ForeignKey(
        "monitoring.Check", on_delete=models.CASCADE, related_name="forecasts", db_column="check_id"
    )
    metric = models.CharField(max_length=20, help_text="latency, errors, quota, certificate")
    made_at = models.DateTimeField(db_default=Now())
    value = models.FloatField(help_text="where it stood, in the metric's unit")
    slope = models.FloatField(help_text="units per hour")
    limit = models.FloatField()
    crosses_at = models.DateTimeField(null=True)
    earliest = models.DateTimeField(null=True)
    latest = models.DateTimeField(null=True)
    signal = models.FloatField(default=0, help_text="0..1: how far the trend stands out of the noise")
    renewed_at = models.DateTimeField(db_default=Now(), help_text="when it was last worked out anew")
    expected_at = models.DateTimeField(null=True, help_text="when it crosses, by the newest numbers")
    points = models.JSONField(default=list, help_text="[[epoch seconds, value, least, most], ...]")
    outcome = models.CharField(max_length=10, blank=True, help_text="came, averted, wrong; empty: open")
    settled_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-made_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["check_ref", "metric"], condition=Q(outcome=""), name="one_open_forecast_per_metric"
            )
        ]
        indexes = [models.Index(fields=["check_ref", "metric", "-made_at"], name="forecast_check")]

    def __str__(self) -> str:
        return f"{self.check_ref_id} {self.metric} {self.made_at:%F %R}"
