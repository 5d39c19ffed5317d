"""What the alerts' page says of rotations and escalations."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest
from django.template.loader import render_to_string
from django.utils import timezone

from monitoring import alerts
from monitoring.critical import inforce
from monitoring.escalation import reads, running
from monitoring.models import Alert, CalendarFeed, Channel, Escalation, Rotation

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
PEOPLE = [{"name": "Ana", "channels": ["ana-sms"]}, {"name": "Ben", "channels": ["ben-sms"]}]
STEPS = [
    {"after": 0, "notify": ["chat"]},
    {"after": 300, "notify": ["rotation:ops"]},
    {"after": 900, "notify": ["boss", "rotation:none"]},
]

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def usual_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inforce, "is_critical", lambda _now=None, _service=None: False)


def team(**more: Any) -> Rotation:
    values: dict[str, Any] = {"slug": "ops", "people": PEOPLE, "starts_on": date(2026, 11, 23)}
    return Rotation.objects.create(**values | more)


def policy(**more: Any) -> Escalation:
    values: dict[str, Any] = {"slug": "ops", "steps": STEPS, "remind_every": 1800}
    return Escalation.objects.create(**values | more)


def test_who_is_on_call_until_when_and_who_is_next() -> None:
    team()
    [view] = reads.shown(NOW).rotations
    assert [one.person.name for one in view.duties] == ["Ana"]
    assert view.then is not None
    assert (view.then.person.name, view.then.since) == ("Ben", datetime(2026, 11, 30, 9, tzinfo=UTC))
    assert view.mark == "healthy"


def test_one_that_has_not_begun_says_who_begins_when() -> None:
    team(starts_on=date(2026, 12, 7))
    [view] = reads.shown(NOW).rotations
    assert (view.duties, view.mark) == ((), "degraded")
    assert view.then is not None
    assert (view.then.person.name, view.then.since.day) == ("Ana", 7)


def test_somebody_alone_has_nobody_after() -> None:
    team(people=PEOPLE[:1])
    assert reads.shown(NOW).rotations[0].then is None


def test_a_calendar_says_what_is_wrong_with_it() -> None:
    team(ical="https://calendar.example/x.ics", starts_on=None)
    CalendarFeed.objects.create(owner="rotation:ops", problem="it answered 404")
    [view] = reads.shown(NOW).rotations
    assert (view.calendar, view.problem, view.duties, view.then) == (True, "it answered 404", (), None)


def test_a_policy_in_words() -> None:
    team()
    policy(services=["stripe", "resend"])
    [view] = reads.shown(NOW).policies
    assert view.what == "critical alerts of resend, stripe"
    assert [(one.when, one.names) for one in view.steps] == [
        ("at once", ("chat",)),
        ("after 5 min", ("Ana (on call, ops)",)),
        ("after 15 min", ("boss", "nobody (on call, none)")),
        ("then every 30 min", ("the last step again",)),
    ]


def test_on_a_critical_day_the_steps_come_earlier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inforce, "is_critical", lambda _now=None, _service=None: True)
    policy(remind_every=None, min_severity="warning")
    seen = reads.shown(NOW)
    assert seen.critical
    assert seen.policies[0].what == "warning and worse"
    assert [one.when for one in seen.policies[0].steps] == ["at once", "at once", "after 10 min"]


def test_how_many_wait() -> None:
    Channel.objects.create(slug="chat")
    policy()
    alerts.raise_alert("a", "x", "critical", "A")
    alerts.raise_alert("b", "x", "critical", "B")
    running.run_due(NOW)
    Alert.objects.filter(key="b").update(acknowledged_at=timezone.now())
    assert reads.shown(NOW).policies[0].climbing == 1


class TestPartial:
    def test_with_everything(self) -> None:
        team()
        policy()
        html = render_to_string("monitoring/alerts/_oncall.html", {})
        assert "<b>Ana</b>" in html or "<b>Ben</b>" in html
        assert "after 5 min" in html
        assert "critical day" not in html

    def test_without_anything_it_says_how_to_begin(self) -> None:
        html = render_to_string("monitoring/alerts/_oncall.html", {})
        assert "No escalation is configured" in html

    def test_nobody_on_call_and_a_critical_day_are_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(inforce, "is_critical", lambda _now=None, _service=None: True)
        team(starts_on=date(2099, 1, 5), people=[{"name": "<b>x</b>", "channels": ["a"]}])
        policy()
        html = render_to_string("monitoring/alerts/_oncall.html", {})
        assert "Nobody" in html
        assert "A critical day is in force." in html
        assert "&lt;b&gt;x" in html

    def test_it_takes_few_queries(self, django_assert_max_num_queries: Any) -> None:
        for number in range(5):
            team(slug=f"r{number}")
            policy(slug=f"p{number}")
        with django_assert_max_num_queries(6):
            reads.shown(NOW)
