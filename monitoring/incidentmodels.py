"""The tables of incidents: from confirmed failure to confirmed recovery of one service."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now


class Verdict(models.TextChoices):
    """Whose fault an incident is."""

    OURS = "ours"
    THEIRS = "theirs"
    UNCLEAR = "unclear"


class Incident(models.Model):
    """A service's time of not being healthy. ``evidence`` is a list as ``monitoring.incidents.verdict`` makes it."""

    service = models.ForeignKey("monitoring.Service", on_delete=models.CASCADE, related_name="incidents")
    began_at = models.DateTimeField(help_text="the first failing probe")
    opened_at = models.DateTimeField(help_text="when the failure was confirmed")
    closed_at = models.DateTimeField(null=True)
    closed_by = models.CharField(max_length=200, blank=True, help_text="empty: the recovery was confirmed")
    status = models.CharField(max_length=15, help_text="the service's present one; of a closed incident its last")
    worst = models.CharField(max_length=15, help_text="the worst that it was")
    category = models.CharField(max_length=30, blank=True)
    title = models.CharField(max_length=200)
    reason = models.CharField(max_length=500, blank=True)
    critical_day = models.BooleanField(default=False, help_text="it began on one")

    verdict = models.CharField(max_length=10, choices=Verdict.choices, default=Verdict.UNCLEAR)
    confidence = models.FloatField(default=0, help_text="0..1")
    evidence = models.JSONField(default=list)
    judged_at = models.DateTimeField(null=True)
    admitted_at = models.DateTimeField(null=True, help_text="when the vendor's own page first said so")

    acknowledged_at = models.DateTimeField(null=True)
    acknowledged_by = models.CharField(max_length=200, blank=True)
    assignee = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="incidents"
    )

    class Meta:
        ordering = ["-opened_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["service"], condition=Q(closed_at=None), name="one_open_incident_per_service"
            )
        ]
        indexes = [models.Index(fields=["service", "-opened_at"], name="incident_service")]

    def __str__(self) -> str:
        return f"#{self.pk} {self.title}"


class IncidentEntry(models.Model):
    """What happened in an incident and stands nowhere else; state changes, breakers and messages have own tables."""

    class Kind(models.TextChoices):
        """What it is."""

        OPENED = "opened"
        WORSE = "worse"
        VERDICT = "verdict"
        VENDOR = "vendor"
        DELIVERIES = "deliveries"
        ACKNOWLEDGED = "acknowledged"
        ASSIGNED = "assigned"
        NOTE = "note"
        ESCALATED = "escalated"
        RESOLVED = "resolved"
        REOPENED = "reopened"

    incident = models.ForeignKey(Incident, on_delete=models.CASCADE, related_name="entries")
    at = models.DateTimeField(db_default=Now())
    kind = models.CharField(max_length=15, choices=Kind.choices)
    text = models.CharField(max_length=500)
    detail = models.CharField(max_length=4000, blank=True)
    by = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["-at", "-id"]
        verbose_name_plural = "incident entries"
        indexes = [models.Index(fields=["incident", "-at"], name="incidententry_time")]

    def __str__(self) -> str:
        return f"{self.incident_id} {self.kind}: {self.text}"


class VendorStatus(models.Model):
    """What a vendor says of itself, as last read from its status page: one row for each provider in use."""

    provider = models.CharField(max_length=60, primary_key=True)
    indicator = models.CharField(max_length=10, blank=True, help_text="none, minor, major, critical; empty: unknown")
    text = models.CharField(max_length=300, blank=True)
    posts = models.JSONField(default=list, help_text="open incidents: [{id, title, status, at, url}]")
    maintenance = models.JSONField(default=list, help_text="[{id, title, starts_at, ends_at, url}]")
    changed_at = models.DateTimeField(null=True)
    read_at = models.DateTimeField(null=True)
    problem = models.CharField(max_length=300, blank=True)
    etag = models.CharField(max_length=200, blank=True)

    class Meta:
        verbose_name_plural = "vendor statuses"

    def __str__(self) -> str:
        return f"{self.provider}: {self.indicator}"


class ControlTarget(models.Model):
    """Something outside that always answers, as last tried: when it does not, it is our own network."""

    address = models.CharField(max_length=200, primary_key=True, help_text="host:port")
    reachable = models.BooleanField()
    took_ms = models.FloatField(null=True)
    problem = models.CharField(max_length=300, blank=True)
    since = models.DateTimeField(help_text="since when it is so")
    tried_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.address}: {'reachable' if self.reachable else self.problem}"
