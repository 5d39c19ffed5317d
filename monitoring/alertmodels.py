"""The tables of alerts, of the messages about them, and of who is told. See ``monitoring.alerts`` first."""

from __future__ import annotations

import re
import uuid

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Case, IntegerField, Q, Value, When
from django.db.models.functions import Now


class Severity(models.TextChoices):
    """How urgent an alert is."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


RANKS = {"": 0} | {severity.value: place for place, severity in enumerate(Severity, 1)}
"""Severities in order; "" is that of what nobody was told of."""


def rank(column: str) -> Case:
    """The same in a query."""
    places = [When(**{column: word}, then=Value(place)) for word, place in RANKS.items()]
    return Case(*places, default=Value(0), output_field=IntegerField())


class Alert(models.Model):
    """Something that a person should know, once while it lasts: ``count`` says how often it was raised."""

    key = models.CharField(max_length=200, help_text="what it is about: one open alert for each")
    kind = models.CharField(max_length=40)
    severity = models.CharField(max_length=10, choices=Severity.choices)
    title = models.CharField(max_length=200)
    detail = models.CharField(max_length=2000, blank=True)
    url = models.CharField(max_length=500, blank=True, help_text="the page that tells more")
    service = models.ForeignKey("monitoring.Service", null=True, on_delete=models.CASCADE, related_name="alerts")
    incident = models.ForeignKey("monitoring.Incident", null=True, on_delete=models.CASCADE, related_name="alerts")
    opened_at = models.DateTimeField()
    last_at = models.DateTimeField()
    count = models.IntegerField(default=1)
    resolved_at = models.DateTimeField(null=True)

    acknowledged_at = models.DateTimeField(null=True)
    acknowledged_by = models.CharField(max_length=200, blank=True, db_default="")
    inhibited_by = models.CharField(
        max_length=200, blank=True, db_default="", help_text="why nobody is told; empty: they are"
    )
    told_severity = models.CharField(
        max_length=10, blank=True, db_default="", help_text="the worst that anybody was told of"
    )
    escalation = models.CharField(max_length=60, blank=True, db_default="", help_text="the policy that it follows")
    step = models.SmallIntegerField(db_default=0, help_text="steps of the escalation that were taken")
    next_step_at = models.DateTimeField(null=True, help_text="when the next step or reminder is due")

    class Meta:
        db_table = "service_alerts"
        ordering = ["-opened_at", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["key"], condition=Q(resolved_at=None), name="one_open_alert_per_key")
        ]
        indexes = [
            # Housekeeping: drop what was resolved long ago.
            models.Index(fields=["resolved_at"], name="alert_resolved", condition=Q(resolved_at__isnull=False)),
            models.Index(fields=["next_step_at"], name="alert_step", condition=Q(next_step_at__isnull=False)),
            # What an open alert of a service stands for (monitoring.notifications.inhibition).
            models.Index(fields=["service", "kind"], name="alert_open", condition=Q(resolved_at=None)),
        ]

    def __str__(self) -> str:
        return f"{self.severity}: {self.title}"

    @property
    def silence(self) -> str:
        """Why nobody is told, in words."""
        told_by = re.search(r"incident:(\d+)$", self.inhibited_by)
        if told_by:
            return f"incident #{told_by[1]} says it"
        if self.inhibited_by == "own-connectivity":
            return "our own connectivity is to blame"
        return self.inhibited_by.removeprefix("alert: ")

    @property
    def mark(self) -> str:
        """The shape and colour that stand for its severity."""
        return "degraded" if self.severity == Severity.WARNING else self.severity


class Channel(models.Model):
    """Where messages go: an Apprise URL, plain SMTP, Twilio SMS, or subscribed browsers.

    ``reference`` (``env:X``, ``file:/p``) or ``encrypted`` holds the URL; never both. Addresses of plain
    SMTP are ``smtp(s)://user:password@host:port/?from=..&to=..``, of SMS ``twilio:+15551234,+15555678``, of
    browsers ``webpush:USERNAME`` or ``webpush:*``; everything else is Apprise's.
    """

    slug = models.SlugField(max_length=60, unique=True)
    reference = models.CharField(max_length=300, blank=True)
    encrypted = models.BinaryField(null=True, blank=True, editable=False)
    min_severity = models.CharField(max_length=10, choices=Severity.choices, default=Severity.WARNING)
    services = ArrayField(models.CharField(max_length=60), default=list, blank=True, help_text="slugs; empty: all")
    quiet_hours = models.JSONField(
        default=dict, blank=True, help_text='{"from": "22:00", "to": "07:00", "days": [..], "time_zone": ..}'
    )
    digest = models.FloatField(null=True, blank=True, help_text="seconds that messages are gathered for, into one")
    max_per_hour = models.PositiveIntegerField(default=60, help_text="above it they are counted, not sent")
    fallback = models.ForeignKey("self", null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    direct = models.BooleanField(default=True, help_text="told of every alert; otherwise only by an escalation")
    archived_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    sent_at = models.DateTimeField(null=True, editable=False, help_text="when a message last arrived")
    failing_since = models.DateTimeField(null=True, editable=False)
    problem = models.CharField(max_length=300, blank=True, editable=False)

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.slug


class Notification(models.Model):
    """One message to one channel: written with what it tells of, sent afterwards, never forgotten."""

    class State(models.TextChoices):
        """What became of it."""

        PENDING = "pending"
        SENDING = "sending"
        SENT = "sent"
        GATHERED = "gathered"
        """It went out as a line of another, a digest or a count."""
        DROPPED = "dropped"
        """It was not needed any more: over, or acknowledged, before it was due."""
        FAILED = "failed"
        """Its tries are used up: nobody got it by this channel."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    channel = models.ForeignKey(Channel, on_delete=models.CASCADE, related_name="notifications")
    alert = models.ForeignKey(Alert, null=True, on_delete=models.CASCADE, related_name="notifications")
    incident = models.ForeignKey(
        "monitoring.Incident", null=True, on_delete=models.CASCADE, related_name="notifications"
    )
    kind = models.CharField(max_length=20, help_text="opened, escalated, reminder, resolved, digest, storm, test")
    once = models.CharField(max_length=200, unique=True, help_text="the same message is written once")
    severity = models.CharField(max_length=10, choices=Severity.choices)
    title = models.CharField(max_length=200)
    body = models.TextField(blank=True)
    url = models.CharField(max_length=500, blank=True)
    recipient = models.CharField(max_length=200, blank=True, help_text="who is on call, in words")

    state = models.CharField(max_length=10, choices=State.choices, default=State.PENDING)
    due_at = models.DateTimeField(db_default=Now())
    lease_token = models.UUIDField(null=True)
    lease_until = models.DateTimeField(null=True)
    tries = models.SmallIntegerField(default=0)
    created_at = models.DateTimeField(db_default=Now())
    sent_at = models.DateTimeField(null=True)
    problem = models.CharField(max_length=300, blank=True)
    fallback_of = models.ForeignKey("self", null=True, on_delete=models.SET_NULL, related_name="fallbacks")
    gathered_in = models.ForeignKey("self", null=True, on_delete=models.SET_NULL, related_name="lines")

    class Meta:
        ordering = ["-created_at", "-id"]
        indexes = [
            # Claiming: what waits, what is on its way, and what a channel sent lately, by the channel's own.
            models.Index(
                fields=["channel", "due_at"], name="notification_due", condition=Q(state__in=["pending", "sending"])
            ),
            models.Index(fields=["channel"], name="notification_sending", condition=Q(state="sending")),
            models.Index(
                fields=["channel", "-sent_at"], name="notification_sent", condition=Q(state="sent") & ~Q(kind="test")
            ),
            models.Index(fields=["channel", "-created_at"], name="notification_storm", condition=Q(kind="storm")),
            models.Index(fields=["channel", "-created_at"], name="notification_channel"),
            models.Index(fields=["alert", "created_at"], name="notification_alert"),
            models.Index(fields=["incident", "created_at"], name="notification_incident"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} to {self.channel_id}: {self.title}"


class AckLink(models.Model):
    """A link in one message by which whoever got it acknowledges, once. The token itself is not kept."""

    notification = models.OneToOneField(Notification, on_delete=models.CASCADE, related_name="ack_link")
    alert = models.ForeignKey(Alert, on_delete=models.CASCADE, related_name="ack_links")
    digest = models.CharField(max_length=64, unique=True, help_text="SHA-256 of the token, in hex")
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True)
    used_from = models.GenericIPAddressField(null=True)

    def __str__(self) -> str:
        return f"acknowledge alert {self.alert_id}"


