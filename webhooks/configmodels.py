"""What people configure: sources, destinations, routes, and the secrets of the first two."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from webhooks.vocabulary import DEFAULT_RETRY, Priority

PRIORITIES = [(word.value, word.name.lower()) for word in Priority]


def default_retry() -> list[float]:
    """The schedule of a destination that names none, in seconds."""
    return list(DEFAULT_RETRY)


class Source(models.Model):
    """An inbound URL, ``/api/webhooks/<slug>``: a provider and its signing secrets.

    The source ``published`` is wsmon's own: what the team publishes belongs to it.
    """

    slug = models.SlugField(max_length=60, unique=True)
    provider = models.CharField(max_length=60)
    options = models.JSONField(default=dict, blank=True, help_text="the scheme's own settings, references unresolved")
    url = models.CharField(max_length=300, blank=True, help_text="as the vendor calls it, where that is signed")
    max_bytes = models.PositiveIntegerField(null=True, blank=True, validators=[MinValueValidator(1)])
    service = models.ForeignKey(
        "monitoring.Service", null=True, blank=True, on_delete=models.SET_NULL, related_name="sources"
    )
    watch_silence = models.BooleanField(default=True, help_text="raise an alert when its usual traffic stops")
    reconcile = models.BooleanField(default=False, help_text="ask the vendor for events that never came")
    archived_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.slug


class Destination(models.Model):
    """A URL that events are sent to. Durations are seconds."""

    slug = models.SlugField(max_length=60, unique=True)
    url = models.CharField(max_length=2000, help_text="or a reference, env:NAME")
    timeout = models.FloatField(default=10, validators=[MinValueValidator(0.1), MaxValueValidator(60)])
    headers = models.JSONField(default=dict, blank=True, help_text="sent with each request; values may be references")
    max_per_second = models.FloatField(null=True, blank=True, validators=[MinValueValidator(0.01)])
    concurrency = models.PositiveSmallIntegerField(
        default=8, validators=[MinValueValidator(1), MaxValueValidator(256)], help_text="requests at once"
    )
    order_by = models.CharField(
        max_length=200, blank=True, help_text='one at a time per key: "subject", or a path such as $.data.object.id'
    )
    retry = ArrayField(models.FloatField(), default=default_retry, blank=True, help_text="waits between tries")
    forward_headers = models.BooleanField(default=True, help_text="send the vendor's original headers along")
    service = models.ForeignKey(
        "monitoring.Service",
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="destinations",
        help_text="whose breaker it shares; empty: it has its own",
    )
    breaker = models.JSONField(default=dict, blank=True, help_text="its own breaker's policy, as in wsmon.yaml")
    disable_after = models.FloatField(
        default=432_000, validators=[MinValueValidator(60)], help_text="seconds of nothing but failures"
    )
    health_url = models.CharField(
        max_length=2000, blank=True, help_text="asked while wsmon has disabled it; a 2xx enables it again"
    )
    archived_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.slug


class DestinationState(models.Model):
    """The fast-changing half of a destination. Whoever claims its deliveries holds this row."""

    destination = models.OneToOneField(Destination, on_delete=models.CASCADE, primary_key=True, related_name="state")
    tokens = models.FloatField(default=1, help_text="requests that max_per_second allows just now")
    filled_at = models.DateTimeField(db_default=Now())
    held_until = models.DateTimeField(null=True, help_text="a Retry-After that is for all of it")
    paused_at = models.DateTimeField(null=True)
    paused_by = models.CharField(max_length=200, blank=True)
    paused_reason = models.CharField(max_length=500, blank=True)
    disabled_at = models.DateTimeField(null=True)
    disabled_by = models.CharField(max_length=200, blank=True, help_text="empty: wsmon itself")
    disabled_reason = models.CharField(max_length=500, blank=True)
    probed_at = models.DateTimeField(null=True, help_text="when its health URL was last asked")
    failing_since = models.DateTimeField(null=True)
    succeeded_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"state of destination {self.destination_id}"


class Secret(models.Model):
    """A reference (``env:X``, ``file:/p``) or an encrypted value. All are tried, or signed with, in their order."""

    source = models.ForeignKey(Source, null=True, blank=True, on_delete=models.CASCADE, related_name="secrets")
    destination = models.ForeignKey(
        Destination, null=True, blank=True, on_delete=models.CASCADE, related_name="secrets"
    )
    position = models.PositiveSmallIntegerField(default=0)
    reference = models.CharField(max_length=300, blank=True)
    encrypted = models.BinaryField(null=True, editable=False)
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["position", "id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(source__isnull=True) ^ Q(destination__isnull=True), name="secret_of_one_thing"
            ),
            models.CheckConstraint(
                condition=~Q(reference="") ^ Q(encrypted__isnull=False), name="secret_reference_or_encrypted"
            ),
        ]

    def __str__(self) -> str:
        return self.reference or "stored"


class Route(models.Model):
    """Which events of a source go to which destination.

    ``events`` are patterns in which ``*`` stands for anything; ``filters`` maps paths of the payload to
    the value, or the list of values, that must stand there.
    """

    source = models.ForeignKey(Source, on_delete=models.CASCADE, related_name="routes")
    destination = models.ForeignKey(Destination, on_delete=models.CASCADE, related_name="routes")
    events = ArrayField(models.CharField(max_length=200), default=list, blank=True, help_text="empty: all")
    filters = models.JSONField(default=dict, blank=True)
    priority = models.SmallIntegerField(choices=PRIORITIES, default=Priority.NORMAL)
    archived_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["source", "destination", "id"]

    def __str__(self) -> str:
        return f"{self.source} to {self.destination}"


class CatalogVersion(models.Model):
    """One row: raised by every change of sources, routes, destinations or secrets, so that processes look again."""

    id = models.SmallIntegerField(primary_key=True, default=1)
    version = models.BigIntegerField(default=0)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(id=1), name="one_catalog_version")]

    def __str__(self) -> str:
        return str(self.version)
