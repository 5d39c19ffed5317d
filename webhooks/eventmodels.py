"""What comes and goes: events, deliveries, attempts, and the counts made of them."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import Case, Q, When
from django.db.models.functions import Now

from providers.hooks import MessageStatus
from webhooks.configmodels import PRIORITIES, Destination, Route, Source
from webhooks.replaymodels import Replay
from webhooks.vocabulary import FAILING, UNFINISHED, WAITING, DeliveryStatus, Lane, Priority
from wsmon.ids import uuid7

STATUSES = [(word.value, word.value) for word in DeliveryStatus]
MESSAGE_STATUSES = [(word.value, word.value) for word in MessageStatus]
LANES = [(lane.value, lane.name.lower()) for lane in Lane]


class Event(models.Model):
    """One received or published webhook; immutable but for what is counted, and what is erased.

    ``sealed`` is an encrypted ``webhooks.sealing.Content``: headers, URL and the raw bytes. Of a batch, each
    event seals its own part, and the first one also ``request``: the whole of what was signed.
    """

    id = models.UUIDField(primary_key=True, default=uuid7)
    # No constraint: sources are archived, never deleted, and this is written by the thousand.
    source = models.ForeignKey(
        Source, on_delete=models.PROTECT, related_name="events", db_index=False, db_constraint=False
    )
    key = models.CharField(max_length=255, help_text="the vendor's event id")
    type = models.CharField(max_length=200)
    subject = models.CharField(max_length=255, blank=True)
    message_status = models.CharField(max_length=15, choices=MESSAGE_STATUSES, blank=True)
    occurred_at = models.DateTimeField(null=True)
    received_at = models.DateTimeField()
    size = models.IntegerField(help_text="bytes of the body")
    sha256 = models.BinaryField(help_text="of the body")
    address = models.GenericIPAddressField(null=True)
    verification = models.JSONField(default=dict, help_text="scheme, secret, signed_at, age")
    routed = models.SmallIntegerField(default=0, help_text="to so many destinations")
    duplicates = models.IntegerField(default=0, help_text="how often it came again")
    sealed = models.BinaryField(null=True, help_text="null: erased, or older than payloads are kept")
    request = models.BinaryField(null=True)
    batch = models.UUIDField(null=True, help_text="the event that keeps the request, of a batch")
    erased_at = models.DateTimeField(null=True)
    indexed = models.BooleanField(default=False, help_text="whether webhooks.search knows it")

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["source", "key"], name="event_once")]
        indexes = [
            models.Index(fields=["source", "-id"], name="event_source"),
            models.Index(fields=["type", "-id"], name="event_type"),
            # The list of events that no route took.
            models.Index(fields=["-id"], name="event_unrouted", condition=Q(routed=0)),
            # Housekeeping: what is to be indexed, and which payloads are too old.
            models.Index(fields=["id"], name="event_unindexed", condition=Q(indexed=False)),
            models.Index(fields=["id"], name="event_sealed", condition=Q(sealed__isnull=False)),
            # Erasing: what a try that was under way wrote afterwards.
            models.Index(fields=["erased_at"], name="event_erased", condition=Q(erased_at__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.key}"


class EventTokens(models.Model):
    """A blind index: keyed hashes of what stands in an event, so that encrypted payloads can be searched."""

    event = models.OneToOneField(Event, on_delete=models.CASCADE, primary_key=True, related_name="tokens")
    tokens = ArrayField(models.BigIntegerField())

    class Meta:
        indexes = [GinIndex(fields=["tokens"], name="event_tokens")]

    def __str__(self) -> str:
        return f"{len(self.tokens)} tokens of {self.event_id}"


class Message(models.Model):
    """What became of one message (mail, SMS, chat) by all that was heard of it; never moves backwards."""

    source = models.ForeignKey(Source, on_delete=models.CASCADE, related_name="messages")
    subject = models.CharField(max_length=255)
    status = models.CharField(max_length=15, choices=MESSAGE_STATUSES)
    rank = models.SmallIntegerField()
    changed_at = models.DateTimeField()
    event_id = models.UUIDField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["source", "subject"], name="message_once")]

    def __str__(self) -> str:
        return f"{self.subject}: {self.status}"


class Delivery(models.Model):
    """One event at one destination. ``source`` and ``type`` are the event's, for lists."""

    id = models.BigAutoField(primary_key=True)
    event = models.ForeignKey(Event, on_delete=models.CASCADE, related_name="deliveries")
    destination = models.ForeignKey(Destination, on_delete=models.PROTECT, related_name="deliveries", db_index=False)
    source = models.ForeignKey(Source, on_delete=models.PROTECT, related_name="+", db_index=False)
    type = models.CharField(max_length=200)
    route = models.ForeignKey(
        Route, null=True, on_delete=models.SET_NULL, related_name="+", db_index=False, db_constraint=False
    )
    replay = models.ForeignKey(
        Replay, null=True, on_delete=models.SET_NULL, related_name="deliveries", db_index=False
    )
    replay_of = models.BigIntegerField(null=True, help_text="the delivery that is repeated")
    status = models.CharField(max_length=10, choices=STATUSES, default=DeliveryStatus.PENDING)
    lane = models.SmallIntegerField(choices=LANES, default=Lane.LIVE)
    priority = models.SmallIntegerField(choices=PRIORITIES, default=Priority.NORMAL)
    order_key = models.CharField(max_length=255, blank=True)
    created_at = models.DateTimeField(db_default=Now())
    due_at = models.DateTimeField(db_default=Now())
    lease_token = models.UUIDField(null=True)
    lease_until = models.DateTimeField(null=True)
    tries = models.SmallIntegerField(default=0)
    max_tries = models.SmallIntegerField()
    tried_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    # What the last try found.
    http_status = models.SmallIntegerField(null=True)
    category = models.CharField(max_length=30, blank=True)
    message = models.CharField(max_length=300, blank=True)
    fingerprint = models.CharField(max_length=16, blank=True, help_text="equal answers have equal ones")
    total_ms = models.FloatField(null=True)

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "deliveries"
        indexes = [
            # The claim in webhooks/claims.py: what is due at each destination and lane, most urgent first; what is
            # sent one at a time per key by itself, for much of it may have to wait.
            models.Index(
                "destination",
                "lane",
                Case(When(order_key="", then=0), default=1),
                "priority",
                "due_at",
                name="delivery_due",
                condition=Q(status__in=WAITING),
            ),
            # How many are under way, and which leases have run out.
            models.Index(
                fields=["destination", "lease_until"], name="delivery_leased", condition=Q(status="delivering")
            ),
            # One at a time per key: is there an earlier one, and which key is the next?
            models.Index(
                fields=["destination", "order_key", "id"],
                name="delivery_order",
                condition=Q(status__in=UNFINISHED) & ~Q(order_key=""),
            ),
            # Lists.
            models.Index(fields=["destination", "-id"], name="delivery_destination"),
            models.Index(fields=["source", "-id"], name="delivery_source"),
            models.Index(fields=["type", "-id"], name="delivery_type"),
            # Failures, and lists of what is not delivered.
            models.Index(fields=["status", "-id"], name="delivery_bad", condition=~Q(status="delivered")),
            # The groups of failures (webhooks/failures.py), without a look at the rows themselves.
            models.Index(
                fields=["-tried_at"],
                include=["id", "status", "event", "source", "destination", "category", "http_status", "fingerprint"],
                name="delivery_failing",
                condition=Q(status__in=FAILING),
            ),
            # How many wait for a person, and the newest events that failed (webhooks/filters.py).
            models.Index(
                fields=["-event", "destination", "id"], name="delivery_failed", condition=Q(status="failed")
            ),
            # Was it sent again? Asked of each failed delivery (webhooks/filters.py, current).
            models.Index(fields=["event", "destination", "id"], name="delivery_again", condition=Q(lane=Lane.REPLAY)),
            models.Index(fields=["replay"], name="delivery_replay", condition=Q(replay__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"delivery {self.id}: {self.status}"


class Attempt(models.Model):
    """One HTTP try of a delivery. ``sealed`` holds what was sent (headers) and answered (headers, body to 16 KB)."""

    id = models.BigAutoField(primary_key=True)
    delivery = models.ForeignKey(Delivery, on_delete=models.CASCADE, related_name="attempts")
    number = models.SmallIntegerField()
    at = models.DateTimeField()
    ok = models.BooleanField()
    trial = models.BooleanField(default=False, help_text="of an open breaker")
    http_status = models.SmallIntegerField(null=True)
    category = models.CharField(max_length=30, blank=True)
    message = models.CharField(max_length=300, blank=True)
    fingerprint = models.CharField(max_length=16, blank=True)
    dns_ms = models.FloatField(null=True)
    connect_ms = models.FloatField(null=True)
    tls_ms = models.FloatField(null=True)
    first_byte_ms = models.FloatField(null=True)
    total_ms = models.FloatField(null=True)
    sealed = models.BinaryField(null=True)

    class Meta:
        db_table = "webhook_delivery_log"
        ordering = ["delivery", "number"]

    def __str__(self) -> str:
        return f"try {self.number} of delivery {self.delivery_id}"


class Refusal(models.Model):
    """Requests that were refused, of one kind in one minute: counted, with the last one's size and hash."""

    at = models.DateTimeField(help_text="the minute")
    source = models.CharField(max_length=60, help_text='as in the URL; "?" for names that no source has')
    code = models.CharField(max_length=30)
    message = models.CharField(max_length=300, blank=True)
    address = models.GenericIPAddressField(null=True)
    size = models.IntegerField()
    sha256 = models.BinaryField(null=True)
    count = models.IntegerField(default=1)
    last_at = models.DateTimeField()

    class Meta:
        ordering = ["-at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["at", "source", "code", "address"], name="refusal_once", nulls_distinct=False
            )
        ]

    def __str__(self) -> str:
        return f"{self.count} x {self.code} at {self.source}"


class EventCount(models.Model):
    """Events of one source and type in one bucket of time; written along with them."""

    class Level(models.IntegerChoices):
        """The bucket's length in seconds."""

        MINUTE = 60
        HOUR = 3600

    pk = models.CompositePrimaryKey("level", "source_id", "type", "start")
    level = models.IntegerField(choices=Level.choices)
    source_id = models.BigIntegerField()
    type = models.CharField(max_length=200)
    start = models.DateTimeField()
    events = models.IntegerField(default=0)
    duplicates = models.IntegerField(default=0)

    class Meta:
        indexes = [models.Index(fields=["level", "start"], name="eventcount_start")]

    def __str__(self) -> str:
        return f"{self.source_id} {self.type} {self.level}s {self.start:%F %R}: {self.events}"


class DeliveryCount(models.Model):
    """Tries from one source to one destination in one bucket; ``histogram`` as in ``monitoring.histogram``."""

    class Level(models.IntegerChoices):
        """The bucket's length in seconds; days are those of UTC. Each try is counted at every level."""

        MINUTE = 60
        HOUR = 3600
        DAY = 86400

    pk = models.CompositePrimaryKey("level", "source_id", "destination_id", "start")
    level = models.IntegerField(choices=Level.choices)
    source_id = models.BigIntegerField()
    destination_id = models.BigIntegerField()
    start = models.DateTimeField()
    tries = models.IntegerField(default=0)
    tries_failed = models.IntegerField(default=0)
    delivered = models.IntegerField(default=0)
    failed = models.IntegerField(default=0, help_text="dead letters")
    sum_ms = models.FloatField(default=0)
    histogram = ArrayField(models.IntegerField(), default=list)

    class Meta:
        indexes = [models.Index(fields=["level", "start"], name="deliverycount_start")]

    def __str__(self) -> str:
        return f"{self.source_id} to {self.destination_id} {self.level}s {self.start:%F %R}"
