from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db.models.functions import Now
from hypothesis import given
from hypothesis import strategies as st

from monitoring import alerts
from monitoring.breakers import glance, store
from monitoring.critical import actions, effects, inforce
from monitoring.critical.inforce import Override, Urgency, decide, extent_at, refresh
from monitoring.models import (
    Breaker,
    CalendarFeed,
    CheckState,
    CriticalRule,
    Emergency,
    Posture,
    RecoveryFactor,
)
from tests.monitoring.critical.calendars import NOW, SATURDAYS, at, calendar, event, local, periods, rule
from tests.monitoring.factories import make_check, make_service
from wsmon.audit import Actor
from wsmon.models import AuditEntry

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ANNA = Actor.system("anna")
OCTOBER = periods([rule(lead=7200.0, trail=7200.0)], at("2026-10-01 00:00"), at("2026-11-30 00:00"))


def override(on: bool, ends: str, starts: str = "2026-10-17 12:00") -> Override:
    return Override(1, on, at(starts), at(ends), "because", "anna")


def urgency(ends: str, starts: str = "2026-10-17 14:00", service_id: int | None = None) -> Urgency:
    return Urgency(1, service_id, "", "", at(starts), at(ends), "all is lost", "anna")


def found(now: str, word: Override | None = None, *emergencies: Urgency) -> inforce.InForce:
    return decide(OCTOBER, word, emergencies, at(now))


SATURDAY = (True, "Fri 2026-10-16 22:00+0200", "Sun 2026-10-18 02:00+0200")

# (now, override, emergencies) -> critical?, since, until
DECIDED: list[tuple[str, str, Override | None, list[Urgency], tuple[bool, str, str]]] = [
    ("a Saturday", "2026-10-17 14:12", None, [], SATURDAY),
    ("a Monday", "2026-10-19 14:12", None, [], (False, "", "")),
    ("the lead's first second", "2026-10-16 22:00", None, [], SATURDAY),
    ("the first second after", "2026-10-18 02:00", None, [], (False, "", "")),
    ("switched off", "2026-10-17 14:12", override(False, "2026-10-18 02:00"), [], (False, "", "")),
    (
        "switched on", "2026-10-20 14:12", override(True, "2026-10-20 20:00", "2026-10-20 14:00"), [],
        (True, "Tue 2026-10-20 14:00+0200", "Tue 2026-10-20 20:00+0200"),
    ),
    (
        "extended", "2026-10-17 14:12", override(True, "2026-10-18 06:00"), [],
        (True, "Fri 2026-10-16 22:00+0200", "Sun 2026-10-18 06:00+0200"),
    ),
    (
        "switched on until the calendar takes over", "2026-10-16 20:00",
        override(True, "2026-10-16 23:00", "2026-10-16 19:00"), [],
        (True, "Fri 2026-10-16 19:00+0200", "Sun 2026-10-18 02:00+0200"),
    ),
    (
        "an emergency", "2026-10-19 14:12", None, [urgency("2026-10-19 16:00", "2026-10-19 14:00")],
        (True, "Mon 2026-10-19 14:00+0200", "Mon 2026-10-19 16:00+0200"),
    ),
    (
        "one of one service", "2026-10-19 14:12", None, [urgency("2026-10-19 16:00", "2026-10-19 14:00", 7)],
        (False, "", ""),
    ),
    (
        "an emergency is above what was switched off", "2026-10-17 14:12", override(False, "2026-10-18 02:00"),
        [urgency("2026-10-17 16:00")], (True, "Sat 2026-10-17 14:00+0200", "Sat 2026-10-17 16:00+0200"),
    ),
    (
        "the clock went back behind a person's word", "2026-10-19 10:00",
        override(True, "2026-10-19 20:00", "2026-10-19 11:00"), [],
        (True, "Mon 2026-10-19 10:00+0200", "Mon 2026-10-19 20:00+0200"),
    ),
]  # fmt: skip


