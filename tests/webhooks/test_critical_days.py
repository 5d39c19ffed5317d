"""Webhooks on critical days: of critical priority goes first, and is tried again sooner."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from monitoring.critical import actions, effects, inforce
from tests.webhooks.engine import claim
from tests.webhooks.factories import make_delivery, make_destination
from webhooks import catalog, settling
from webhooks.models import Delivery
from webhooks.schedule import SHORTENED_UP_TO, Answer, in_a_hurry
from webhooks.settling import Tried
from webhooks.vocabulary import DEFAULT_RETRY, Priority
from wsmon.audit import Actor
from wsmon.vocabulary import Category

ANNA = Actor.system("anna")
BAD = Answer(500, Category.SERVER_ERROR, "oops")

# (priority, factor, the waits)
SCHEDULES = [
    (Priority.CRITICAL, 1.0, DEFAULT_RETRY),
    (Priority.CRITICAL, 0.5, (2.5, 15.0, 60.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0)),
    (Priority.HIGH, 0.5, DEFAULT_RETRY),
    (Priority.NORMAL, 0.5, DEFAULT_RETRY),
    (Priority.LOW, 0.5, DEFAULT_RETRY),
]


@pytest.mark.parametrize(("priority", "factor", "waits"), SCHEDULES)
def test_only_the_early_waits_of_critical_priority_are_shortened(
    priority: Priority, factor: float, waits: tuple[float, ...]
):
    assert in_a_hurry(DEFAULT_RETRY, priority, factor) == waits


@given(st.lists(st.floats(0, 100_000), max_size=10), st.sampled_from(Priority), st.floats(0.01, 1))
def test_no_delivery_is_given_up_much_earlier(retry: list[float], priority: Priority, factor: float):
    shorter = in_a_hurry(retry, priority, factor)
    assert len(shorter) == len(retry)
    assert all(new <= old for new, old in zip(shorter, retry, strict=True))
    assert sum(retry) - sum(shorter) <= len(retry) * SHORTENED_UP_TO


@pytest.mark.django_db(transaction=True)
class TestTries:
    @pytest.fixture(autouse=True)
    def _forget(self):
        for step in (effects.forget, inforce.forget):
            step()
        yield
        for step in (effects.forget, inforce.forget):
            step()

    def failed(self, priority: Priority) -> float:
        """Seconds to the next try of a delivery that failed once."""
        app = make_destination(f"app-{int(priority)}", retry=[10, 20])
        delivery = make_delivery(destination=app, priority=priority)
        (one,) = [found for found in claim() if found.id == delivery.id]
        now = timezone.now()
        known = catalog.refresh(max_age=0)
        settling.settle([Tried(one, known.destinations[app.id], BAD, now)])
        return (Delivery.objects.get(id=delivery.id).due_at - now).total_seconds()

    def test_on_a_critical_day_a_critical_one_is_tried_again_sooner(self):
        actions.override(True, timezone.now() + timedelta(hours=1), "a test", ANNA)
        assert 5 <= self.failed(Priority.CRITICAL) < 7
        assert 10 <= self.failed(Priority.NORMAL) < 13

    def test_on_a_usual_day_it_is_not(self):
        assert 10 <= self.failed(Priority.CRITICAL) < 13

    def test_every_process_knows_within_a_second(self, monkeypatch: pytest.MonkeyPatch):
        app = make_destination("app")
        assert catalog.refresh(max_age=0).destinations[app.id].retry_factor == 1
        actions.override(True, timezone.now() + timedelta(hours=1), "a test", ANNA)
        monkeypatch.setattr(effects, "FRESH_SECONDS", 0.0)
        assert catalog.refresh(max_age=0).destinations[app.id].retry_factor == 0.5
        actions.end_override(ANNA)
        assert catalog.refresh(max_age=0).destinations[app.id].retry_factor == 1

    def test_critical_ones_go_first_whatever_day_it_is(self):
        app = make_destination("app")
        made: list[Any] = [make_delivery(destination=app, priority=priority) for priority in reversed(Priority)]
        assert [one.priority for one in claim()] == sorted(delivery.priority for delivery in made)
