from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from monitoring import alerts
from monitoring.actions import Refused
from monitoring.critical import actions, freeze, inforce
from monitoring.critical.actions import allow_deploy, end_emergency, end_override, override, start_emergency
from monitoring.models import (
    CriticalOverride,
    CriticalRule,
    DeployPass,
    DeployRequest,
    Emergency,
    Posture,
)
from tests.monitoring.critical.calendars import NOW, SATURDAYS, at
from tests.monitoring.factories import make_service
from wsmon.audit import Actor
from wsmon.models import AuditEntry

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ANNA, BEN = Actor.system("anna"), Actor.system("ben")
MONDAY = at("2026-10-19 12:00")


def saturdays() -> None:
    CriticalRule.objects.create(slug="saturdays", spec=SATURDAYS, time_zone="Europe/Berlin", lead=0, trail=0)


def critical() -> bool:
    return Posture.objects.get(service=None).critical


def audited() -> list[tuple[str, str]]:
    return list(AuditEntry.objects.order_by("id").values_list("action", "actor_name"))


@pytest.mark.django_db
class TestOverride:
    def test_on_takes_effect_at_once_and_is_audited(self):
        made = override(True, MONDAY + HOUR, "the launch", ANNA, MONDAY)
        assert critical()
        assert (made.by, made.reason, made.ends_at) == ("anna", "the launch", MONDAY + HOUR)
        assert audited() == [("critical_day.override", "anna"), ("critical_day.begin", "critical days")]

    def test_off_ends_a_critical_day(self):
        saturdays()
        inforce.refresh(NOW)
        override(False, NOW + HOUR, "the fair is cancelled", ANNA, NOW)
        assert not critical()

    def test_a_second_one_takes_the_place_of_the_first(self):
        override(True, MONDAY + HOUR, "the launch", ANNA, MONDAY)
        override(False, MONDAY + HOUR, "no launch", BEN, MONDAY + HOUR / 2)
        assert not critical()
        assert CriticalOverride.objects.filter(ended_at=None).count() == 1

    def test_without_one_the_calendar_decides_again(self):
        override(True, MONDAY + HOUR, "the launch", ANNA, MONDAY)
        assert end_override(BEN, now=MONDAY + HOUR / 2) is True
        assert not critical()
        assert end_override(BEN, now=MONDAY + HOUR / 2) is False

    @pytest.mark.parametrize(
        ("until", "reason", "why"),
        [
            (MONDAY, "x", "the end must be in the future"),
            (MONDAY + 32 * DAY, "x", "an override may last 31 days at most"),
            (MONDAY + HOUR, " \0", "a reason is required"),
        ],
    )
    def test_it_is_refused(self, until: Any, reason: str, why: str):
        with pytest.raises(Refused, match=why):
            override(True, until, reason, ANNA, MONDAY)
        assert not CriticalOverride.objects.exists()
        assert audited() == []


@pytest.mark.django_db
class TestEmergency:
    def test_of_all_services_everything_is_at_its_strictest_and_everybody_is_told(self):
        start_emergency(None, "the data centre burns", ANNA, MONDAY)
        row = Posture.objects.get(service=None)
        assert (row.critical, row.emergency, row.frozen, row.read_only) == (True, True, True, True)
        (alert,) = alerts.open_alerts(["emergency"])
        assert (alert.severity, alert.title) == ("critical", "Emergency mode for everything")
        assert "the data centre burns. Started by anna" in alert.detail

    def test_of_one_service_the_others_go_on_as_usual(self):
        service = make_service("stripe", name="Stripe")
        start_emergency(service, "payments fail", ANNA, MONDAY)
        assert not critical()
        assert Posture.objects.get(service=service).emergency
        (alert,) = alerts.open_alerts(["emergency"])
        assert (alert.key, alert.title, alert.service) == ("emergency:stripe", "Emergency mode for Stripe", service)

    def test_ended_by_a_person_it_is_over_with_its_alert(self):
        made = start_emergency(None, "the data centre burns", ANNA, MONDAY)
        assert end_emergency(made, BEN, "it is out", MONDAY + HOUR) is True
        assert not critical()
        assert alerts.open_alerts(["emergency"]) == []
        assert end_emergency(made, BEN, now=MONDAY + HOUR) is False
        assert [entry for entry in audited() if entry[0].startswith("emergency")] == [
            ("emergency.start", "anna"),
            ("emergency.end", "ben"),
        ]

    def test_started_again_it_lasts_from_then(self):
        start_emergency(None, "fire", ANNA, MONDAY)
        start_emergency(None, "still fire", ANNA, MONDAY + HOUR)
        assert Emergency.objects.filter(ended_at=None).count() == 1
        assert len(alerts.open_alerts(["emergency"])) == 1
        inforce.refresh(MONDAY + 2 * HOUR)
        assert critical()
        inforce.refresh(MONDAY + 3 * HOUR)
        assert not critical()

    @pytest.mark.parametrize("lasts", [timedelta(0), 3 * HOUR, -HOUR])
    def test_it_lasts_2_hours_at_most(self, lasts: timedelta):
        with pytest.raises(Refused, match="2 h at most"):
            start_emergency(None, "fire", ANNA, MONDAY, lasts)

    def test_it_needs_a_reason(self):
        with pytest.raises(Refused, match="a reason is required"):
            start_emergency(None, "", ANNA, MONDAY)


