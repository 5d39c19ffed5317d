"""The tables of the circuit breakers. ``monitoring.breakers.store`` alone writes them, but for circuits.

A breaker is a service's, or that of a circuit, whose id is of the same sequence: ``service_id`` is either.
So the database has no constraint on it, and only :class:`Guarded` knows every id.
"""

from __future__ import annotations

from django.db import models
from django.db.models import F, Func, Value
from django.db.models.functions import Now

MODES = [(word, word) for word in ("CLOSED", "OPEN", "HALF_OPEN")]


class Circuit(models.Model):
    """Something that is no service and has a breaker of its own. ``monitoring.breakers.circuits`` writes it."""

    id = models.BigIntegerField(
        primary_key=True,
        editable=False,
        db_default=Func(
            Value("monitoring_service_id_seq"), function="nextval", output_field=models.BigIntegerField()
        ),
    )
    name = models.CharField(max_length=100, unique=True, help_text="with its kind, e.g. destination:app")
    label = models.CharField(max_length=100)
    policy = models.JSONField(default=dict, blank=True, help_text="as Service.breaker")
    url = models.CharField(max_length=500, blank=True, help_text="its page")
    archived_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["name"]
        constraints = [
            # With a colon, which no service's name has.
            models.CheckConstraint(
                condition=models.Q(name__regex=r"^[a-z]+:[-a-zA-Z0-9_]+$"), name="circuit_name_with_kind"
            )
        ]

    def __str__(self) -> str:
        return self.name


class Guarded(models.Model):
    """Whatever has a breaker, services and circuits alike: a view, which the migration makes by SQL."""

    id = models.BigIntegerField(primary_key=True)
    slug = models.CharField(max_length=100, db_column="name")
    label = models.CharField(max_length=100)
    policy = models.JSONField()
    archived_at = models.DateTimeField(null=True)
    url = models.CharField(max_length=500)
    is_service = models.BooleanField()

    class Meta:
        managed = False
        default_permissions = ()
        db_table = "monitoring_guarded"
        ordering = ["-is_service", "slug"]

    def __str__(self) -> str:
        return self.label

    @property
    def kind(self) -> str:
        """What it is: "service", "destination"."""
        return kind_of(self.slug)


def kind_of(name: str) -> str:
    """What has the breaker of that name: the word before the colon, or a service."""
    kind, colon, _rest = name.partition(":")
    return kind if colon else "service"


class Breaker(models.Model):
    """The shared state of a breaker; no row means CLOSED since ever. See ``breakers.machine.State``."""

    service = models.OneToOneField(
        "monitoring.Service",
        on_delete=models.CASCADE,
        primary_key=True,
        related_name="circuit",
        db_constraint=False,
    )
    state = models.CharField(max_length=10, choices=MODES, default="CLOSED")
    generation = models.BigIntegerField(default=0)
    since = models.DateTimeField(null=True)
    opened_at = models.DateTimeField(null=True)
    openings = models.IntegerField(default=0)
    open_for = models.FloatField(default=0, help_text="seconds, before the critical day's factor")
    not_before = models.DateTimeField(null=True)
    score = models.IntegerField(default=0)
    successes = models.IntegerField(default=0)
    trials = models.JSONField(default=list, help_text="[{token, until, by}]")
    cause = models.CharField(max_length=20, blank=True)
    reason = models.CharField(max_length=500, blank=True)
    forced = models.CharField(max_length=10, choices=MODES, blank=True)
    forced_by = models.CharField(max_length=200, blank=True)
    forced_reason = models.CharField(max_length=500, blank=True)
    forced_at = models.DateTimeField(null=True)
    forced_until = models.DateTimeField(null=True)

    class Meta:
        db_table = "circuit_breaker_status"

    def __str__(self) -> str:
        return f"{self.service_id}: {self.forced or self.state}"


class BreakerSlot(models.Model):
    """Calls of one generation in one bucket of the window, over all processes; kept for minutes."""

    pk = models.CompositePrimaryKey("service_id", "generation", "start")
    service = models.ForeignKey("monitoring.Service", on_delete=models.CASCADE, related_name="+", db_constraint=False)
    generation = models.BigIntegerField()
    start = models.DateTimeField()
    ok = models.IntegerField(default=0)
    fail = models.IntegerField(default=0)
    credential = models.IntegerField(default=0)
    limited = models.IntegerField(default=0)
    retry_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [models.Index(fields=["start"], name="breakerslot_old")]  # housekeeping: drop what is old

    def __str__(self) -> str:
        return f"{self.service_id}/{self.generation} {self.start:%T}: {self.ok} ok, {self.fail} failed"


class BreakerMinute(models.Model):
    """Calls of one minute, whatever the state: what charts and metrics are made of."""

    pk = models.CompositePrimaryKey("service_id", "start")
    service = models.ForeignKey("monitoring.Service", on_delete=models.CASCADE, related_name="+", db_constraint=False)
    start = models.DateTimeField()
    ok = models.IntegerField(default=0)
    fail = models.IntegerField(default=0)
    rejected = models.IntegerField(default=0)

    class Meta:
        indexes = [models.Index(fields=["start"], name="breakerminute_start")]  # everything of a timeframe

    def __str__(self) -> str:
        return f"{self.service_id} {self.start:%F %R}"


class BreakerTransition(models.Model):
    """One change of a breaker's state or override; the log alone reproduces the present state."""

    at = models.DateTimeField()
    service = models.ForeignKey(
        "monitoring.Service", on_delete=models.CASCADE, related_name="transitions", db_constraint=False
    )
    generation = models.BigIntegerField(help_text="the one that begins here")
    old = models.CharField(max_length=10, choices=MODES)
    new = models.CharField(max_length=10, choices=MODES)
    trigger = models.CharField(max_length=20)
    by = models.CharField(max_length=200, blank=True)
    cause = models.CharField(max_length=20, blank=True)
    reason = models.CharField(max_length=500, blank=True)
    openings = models.IntegerField(default=0)
    open_for = models.FloatField(default=0)
    not_before = models.DateTimeField(null=True)
    forced = models.CharField(max_length=10, choices=MODES, blank=True)
    forced_until = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-at", "-id"]
        indexes = [
            # The history of all, and of one.
            models.Index(F("at").desc(), F("id").desc(), name="breakertransition_time"),
            models.Index("service", F("at").desc(), name="breakertransition_service"),
        ]

    def __str__(self) -> str:
        return f"{self.service_id} {self.at:%F %T}: {self.old} to {self.new}"


class RecoveryFactor(models.Model):
    """One row: by what open times are multiplied. A critical day makes it 0.5."""

    id = models.SmallIntegerField(primary_key=True, default=1)
    factor = models.FloatField(default=1.0)
    changed_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(id=1), name="one_recovery_factor"),
            models.CheckConstraint(condition=models.Q(factor__gt=0, factor__lte=1), name="recovery_factor_share"),
        ]

    def __str__(self) -> str:
        return f"{self.factor:g}"
