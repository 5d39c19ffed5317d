"""Rules, incidents and the outbox together: outcomes of probes in, messages out."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

import pytest
from django.utils import timezone

from monitoring import store
from monitoring.alertrules import breakers, budget, flapping, watch
from monitoring.alertrules.thresholds import Thresholds
from monitoring.critical import inforce
from monitoring.models import Alert, Breaker, Channel, Check, Incident, Notification
from monitoring.notifications import inhibition
from tests.monitoring.factories import finished, make_check, make_service, outcome
from wsmon.vocabulary import Category

pytestmark = pytest.mark.django_db


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> Check:
    monkeypatch.setattr(inforce, "is_critical", lambda _now=None, _service=None: False)
    Channel.objects.create(slug="ops", reference="webpush:*", min_severity="warning")
    return make_check(make_service("stripe"), name="api", interval=30)


def probe(check: Check, word: str, at: datetime) -> None:
    category = None if word == "healthy" else Category.SERVER_ERROR
    store.settle([finished(check, outcome(word, category=category), at=at)])


def told() -> Counter[str]:
    """Messages by kind of alert and what they say."""
    rows = Notification.objects.exclude(state="dropped").values_list("alert__kind", "kind")
    return Counter(f"{kind} {what}" for kind, what in rows)


def test_a_check_that_flaps_for_an_hour_is_few_messages(check: Check) -> None:
    start = timezone.now() - timedelta(hours=2)
    for number in range(120):
        at = start + timedelta(seconds=30 * number)
        probe(check, "critical" if number // 2 % 2 else "healthy", at)
        watch.run(flapping.RULE, Thresholds(), at)
        inhibition.refresh(at)
    assert Incident.objects.count() > 25, "each of them is on record"
    assert told() == {
        "incident opened": 3,
        "incident resolved": 3,
        "flapping opened": 1,
    }
    calm = start + timedelta(hours=1)
    for number in range(80):
        at = calm + timedelta(seconds=30 * number)
        probe(check, "healthy", at)
        watch.run(flapping.RULE, Thresholds(), at)
        inhibition.refresh(at)
    assert told() == {"incident opened": 3, "incident resolved": 3, "flapping opened": 1, "flapping resolved": 1}


def test_one_that_flaps_and_then_stays_down_is_told_once_it_has_settled(check: Check) -> None:
    start = timezone.now() - timedelta(hours=2)
    for number in range(160):
        at = start + timedelta(seconds=30 * number)
        probe(check, "critical" if number >= 40 or number // 2 % 2 else "healthy", at)
        watch.run(flapping.RULE, Thresholds(), at)
        inhibition.refresh(at)
    assert told()["incident opened"] == 4
    assert Alert.objects.get(kind="incident", resolved_at=None).inhibited_by == ""


def test_an_outage_is_one_message_whatever_else_is_found_of_it_and_one_when_it_is_over(check: Check) -> None:
    start = timezone.now() - timedelta(minutes=40)
    for number in range(60):
        at = start + timedelta(seconds=30 * number)
        probe(check, "critical" if 4 <= number < 44 else "healthy", at)
        if number == 6:
            Breaker.objects.create(service=check.service, state="OPEN", opened_at=at)
        if number == 43:
            Breaker.objects.update(state="CLOSED")
        for rule in (breakers.RULE, flapping.RULE, budget.RULE):
            watch.run(rule, Thresholds(), at)
        inhibition.refresh(at)
    assert set(Alert.objects.values_list("kind", flat=True)) == {"incident", "breaker", "error_budget"}
    assert told() == {"incident opened": 1, "incident resolved": 1}