class TestDeciding:
    @pytest.mark.parametrize(
        ("now", "word", "emergencies", "came"), [case[1:] for case in DECIDED], ids=[case[0] for case in DECIDED]
    )
    def test_who_decides(
        self, now: str, word: Override | None, emergencies: list[Urgency], came: tuple[bool, str, str]
    ):
        one = found(now, word, *emergencies)
        assert (one.critical, (one.since and local(one.since)) or "", (one.until and local(one.until)) or "") == came
        assert one.frozen is one.critical

    def test_it_says_why(self):
        assert [reason.why for reason in found("2026-10-17 14:12").reasons] == ["Sat 17 Oct"]
        assert found("2026-10-17 14:12", override(False, "2026-10-18 02:00")).reasons == ()

    def test_what_an_override_holds_off_comes_when_that_expires(self):
        one = found("2026-10-17 14:12", override(False, "2026-10-17 20:00"))
        assert one.held_off is not None
        assert one.next is not None
        assert local(one.next.starts_at) == "Sat 2026-10-17 20:00+0200"

    def test_the_next_one_is_the_calendars(self):
        one = found("2026-10-17 14:12", override(False, "2026-10-18 09:00"))
        assert one.next is not None
        assert local(one.next.starts_at) == "Fri 2026-10-23 22:00+0200"

    def test_a_rule_may_freeze_nothing(self):
        calendar_ = periods([rule(SATURDAYS | {"freeze": False})], at("2026-10-17 00:00"), at("2026-10-18 00:00"))
        one = decide(calendar_, None, [], NOW)
        assert (one.critical, one.frozen, one.frozen_until) == (True, False, None)

    def test_the_freeze_ends_with_what_freezes(self):
        both = [
            rule(SATURDAYS | {"freeze": False}),
            rule({"ranges": [{"from": "2026-10-17", "to": "2026-10-17 18:00"}]}),
        ]
        one = decide(periods(both, at("2026-10-17 00:00"), at("2026-10-18 00:00")), None, [], NOW)
        assert one.frozen_until == at("2026-10-17 18:00")
        assert one.until == at("2026-10-18 00:00")

    def test_applications_go_read_only_when_a_rule_says_so_or_in_an_emergency(self):
        calendar_ = periods([rule(SATURDAYS | {"read_only": True})], at("2026-10-17 00:00"), at("2026-10-18 00:00"))
        assert decide(calendar_, None, [], NOW).read_only
        assert not found("2026-10-17 14:12").read_only
        assert found("2026-10-19 14:12", None, urgency("2026-10-19 16:00", "2026-10-19 14:00")).read_only

    def test_it_is_worked_out_again_when_something_changes_or_in_a_minute(self):
        assert inforce.again_at(found("2026-10-17 14:12")) == at("2026-10-17 14:13")
        assert inforce.again_at(found("2026-10-18 01:59:30")) == at("2026-10-18 02:00")
        one = found("2026-10-17 14:12", override(False, "2026-10-17 14:12:20"))
        assert inforce.again_at(one) == at("2026-10-17 14:12:20")

    @given(st.lists(st.tuples(st.integers(-50, 50), st.integers(1, 20)), max_size=8))
    def test_extents_cover_a_moment_without_a_gap_or_not_at_all(self, told: list[tuple[int, int]]):
        extents = [(NOW + low * HOUR, NOW + (low + length) * HOUR) for low, length in told]
        covered = extent_at(extents, NOW)
        assert (covered is not None) == any(low <= NOW < high for low, high in extents)
        if covered is None:
            return
        moment, end = covered
        assert not any(low < moment <= high for low, high in extents)
        while moment < end:
            assert any(low <= moment < high for low, high in extents)
            moment += HOUR / 2
        assert not any(low <= end < high for low, high in extents)


def saturdays(**fields: Any) -> CriticalRule:
    values: dict[str, Any] = {"slug": "saturdays", "spec": SATURDAYS, "time_zone": "Europe/Berlin", "lead": 7200}
    return CriticalRule.objects.create(**values | {"trail": 7200} | fields)


def factors() -> dict[str, float]:
    return {name: one.factor for name, one in store.read().items()}


def posture() -> Posture:
    return Posture.objects.get(service=None)


