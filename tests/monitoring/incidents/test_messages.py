"""What happens to a service in, messages out: one when it begins, one when it is over, whoever notices first."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from monitoring import actions, store
from monitoring.alertrules import breakers, watch
from monitoring.alertrules.thresholds import Thresholds
from monitoring.breakers import store as breaker_store
from monitoring.breakers.machine import Mode
from monitoring.breakers.store import Counted, Counts
from monitoring.incidents import store as incidents
from monitoring.models import Alert, Breaker, Channel, Incident, MaintenanceWindow, Notification
from monitoring.notifications import inhibition
from tests.monitoring.factories import finished, make_check, make_service, outcome
from tests.monitoring.notifications.factories import make_channel
from wsmon.audit import Actor
from wsmon.vocabulary import Category

pytestmark = pytest.mark.django_db

OUTCOMES = {
    "h": ("healthy", None),
    "d": ("degraded", None),
    "c": ("critical", Category.SERVER_ERROR),
    "e": ("error", Category.AUTHENTICATION_ERROR),
}
CALLS = {
    "b": Counts(fail=20),
    "k": Counts(fail=20, credential=20),
    "l": Counts(fail=20, limited=20),
}
"""Calls of the application that open the breaker: they fail, their credential is refused, they are too many."""


class World:
    """A service with a check and a breaker, and two channels."""

    def __init__(self, criticality: str = "normal") -> None:
        self.channels = [make_channel(slug, min_severity="warning") for slug in ("mail", "chat")]
        self.check = make_check(make_service("stripe", criticality=criticality), name="api", interval=30)
        self.now = timezone.now() - timedelta(minutes=30)

    def live(self, story: str) -> None:
        """Half a minute for each letter; the rules look after each."""
        for letter in story:
            self.now += timedelta(seconds=30)
            self.happen(letter)
            watch.run(breakers.RULE, Thresholds(), self.now)
            inhibition.refresh(self.now)

    def happen(self, letter: str) -> None:
        """h, d, c, e: a probe. b, k, l: calls open the breaker, x: it closes. f: a person holds it open, u: not."""
        service = self.check.service_id
        if letter in OUTCOMES:
            word, category = OUTCOMES[letter]
            store.settle([finished(self.check, outcome(word, category=category), at=self.now)])
        elif letter in CALLS:
            shared = breaker_store.read(["stripe"])["stripe"]
            breaker_store.count([Counted(service, shared.state.generation, 1.0, CALLS[letter])])
            assert breaker_store.open_if_crossed(service, shared.state.generation) is not None
        elif letter == "x":
            breaker_store.reset(service, "eve", "it works")
        else:
            breaker_store.force(service, Mode.OPEN if letter == "f" else None, "eve", "moving house", None)

    def told(self, channel: Channel) -> list[str]:
        """What a channel is told, in order."""
        rows = Notification.objects.filter(channel=channel).exclude(state="dropped").order_by("created_at", "id")
        return [f"{row.alert.kind} {row.kind} {row.severity}" for row in rows.select_related("alert") if row.alert]


@pytest.mark.parametrize(
    ("story", "messages"),
    [
        # A probe notices first.
        ("hcc", ["incident opened critical"]),
        ("hccb", ["incident opened critical"]),
        ("hccbxhh", ["incident opened critical", "incident resolved critical"]),
        ("hccbhhx", ["incident opened critical", "incident resolved warning"]),
        ("hddcc", ["incident opened warning", "incident worse critical"]),
        # The application's calls notice first: it is critical from its beginning, and the probes' word is no news.
        ("hb", ["incident opened critical"]),
        ("hbcc", ["incident opened critical"]),
        ("hbccxhh", ["incident opened critical", "incident resolved critical"]),
        ("hbx", ["incident opened critical", "incident resolved critical"]),
        ("hbcchhx", ["incident opened critical", "incident resolved warning"]),
        # One opening is one beginning.
        ("hbxb", ["incident opened critical", "incident resolved critical", "incident opened critical"]),
        # A person holds it open, or it is not the service that fails: worth a look, and no more.
        ("hf", ["incident opened warning"]),
        ("hfu", ["incident opened warning", "incident resolved warning"]),
        ("hfcc", ["incident opened warning", "incident worse critical"]),
        ("hk", ["incident opened warning"]),
        ("hkee", ["incident opened warning"]),
        ("hl", ["incident opened warning"]),
        # Our own error says what its breaker would.
        ("hee", ["own_error opened warning"]),
        ("heek", ["own_error opened warning"]),
        ("heekxhh", ["own_error opened warning", "own_error resolved warning"]),
        ("heekcc", ["own_error opened warning", "incident opened critical", "own_error resolved warning"]),
        # But not that other calls of ours find the service out of order.
        ("heeb", ["own_error opened warning", "breaker opened warning"]),
    ],
)
def test_a_story_is_told_once(story: str, messages: list[str]) -> None:
    world = World()
    world.live(story)
    for channel in world.channels:
        assert world.told(channel) == messages


def test_what_matters_little_is_a_warning_even_when_it_is_cut_off() -> None:
    world = World(criticality="low")
    world.live("hbcc")
    assert world.told(world.channels[0]) == ["incident opened warning"]


def test_the_silenced_breaker_is_listed_with_the_reason() -> None:
    world = World()
    world.live("heek")
    assert Breaker.objects.get().cause == "credential"
    assert Alert.objects.get(kind="breaker").inhibited_by == "alert: own-error:stripe"


def test_the_incident_takes_the_words_of_the_probes_once_they_confirm_it() -> None:
    world = World()
    world.live("hb")
    incident = Incident.objects.get()
    assert (incident.status, incident.category) == ("degraded", "BREAKER_OPEN")
    assert Alert.objects.get(kind="incident").title == "stripe is held back by its breaker"
    world.live("cc")
    incident.refresh_from_db()
    assert (incident.status, incident.worst, incident.category) == ("critical", "critical", "SERVER_ERROR")
    assert Alert.objects.get(kind="incident").title == "stripe answers with errors of its own"


def test_what_was_held_back_by_maintenance_is_told_as_urgent_as_it_is() -> None:
    """The reason is over while the breaker is still open: the severity is worked out anew."""
    world = World()
    start, end = timezone.now() - timedelta(hours=1), timezone.now() + timedelta(hours=1)
    actions.start_maintenance(world.check.service, start, end, "pool moves", Actor.system("ops"))
    world.live("hb")
    assert world.told(world.channels[0]) == []
    MaintenanceWindow.objects.all().delete()
    incidents.uninhibit(Incident.objects.select_related("service").get(), timezone.now())
    assert world.told(world.channels[0]) == ["incident opened critical"]
