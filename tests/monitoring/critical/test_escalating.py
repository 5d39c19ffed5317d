"""Who is told of an emergency, and how high an alert begins on a critical day."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from monitoring import alerts
from monitoring.critical import actions
from monitoring.escalation import running
from monitoring.models import Channel, Escalation, Notification
from tests.monitoring.factories import make_service
from wsmon.audit import Actor

pytestmark = pytest.mark.django_db
ANNA = Actor.system("anna")


@pytest.fixture(autouse=True)
def ladder() -> None:
    """Three channels, each a step of its own."""
    for slug in ("chat", "phone", "boss"):
        Channel.objects.create(slug=slug, direct=False)
    steps = [{"after": 60 * place, "notify": [slug]} for place, slug in enumerate(("chat", "phone", "boss"), 1)]
    Escalation.objects.create(slug="ops", steps=steps)


def told(after: float = 0) -> list[str]:
    running.run_due(timezone.now() + timedelta(seconds=after))
    return sorted(Notification.objects.values_list("channel__slug", flat=True))


def test_of_an_emergency_everybody_is_told_at_once():
    actions.start_emergency(None, "fire", ANNA)
    assert told() == ["boss", "chat", "phone"]


def test_of_one_of_one_service_too():
    actions.start_emergency(make_service("stripe"), "payments fail", ANNA)
    assert told() == ["boss", "chat", "phone"]


def test_on_a_critical_day_an_alert_begins_one_step_higher():
    actions.override(True, timezone.now() + timedelta(hours=1), "the launch", ANNA)
    alerts.raise_alert("x", "thing", "critical", "It is broken")
    assert told() == []
    assert told(60) == ["chat", "phone"]


def test_on_a_usual_day_it_begins_at_the_first():
    alerts.raise_alert("x", "thing", "critical", "It is broken")
    assert told() == []
    assert told(60) == ["chat"]