class Escalation(models.Model):
    """Who is told next while nobody acknowledges. ``steps``: [{"after": seconds, "notify": [names]}, ...].

    Names are of channels, or ``rotation:NAME`` for whoever is on call. ``remind_every`` repeats the last step.
    """

    slug = models.SlugField(max_length=60, unique=True)
    steps = models.JSONField(default=list)
    remind_every = models.FloatField(null=True, blank=True, help_text="seconds")
    services = ArrayField(models.CharField(max_length=60), default=list, blank=True, help_text="slugs; empty: all")
    min_severity = models.CharField(max_length=10, choices=Severity.choices, default=Severity.CRITICAL)
    archived_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.slug


class Rotation(models.Model):
    """Who is on call: people in turn by calendar week, or as an iCal feed's events say.

    ``people``: [{"name": .., "channels": [slugs]}, ...]; an event of the feed names one of them in its summary.
    """

    slug = models.SlugField(max_length=60, unique=True)
    people = models.JSONField(default=list)
    starts_on = models.DateField(null=True, blank=True, help_text="the first person's first day on call")
    handover = models.TimeField(default="09:00")
    time_zone = models.CharField(max_length=60, default="UTC")
    ical = models.CharField(max_length=300, blank=True, help_text="a reference to the feed's URL, or the URL")
    archived_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.slug


class AlertThresholds(models.Model):
    """One row: from when on wsmon's own rules raise alerts, as ``monitoring.alertrules.thresholds`` reads it.

    Only what differs from the defaults; no row means all defaults.
    """

    id = models.SmallIntegerField(primary_key=True, default=1, editable=False)
    values = models.JSONField(default=dict, blank=True, help_text="as under alerts: of wsmon.yaml")

    class Meta:
        verbose_name_plural = "alert thresholds"
        constraints = [models.CheckConstraint(condition=Q(id=1), name="one_alert_thresholds")]

    def __str__(self) -> str:
        return "alert thresholds"


class PushSubscription(models.Model):
    """A browser that asked for web push (RFC 8030). Endpoint and keys are encrypted: who has them can push."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="push_subscriptions")
    digest = models.CharField(max_length=64, unique=True, help_text="SHA-256 of the endpoint, in hex")
    encrypted = models.BinaryField(editable=False)
    label = models.CharField(max_length=200, blank=True, help_text="which browser it is, in words")
    created_at = models.DateTimeField(db_default=Now())
    used_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return self.label


class PushKey(models.Model):
    """One row: wsmon's own key pair for web push (VAPID, RFC 8292), made at first use. Browsers subscribe to it."""

    id = models.SmallIntegerField(primary_key=True, default=1, editable=False)
    encrypted = models.BinaryField(editable=False, help_text="the private key")
    public = models.CharField(max_length=120, help_text="base64url, uncompressed point")
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(id=1), name="one_push_key")]

    def __str__(self) -> str:
        return self.public