@pytest.mark.django_db
class TestRefreshing:
    def test_on_a_usual_day_nothing_differs(self):
        assert refresh(at("2026-10-19 12:00")) is False
        row = posture()
        assert (row.critical, row.interval, row.recovery, row.frozen, row.reasons) == (False, 1, 1, False, [])

    def test_on_a_saturday_everything_does(self):
        saturdays(name="Saturdays")
        assert refresh(NOW) is True
        row = posture()
        assert (row.critical, row.emergency, row.frozen, row.read_only) == (True, False, True, False)
        assert (row.interval, row.spare, row.timeout, row.confirm, row.recovery) == (0.5, 3, 0.5, 0.5, 0.5)
        assert (row.since, row.until) == (at("2026-10-16 22:00"), NOW + timedelta(minutes=1))
        end = at("2026-10-18 02:00").isoformat()
        assert row.reasons == [
            {"rule": "saturdays", "name": "Saturdays", "why": "Sat 17 Oct", "until": end, "ends_at": end}
        ]
        assert RecoveryFactor.objects.get().factor == 0.5

    def test_it_ends_at_its_end(self):
        saturdays()
        refresh(at("2026-10-18 01:59:59"))
        assert posture().critical
        assert refresh(at("2026-10-18 02:00:00")) is True
        assert not posture().critical
        assert RecoveryFactor.objects.get().factor == 1

    def test_each_beginning_and_end_leaves_one_audit_row(self):
        saturdays()
        for minutes in range(0, 60 * 30, 30):
            refresh(at("2026-10-16 21:00") + timedelta(minutes=minutes))
        assert list(AuditEntry.objects.order_by("id").values_list("action", flat=True)) == [
            "critical_day.begin",
            "critical_day.end",
        ]

    def test_in_between_it_is_one_small_query(self, django_assert_num_queries: Any):
        saturdays()
        refresh(NOW)
        with django_assert_num_queries(1):
            for _ in range(1):
                assert refresh(NOW + timedelta(seconds=59)) is False

    def test_a_rule_that_is_changed_counts_within_a_second(self):
        refresh(NOW)
        saturdays()
        inforce.look_again()
        assert refresh(NOW + timedelta(seconds=1)) is True

    def test_what_is_archived_does_not_count(self):
        saturdays(archived_at=NOW)
        assert refresh(NOW) is False

    def test_a_rule_that_makes_no_sense_here_costs_only_itself(self):
        CriticalRule.objects.create(slug="odd", spec={"holidays": {"country": "Atlantis"}})
        CriticalRule.objects.create(slug="older", spec={"every": ["caturday"]})
        saturdays(time_zone="Mars/Olympus")
        refresh(NOW)
        assert [reason["rule"] for reason in posture().reasons] == ["saturdays"]

    def test_events_of_a_feed_count_as_soon_as_it_is_read(self):
        CriticalRule.objects.create(
            slug="fairs", spec={"ical": "env:X", "match": ["fair"]}, time_zone="Europe/Berlin"
        )
        assert refresh(NOW) is False
        text = calendar(event("20261017", "Fair"))
        CalendarFeed.objects.create(owner="critical:fairs", text=text, read_at=NOW)
        assert refresh(NOW + timedelta(minutes=2)) is True
        assert posture().reasons[0]["why"] == "Fair"


@pytest.mark.django_db
class TestClockJumps:
    @pytest.fixture(autouse=True)
    def _rules(self):
        saturdays()

    @pytest.mark.parametrize("jump", [HOUR, DAY, 30 * DAY])
    def test_forward_it_is_worked_out_at_once(self, jump: timedelta):
        refresh(NOW)
        refresh(NOW + jump)
        assert posture().critical is (jump == HOUR)

    @pytest.mark.parametrize("jump", [HOUR, DAY, 30 * DAY])
    def test_back_it_is_worked_out_at_once(self, jump: timedelta):
        refresh(NOW + jump)
        refresh(NOW)
        assert posture().critical
        assert posture().until == NOW + timedelta(minutes=1)

    def test_a_few_seconds_back_it_holds_no_longer_than_a_minute(self):
        refresh(at("2026-10-18 02:00:02"))
        for second in range(75):
            refresh(at("2026-10-18 01:58:00") + timedelta(seconds=second))
        assert posture().critical

    def test_a_posture_that_nobody_keeps_up_to_date_tells_nothing(self):
        refresh(NOW)
        assert inforce.posture(NOW + timedelta(minutes=2)) is not None
        for later in (DAY, -DAY):
            assert inforce.posture(NOW + later) is None
        assert inforce.is_critical(NOW + 2 * DAY) is False
        assert inforce.is_critical(NOW + 7 * DAY) is True  # worked out anew


