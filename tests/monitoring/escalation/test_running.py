"""Climbing in the database: alerts in, messages out, by a clock of our own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from monitoring import alerts
from monitoring.critical import inforce
from monitoring.escalation import running
from monitoring.models import Alert, Channel, Escalation, Incident, IncidentEntry, Notification, Rotation
from monitoring.notifications import acknowledging
from tests.monitoring.factories import make_service
from wsmon.audit import Actor

KEY = "incident:1"


class Story:
    """A clock, a team and an alert; what was told is read off the outbox."""

    def __init__(self) -> None:
        self.start = timezone.now().replace(microsecond=0)
        for slug in ("chat", "ana-sms", "ben-sms", "boss"):
            Channel.objects.create(slug=slug, direct=slug == "chat", min_severity="info")
        Rotation.objects.create(
            slug="ops",
            people=[{"name": "Ana", "channels": ["ana-sms"]}],
            starts_on=date(2020, 1, 6),
        )

    def policy(self, steps: list[tuple[float, list[str]]], slug: str = "ops", **more: Any) -> Escalation:
        rungs = [{"after": after, "notify": notify} for after, notify in steps]
        return Escalation.objects.create(slug=slug, steps=rungs, **more)

    def alert(self, severity: str = "critical", key: str = KEY, **more: Any) -> Alert:
        return alerts.raise_alert(key, "thing", severity, "It is broken", **more)

    def look(self, after: float) -> list[str]:
        """Look so many seconds after the start; "kind channel [recipient]" of each new message."""
        before = set(Notification.objects.values_list("id", flat=True))
        running.run_due(self.start + timedelta(seconds=after))
        new = Notification.objects.exclude(id__in=before).select_related("channel").order_by("channel__slug")
        return [" ".join(filter(None, (one.kind, one.channel.slug, one.recipient))) for one in new]

    def run(self, *moments: float) -> list[list[str]]:
        return [self.look(moment) for moment in moments]


@pytest.fixture
def story(monkeypatch: pytest.MonkeyPatch) -> Story:
    monkeypatch.setattr(inforce, "is_critical", lambda _now=None, _service=None: False)
    return Story()


STEPS: list[tuple[float, list[str]]] = [(0, ["chat"]), (300, ["rotation:ops"]), (900, ["boss", "rotation:ops"])]


@pytest.mark.django_db
class TestClimbing:
    def test_step_by_step_until_the_end_and_then_reminders(self, story: Story) -> None:
        story.policy(STEPS, remind_every=600)
        story.alert()
        told = story.run(0, 1, 299, 300, 301, 899, 900, 1499, 1500, 2100)
        assert told == [
            [],  # the chat has been told of the opening
            [],
            [],
            ["escalated ana-sms Ana"],
            [],
            [],
            ["escalated ana-sms Ana", "escalated boss"],
            [],
            ["reminder ana-sms Ana", "reminder boss"],
            ["reminder ana-sms Ana", "reminder boss"],
        ]
        assert Notification.objects.filter(kind="opened").count() == 1

    def test_somebody_acknowledges(self, story: Story) -> None:
        story.policy(STEPS)
        alert = story.alert()
        assert story.run(0, 300) == [[], ["escalated ana-sms Ana"]]
        Alert.objects.filter(id=alert.id).update(acknowledged_at=timezone.now(), acknowledged_by="ana")
        assert story.run(900, 5000) == [[], []]
        alert.refresh_from_db()
        assert alert.next_step_at is None

    def test_it_is_over(self, story: Story) -> None:
        story.policy(STEPS)
        alert = story.alert()
        story.run(0, 300)
        alerts.resolve(KEY)
        assert story.run(900) == [[]]
        alert.refresh_from_db()
        assert (alert.next_step_at, alert.escalation, alert.step) == (None, "ops", 2)
        assert list(
            Notification.objects.filter(kind="resolved")
            .order_by("channel__slug")
            .values_list("channel__slug", flat=True)
        ) == ["ana-sms", "chat"], "the end is told to whom the beginning, or a step, was told"

    def test_taken_back_it_begins_anew(self, story: Story) -> None:
        story.policy(STEPS)
        alert = story.alert()
        story.run(0, 300)
        Alert.objects.filter(id=alert.id).update(acknowledged_at=timezone.now())
        story.run(310)
        Alert.objects.filter(id=alert.id).update(acknowledged_at=None)
        assert story.run(1000, 1299, 1300) == [[], [], ["escalated ana-sms Ana"]]

    def test_whoever_has_the_incident_has_its_alert(self, story: Story) -> None:
        story.policy(STEPS)
        service = make_service("stripe")
        incident = Incident.objects.create(
            service=service, began_at=story.start, opened_at=story.start, status="critical", worst="critical"
        )
        story.alert(service=service, incident=incident)
        assert story.run(0, 300) == [[], ["escalated ana-sms Ana"]]
        entry = IncidentEntry.objects.get(incident=incident, kind="escalated")
        assert entry.text == "Escalated (step 2 of 3 of ops): Ana by ana-sms"
        incident.acknowledged_at = timezone.now()
        incident.save()
        assert story.run(900) == [[]]

    def test_on_a_critical_day_it_opens_one_step_higher(self, story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(inforce, "is_critical", lambda _now=None, _service=None: True)
        story.policy(STEPS)
        story.alert()
        assert story.run(0, 300, 600) == [
            ["escalated ana-sms Ana"],
            [],
            ["escalated ana-sms Ana", "escalated boss"],
        ]

    def test_a_step_names_who_was_not_told_of_the_opening(self, story: Story) -> None:
        story.policy([(0, ["chat", "boss"])])
        story.alert()
        assert story.run(0, 1) == [["escalated boss"], []]

    def test_what_is_inhibited_waits_and_goes_on_where_it_was(self, story: Story) -> None:
        story.policy(STEPS)
        alert = story.alert()
        story.run(0)
        Alert.objects.filter(id=alert.id).update(inhibited_by="maintenance: planned")
        assert story.run(300, 2000) == [[], []]
        Alert.objects.filter(id=alert.id).update(inhibited_by="")
        assert story.run(2001) == [["escalated ana-sms Ana"]]

    def test_what_gets_worse_follows_a_policy_from_then_on(self, story: Story) -> None:
        story.policy([(60, ["boss"])])
        story.alert("warning")
        assert story.run(0, 100) == [[], []]
        story.alert("critical")
        assert story.run(200, 259, 260) == [[], [], ["escalated boss"]]

    def test_services_have_their_own(self, story: Story) -> None:
        story.policy([(0, ["boss"])], slug="all")
        story.policy([(0, ["ben-sms"])], slug="stripe", services=["stripe"])
        story.alert(key="a", service=make_service("stripe"))
        story.alert(key="b", service=make_service("resend"))
        assert story.run(0) == [["escalated ben-sms", "escalated boss"]]

    def test_a_policy_that_is_gone_gives_way_to_another(self, story: Story) -> None:
        first = story.policy(STEPS)
        alert = story.alert()
        story.run(0)
        first.archived_at = timezone.now()
        first.save()
        story.policy([(0, ["boss"])], slug="other")
        assert story.run(300, 301, 302)[1:] == [["escalated boss"], []]
        alert.refresh_from_db()
        assert (alert.escalation, alert.step) == ("other", 1)

    def test_without_any_policy_nothing_happens(self, story: Story) -> None:
        story.alert()
        assert story.run(0, 100_000) == [[], []]

    def test_the_clock_is_put_back_an_hour(self, story: Story) -> None:
        story.policy(STEPS)
        story.alert()
        story.run(0)  # the second step is due at 300
        hour = 3600
        assert story.run(-hour, -hour + 299, -hour + 300) == [[], [], ["escalated ana-sms Ana"]]

    def test_the_clock_is_put_forward_an_hour(self, story: Story) -> None:
        story.policy(STEPS)
        story.alert()
        story.run(0)
        assert story.run(3600, 3601, 4199, 4200) == [
            ["escalated ana-sms Ana"],
            [],
            [],
            ["escalated ana-sms Ana", "escalated boss"],
        ]


@pytest.mark.django_db
class TestNobody:
    def test_after_a_step_that_reaches_nobody_the_next_is_taken_at_once(self, story: Story) -> None:
        Rotation.objects.update(starts_on=date(2099, 1, 1))
        story.policy([(60, ["rotation:ops"]), (3600, ["boss"])])
        story.alert()
        assert story.run(0, 60, 61) == [[], [], ["escalated boss"]]

    def test_the_last_one_is_repeated_in_its_own_time(self, story: Story) -> None:
        story.policy([(0, ["gone"])], remind_every=60)
        Channel.objects.create(slug="gone", archived_at=timezone.now())
        alert = story.alert()
        assert story.run(0, 1, 60, 61) == [[], [], [], []]
        alert.refresh_from_db()
        assert (alert.step, alert.next_step_at) == (2, story.start + timedelta(seconds=120))

    def test_one_that_cannot_be_taken_waits_and_keeps_no_other(
        self, story: Story, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        story.policy([(0, ["boss"])])
        bad, good = story.alert(key="bad"), story.alert(key="good")
        take = running.take

        def fragile(alert: Alert, *rest: Any) -> bool:
            if alert.id == bad.id:
                raise ValueError("broken")
            return take(alert, *rest)

        monkeypatch.setattr(running, "take", fragile)
        assert story.run(0) == [["escalated boss"]]
        bad.refresh_from_db()
        assert bad.next_step_at == story.start + timedelta(minutes=1)
        good.refresh_from_db()
        assert good.step == 1


@pytest.mark.django_db
class TestCost:
    def test_with_nothing_to_do_it_is_a_few_queries(
        self, story: Story, django_assert_max_num_queries: Callable[..., Any]
    ) -> None:
        story.policy(STEPS)
        with django_assert_max_num_queries(5):
            running.run_due(story.start)


@pytest.mark.django_db(transaction=True)
class TestAtOnce:
    def test_of_two_workers_one_takes_the_step(self, story: Story) -> None:
        story.policy([(0, ["boss"])], remind_every=3600)
        for number in range(20):
            story.alert(key=f"k{number}")
        barrier = threading.Barrier(2)
        taken: list[int] = []

        def work() -> None:
            try:
                barrier.wait(10)
                taken.append(running.run_due(story.start))
            finally:
                connection.close()

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        running.run_due(story.start)
        assert Notification.objects.filter(kind="escalated").count() == 20
        assert set(Alert.objects.values_list("step", flat=True)) == {1}

    def test_whoever_is_at_the_incident_is_not_in_the_way_of_a_deadlock(self, story: Story) -> None:
        story.policy([(0, ["boss"])])
        incident = Incident.objects.create(
            service=make_service(), began_at=story.start, opened_at=story.start, status="critical", worst="critical"
        )
        story.alert(incident=incident)
        held, done = threading.Event(), threading.Event()

        def other() -> None:
            try:
                with transaction.atomic():
                    Incident.objects.select_for_update().get(id=incident.id)
                    held.set()
                    done.wait(10)
            finally:
                connection.close()

        thread = threading.Thread(target=other)
        thread.start()
        assert held.wait(10)
        assert story.run(0) == [[]], "it waits for nobody: the next look is in a second"
        done.set()
        thread.join(10)
        assert story.run(1) == [["escalated boss"]]

    def test_acknowledging_stops_it_whichever_way(self, story: Story) -> None:
        story.policy([(0, ["chat"]), (60, ["boss"])])
        alert = story.alert()
        story.run(0)
        assert acknowledging.acknowledge(alert.id, Actor.system("ana")).mine
        assert story.run(60, 3600) == [[], []]

    def test_one_that_is_killed_in_the_middle_has_done_nothing(self, story: Story) -> None:
        story.policy([(0, ["boss"])])
        alert = story.alert()
        running.enrol([running.policy_of(row) for row in running.rows()], story.start)
        with transaction.atomic():
            locked = Alert.objects.select_for_update().get(id=alert.id)
            assert running.take(locked, running.policy_of(running.rows()[0]), story.start)
            transaction.set_rollback(True)
        assert not Notification.objects.filter(kind="escalated").exists()
        assert story.run(0) == [["escalated boss"]]
