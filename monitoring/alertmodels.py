"""The table of alerts. ``monitoring.alerts`` alone writes it."""

from __future__ import annotations

from django.db import models
from django.db.models import Q


class Severity(models.TextChoices):
    """How urgent an alert is."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class Alert(models.Model):
    """Something that a person should know, once while it lasts: ``count`` says how often it was raised."""

    key = models.CharField(max_length=200, help_text="what it is about: one open alert for each")
    kind = models.CharField(max_length=40)
    severity = models.CharField(max_length=10, choices=Severity.choices)
    title = models.CharField(max_length=200)
    detail = models.CharField(max_length=2000, blank=True)
    url = models.CharField(max_length=500, blank=True, help_text="the page that tells more")
    service = models.ForeignKey("monitoring.Service", null=True, on_delete=models.CASCADE, related_name="alerts")
    opened_at = models.DateTimeField()
    last_at = models.DateTimeField()
    count = models.IntegerField(default=1)
    resolved_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "service_alerts"
        ordering = ["-opened_at", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["key"], condition=Q(resolved_at=None), name="one_open_alert_per_key")
        ]
        indexes = [
            # Housekeeping: drop what was resolved long ago.
            models.Index(fields=["resolved_at"], name="alert_resolved", condition=Q(resolved_at__isnull=False))
        ]

    def __str__(self) -> str:
        return f"{self.severity}: {self.title}"

    @property
    def mark(self) -> str:
        """The shape and colour that stand for its severity."""
        return "degraded" if self.severity == Severity.WARNING else self.severity