@pytest.mark.django_db
class TestEffects:
    def test_checks_that_are_due_later_than_they_now_may_be_are_pulled_in(self):
        matters = make_check(make_service(criticality="critical"), interval=600)
        spared = make_check(make_service(criticality="low"), interval=60)
        far = NOW + 10 * DAY
        CheckState.objects.update(next_due_at=far)
        saturdays()
        before = datetime.now(tz=far.tzinfo)
        refresh(NOW)
        due = {state.check_ref_id: state.next_due_at for state in CheckState.objects.all()}
        assert due[matters.id] - before <= timedelta(seconds=301)
        assert due[spared.id] - before <= timedelta(seconds=181)

    def test_an_emergency_of_one_service_pulls_its_checks_in_by_its_own_factor(self):
        check = make_check(service := make_service("stripe"), interval=6)
        other = make_check(make_service("resend"), interval=6)
        CheckState.objects.update(next_due_at=Now() + timedelta(seconds=4))
        before = {state.check_ref_id: state.next_due_at for state in CheckState.objects.all()}
        Emergency.objects.create(service=service, starts_at=NOW, ends_at=NOW + HOUR, reason="x", by="anna")
        refresh(NOW, force=True)
        due = {state.check_ref_id: state.next_due_at for state in CheckState.objects.all()}
        assert due[check.id] <= before[check.id] - timedelta(seconds=1)  # every 3 s now
        assert due[other.id] == before[other.id]

    def test_checks_that_are_due_anyway_or_probed_now_are_left_alone(self):
        soon = make_check(make_service(criticality="critical"), interval=600)
        probed = make_check(make_service(criticality="critical"), interval=600)
        now = datetime.now(tz=NOW.tzinfo)
        CheckState.objects.filter(check_ref=soon).update(next_due_at=now + timedelta(seconds=1))
        CheckState.objects.filter(check_ref=probed).update(next_due_at=now + DAY, lease_until=now + HOUR)
        saturdays()
        refresh(NOW)
        due = {state.check_ref_id: state.next_due_at for state in CheckState.objects.all()}
        assert due == {soon.id: now + timedelta(seconds=1), probed.id: now + DAY}

    def test_open_breakers_try_again_sooner(self):
        service = make_service("stripe")
        saturdays()
        refresh(NOW)
        assert store.read(["stripe"])["stripe"].factor == effects.CRITICAL_DAY.recovery
        assert service.slug == "stripe"

    def test_one_services_emergency_has_a_row_of_its_own_and_ends_with_it(self):
        service = make_service("stripe")
        Emergency.objects.create(service=service, starts_at=NOW, ends_at=NOW + HOUR, reason="x", by="anna")
        refresh(NOW, force=True)
        row = Posture.objects.get(service=service)
        assert (row.critical, row.emergency, row.confirm, row.read_only) == (True, True, 0, True)
        assert not posture().critical
        assert inforce.is_critical(NOW, service.id)
        assert not inforce.is_critical(NOW)
        refresh(NOW + HOUR)
        assert not Posture.objects.filter(service=service).exists()

    def test_one_services_emergency_lets_its_breaker_alone_try_again_sooner(self):
        service, other = make_service("stripe"), make_service("resend")
        for one in (service, other):
            store.force(one.id, store.Mode.OPEN, "anna", "x", None)
            Breaker.objects.filter(service_id=one.id).update(state="OPEN", forced="", opened_at=NOW, open_for=40)
        Emergency.objects.create(service=service, starts_at=NOW, ends_at=NOW + HOUR, reason="x", by="anna")
        refresh(NOW, force=True)
        assert factors() == {"stripe": 0.25, "resend": 1}
        due = {id_: one.due_at for id_, one in glance.of([service.id, other.id]).items()}
        assert due == {service.id: NOW + timedelta(seconds=10), other.id: NOW + timedelta(seconds=40)}
        refresh(NOW + HOUR)
        assert factors() == {"stripe": 1, "resend": 1}

    def test_of_two_factors_the_lesser_one_counts(self):
        service = make_service("stripe")
        make_service("resend")
        saturdays()
        Emergency.objects.create(service=service, starts_at=NOW, ends_at=NOW + HOUR, reason="x", by="anna")
        refresh(NOW, force=True)
        assert factors() == {"stripe": 0.25, "resend": 0.5}

    def test_processes_are_told_of_that_breaker_once(self, monkeypatch: pytest.MonkeyPatch):
        told: list[str] = []
        monkeypatch.setattr(store, "_notify", told.append)
        service = make_service("stripe")
        make_service("resend")
        Emergency.objects.create(service=service, starts_at=NOW, ends_at=NOW + HOUR, reason="x", by="anna")
        refresh(NOW, force=True)
        refresh(NOW, force=True)
        assert told == [str(service.id)]

    def test_working_it_out_again_changes_nothing_that_is_so_already(self):
        saturdays()
        refresh(NOW)
        assert refresh(NOW, force=True) is False


@pytest.mark.django_db
class TestEndingByItself:
    def test_an_emergency_ends_and_its_alert_is_resolved(self):
        actions.start_emergency(None, "the data centre burns", ANNA, NOW)
        assert [alert.key for alert in alerts.open_alerts(["emergency"])] == ["emergency:*"]
        refresh(NOW + 2 * HOUR)
        assert alerts.open_alerts(["emergency"]) == []
        assert Emergency.objects.get().ended_at == NOW + 2 * HOUR
        assert AuditEntry.objects.filter(action="emergency.over").count() == 1
        assert not posture().read_only

    def test_of_several_emergencies_those_that_are_over_are_resolved_together(self):
        for slug in ("stripe", "resend", "github"):
            lasts = HOUR if slug == "github" else HOUR / 2
            actions.start_emergency(make_service(slug), "x", ANNA, NOW, lasts)
        refresh(NOW + HOUR / 2)
        assert [alert.key for alert in alerts.open_alerts(["emergency"])] == ["emergency:github"]

    def test_an_override_ends_and_the_calendar_decides_again(self):
        saturdays()
        actions.override(False, NOW + HOUR, "the fair is cancelled", ANNA, NOW)
        assert not posture().critical
        refresh(NOW + HOUR)
        assert posture().critical
        assert AuditEntry.objects.filter(action="critical_day.override_over").count() == 1