@pytest.mark.django_db
class TestFreeze:
    @pytest.fixture(autouse=True)
    def _saturday(self):
        saturdays()
        inforce.refresh(NOW)

    def test_a_pipeline_waits_and_that_is_remembered(self):
        answer = freeze.ask(ANNA, "shop/main", NOW)
        assert (answer.allowed, answer.reason, answer.until) == (
            False,
            "saturdays: Sat 17 Oct",
            at("2026-10-18 00:00"),
        )
        asked = DeployRequest.objects.get()
        assert (asked.by, asked.pipeline, asked.allowed, asked.at) == ("anna", "shop/main", False, NOW)
        assert freeze.asked_since(NOW) == {"asked": 1, "refused": 1}

    def test_on_a_usual_day_it_may_and_knows_when_it_may_not(self):
        answer = freeze.ask(ANNA, now=MONDAY)
        assert (answer.allowed, answer.reason, answer.until) == (True, "", None)
        assert answer.next_freeze_at == at("2026-10-24 00:00")

    def test_one_is_let_through_and_the_next_is_not(self):
        made = allow_deploy("the fix for the outage", BEN, NOW)
        assert freeze.waiting_pass(NOW) == made
        first, second = freeze.ask(ANNA, "a", NOW), freeze.ask(ANNA, "b", NOW)
        assert (first.allowed, first.passed) == (True, "the fix for the outage")
        assert (second.allowed, second.passed) == (False, "")
        assert freeze.waiting_pass(NOW) is None
        assert ("deploy.passed", "anna") in audited()

    def test_a_permission_expires(self):
        allow_deploy("the fix", BEN, NOW)
        assert not freeze.ask(ANNA, now=NOW + HOUR).allowed
        assert freeze.waiting_pass(NOW + HOUR) is None

    def test_who_only_looks_uses_nothing_up(self):
        allow_deploy("the fix", BEN, NOW)
        assert not freeze.look(NOW).allowed
        assert not DeployRequest.objects.exists()
        assert freeze.waiting_pass(NOW)

    def test_a_permission_on_a_usual_day_has_no_use(self):
        inforce.refresh(MONDAY)
        with pytest.raises(Refused, match="deployments are not frozen"):
            allow_deploy("the fix", BEN, MONDAY)

    def test_what_is_in_force_counts_and_not_what_was_last_written(self):
        with pytest.raises(Refused, match="deployments are not frozen"):
            allow_deploy("the fix", BEN, MONDAY)
        inforce.refresh(MONDAY)
        allow_deploy("the fix", BEN, NOW)
        assert freeze.ask(ANNA, now=NOW).allowed

    def test_the_same_answer_has_the_same_tag(self):
        assert freeze.look(NOW).tag == freeze.look(NOW + HOUR).tag
        assert freeze.look(NOW).tag != freeze.look(MONDAY).tag

    @pytest.mark.parametrize(("before_the_end", "wait"), [(HOUR / 2, 1801), (10 * HOUR, 3600)])
    def test_it_says_when_to_ask_again(self, before_the_end: timedelta, wait: int):
        now = at("2026-10-18 00:00") - before_the_end
        assert freeze.look(now).retry_after(now) == wait

    def test_what_is_old_is_forgotten(self):
        freeze.ask(ANNA, now=NOW)
        allow_deploy("the fix", BEN, NOW)
        freeze.forget_old(NOW + 89 * DAY)
        assert DeployRequest.objects.count() == DeployPass.objects.count() == 1
        freeze.forget_old(NOW + 91 * DAY)
        assert DeployRequest.objects.count() == DeployPass.objects.count() == 0


def at_once(*calls: Any) -> list[Any]:
    """The results of calls in threads of their own."""
    results: list[Any] = [None] * len(calls)
    start = threading.Barrier(len(calls))

    def run(index: int) -> None:
        try:
            start.wait()
            results[index] = calls[index]()
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.django_db(transaction=True)
class TestAtOnce:
    def test_of_many_pipelines_one_is_let_through(self):
        saturdays()
        inforce.refresh(NOW)
        allow_deploy("the fix", BEN, NOW)
        answers = at_once(*[lambda: freeze.ask(ANNA, now=NOW)] * 6)
        assert sum(answer.allowed for answer in answers) == 1
        assert DeployRequest.objects.count() == 6

    def test_of_two_overrides_one_is_left(self):
        at_once(
            lambda: override(True, MONDAY + HOUR, "on", ANNA, MONDAY),
            lambda: override(False, MONDAY + HOUR, "off", BEN, MONDAY),
        )
        (left,) = CriticalOverride.objects.filter(ended_at=None)
        assert critical() is left.on

    def test_of_many_refreshes_one_begins_the_day(self):
        saturdays()
        at_once(*[lambda: inforce.refresh(NOW)] * 5)
        assert [action for action, _by in audited()] == ["critical_day.begin"]

    def test_of_two_who_end_an_emergency_one_did(self):
        made = start_emergency(None, "fire", ANNA, MONDAY)
        ended = at_once(*[lambda: actions.end_emergency(made, BEN, now=MONDAY)] * 2)
        assert sorted(ended) == [False, True]
