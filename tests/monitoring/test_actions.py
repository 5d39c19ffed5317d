from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone

from monitoring import actions, claims, store
from monitoring.actions import Refused, cancel_maintenance, pause, resume, resume_expired, start_maintenance
from monitoring.models import Check, CheckState, MaintenanceWindow, Service, StateChange
from tests.monitoring.factories import finished, make_check, make_service, outcome
from wsmon.audit import Actor
from wsmon.models import AuditEntry

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)
ANNA = Actor(None, "anna", "10.0.0.1")


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """What open pages are told."""
    heard: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(actions.live, "publish", lambda kind, payload: heard.append((kind, payload)))
    return heard


def probed(check: Check, word: str = "healthy") -> int:
    return store.settle([finished(check, outcome(word))])


def status(check: Check) -> str:
    return CheckState.objects.get(check_ref=check).status


def audit() -> list[tuple[str, str, str, str]]:
    return list(AuditEntry.objects.order_by("id").values_list("actor_name", "action", "target", "reason"))


class TestPause:
    def test_it_is_not_probed_any_more_and_says_so(self, said: list[Any]):
        check = make_check(make_service("stripe"), name="health")
        probed(check)
        assert pause([check], ANNA, "they migrate") == 1
        check.refresh_from_db()
        assert check.paused_at is not None
        assert (check.paused_until, check.paused_by, check.paused_reason) == (None, "anna", "they migrate")
        assert status(check) == "paused"
        assert claims.claim(claims.uuid.uuid4(), 10, {}, 10) == []
        change = StateChange.objects.get(check_ref=check, new="paused")
        assert (change.old, change.reason) == ("healthy", "paused by anna: they migrate")
        assert Service.objects.get().status == "paused"
        assert audit() == [("anna", "check.pause", "check:stripe/health", "they migrate")]
        assert ("state", {"services": [check.service_id]}) in said

    def test_the_audit_row_says_who_from_where_and_until_when(self):
        user = User.objects.create_user("anna")
        until = timezone.now() + HOUR
        pause([make_check()], Actor(user, "anna", "10.0.0.1"), "x", until)
        entry = AuditEntry.objects.get()
        assert (entry.actor, entry.address, entry.details) == (user, "10.0.0.1", {"until": until.isoformat()})

    def test_the_service_is_judged_by_the_checks_that_remain(self):
        service = make_service()
        bad, good = make_check(service, confirm_down=1), make_check(service)
        probed(bad, "critical")
        probed(good)
        pause([bad], ANNA, "known")
        service.refresh_from_db()
        assert (service.status, service.reason) == ("healthy", "")

    def test_a_probe_under_way_does_not_count_any_more(self):
        check = make_check(confirm_down=1)
        under_way = finished(check, outcome("critical"))
        pause([check], ANNA, "x")
        assert store.settle([under_way]) == 0
        assert status(check) == "paused"

    def test_what_is_paused_stays_as_it_is(self):
        check = make_check()
        pause([check], ANNA, "first")
        assert pause([check], Actor(None, "bob"), "second") == 0
        check.refresh_from_db()
        assert check.paused_by == "anna"
        assert len(audit()) == 1

    def test_a_pause_that_has_ended_may_be_followed_by_another(self):
        check = make_check(paused_at=timezone.now() - HOUR, paused_until=timezone.now() - HOUR / 2)
        assert pause([check], ANNA, "again") == 1
        check.refresh_from_db()
        assert (check.paused_reason, check.paused_until) == ("again", None)

    def test_archived_checks_are_left_alone(self):
        assert pause([make_check(archived_at=timezone.now())], ANNA, "x") == 0

    def test_no_checks_are_no_change(self, said: list[Any]):
        assert pause([], ANNA, "x") == 0
        assert said == []

    @pytest.mark.parametrize("reason", ["", "  \n", "\x00"])
    def test_it_needs_a_reason(self, reason: str):
        check = make_check()
        with pytest.raises(Refused, match="a reason is required"):
            pause([check], ANNA, reason)
        check.refresh_from_db()
        assert check.paused_at is None

    def test_it_needs_an_end_in_the_future(self):
        with pytest.raises(Refused, match="in the future"):
            pause([make_check()], ANNA, "x", timezone.now() - timedelta(seconds=1))
        assert audit() == []

    @pytest.mark.parametrize("reason", ["x" * 2000, "a\x00b", "grün ✗"])
    def test_any_reason_can_be_kept(self, reason: str):
        check = make_check()
        pause([check], Actor(None, "y" * 300), reason)
        check.refresh_from_db()
        assert check.paused_reason == reason.replace("\x00", "")[:500]


class TestResume:
    def test_it_is_probed_again_at_once(self, said: list[Any]):
        check = make_check(make_service("stripe"), name="health")
        pause([check], ANNA, "x")
        CheckState.objects.update(next_due_at=timezone.now() + HOUR)
        said.clear()
        assert resume([check], Actor(None, "bob"), "done") == 1
        check.refresh_from_db()
        assert (check.paused_at, check.paused_until, check.paused_by, check.paused_reason) == (None, None, "", "")
        assert status(check) == "unknown"
        assert len(claims.claim(claims.uuid.uuid4(), 10, {}, 10)) == 1
        assert audit()[-1] == ("bob", "check.resume", "check:stripe/health", "done")
        assert said == [("state", {"services": [check.service_id]})]

    def test_outcomes_of_before_the_pause_do_not_count(self):
        check = make_check(confirm_down=2)
        probed(check)
        probed(check, "critical")
        pause([check], ANNA, "x")
        resume([check], ANNA)
        probed(check, "critical")
        assert status(check) == "unknown"

    def test_what_is_not_paused_stays_as_it_is(self):
        check = make_check()
        probed(check)
        assert resume([check], ANNA) == 0
        assert status(check) == "healthy"
        assert audit() == []


class TestPausesThatEnd:
    def test_they_end_by_themselves(self):
        over = make_check(paused_at=timezone.now() - HOUR, paused_until=timezone.now() - timedelta(seconds=1))
        CheckState.objects.update(status="paused")
        lasting = make_check(paused_at=timezone.now(), paused_until=timezone.now() + HOUR)
        for_good = make_check(paused_at=timezone.now())
        assert resume_expired() == 1
        assert set(Check.objects.filter(paused_at=None)) == {over}
        assert set(Check.objects.exclude(paused_at=None)) == {lasting, for_good}
        assert status(over) == "unknown"
        assert audit()[0][:2] == ("wsmon", "check.resume")

    def test_there_may_be_none(self):
        assert resume_expired() == 0

    def test_a_check_probed_since_keeps_what_was_found(self):
        check = make_check()
        pause([check], ANNA, "x")
        Check.objects.update(paused_until=timezone.now() - timedelta(seconds=1))
        probed(check)
        assert resume_expired() == 1
        assert status(check) == "healthy"
        assert Service.objects.get().status == "healthy"


class TestMaintenance:
    def plan(self, service: Service | None = None, **changed: Any) -> MaintenanceWindow:
        now = timezone.now()
        fields = {"starts_at": now, "ends_at": now + HOUR, "reason": "they migrate", "actor": ANNA} | changed
        return start_maintenance(service, **fields)

    def test_it_is_planned_for_a_service(self, said: list[Any]):
        service = make_service("stripe")
        window = self.plan(service, recurrence="FREQ=WEEKLY", time_zone="Europe/Berlin")
        window.refresh_from_db()
        assert (window.service, window.reason, window.created_by) == (service, "they migrate", "anna")
        assert (window.recurrence, window.time_zone) == ("FREQ=WEEKLY", "Europe/Berlin")
        assert audit() == [("anna", "maintenance.start", "service:stripe", "they migrate")]
        assert said == [("state", {"services": [service.id]})]

    def test_or_for_all_of_them(self, said: list[Any]):
        ids = {make_service().id, make_service().id}
        make_service(archived_at=timezone.now())
        assert self.plan().service is None
        assert audit()[0][2] == "service:*"
        assert [(kind, set(payload["services"])) for kind, payload in said] == [("state", ids)]

    def test_without_any_service_nobody_needs_to_know(self, said: list[Any]):
        self.plan()
        assert said == []

    now = datetime(2026, 11, 21, 12).astimezone()

    @pytest.mark.parametrize(
        ("changed", "why"),
        [
            ({"reason": " "}, "a reason is required"),
            ({"ends_at": timezone.now() - 2 * HOUR}, "the end must be after the start"),
            ({"starts_at": now, "ends_at": now}, "the end must be after the start"),
            ({"starts_at": now, "ends_at": now + timedelta(days=32)}, "31 days at most"),
            (
                {"starts_at": timezone.now() - 3 * HOUR, "ends_at": timezone.now() - HOUR},
                "the end must be in the future",
            ),
            ({"recurrence": "FREQ=HOURLY"}, "FREQ must be one of"),
            ({"recurrence": "FREQ=DAILY;BYDAY=" + "MO," * 200}, "300 characters"),
            ({"time_zone": "Mars/Olympus"}, "no time zone"),
            ({"time_zone": "../../etc/passwd"}, "no time zone"),
            ({"time_zone": "Europe"}, "no time zone"),
            ({"time_zone": "a\x00b"}, "no time zone"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, changed: dict[str, Any], why: str):
        with pytest.raises(Refused, match=why):
            self.plan(**changed)
        assert not MaintenanceWindow.objects.exists()
        assert audit() == []

    def test_a_recurring_one_may_have_begun_long_ago(self):
        begun = timezone.now() - timedelta(days=100)
        assert self.plan(starts_at=begun, ends_at=begun + HOUR, recurrence="FREQ=DAILY").id

    def test_it_is_cancelled_once(self, said: list[Any]):
        window = self.plan(make_service("stripe"))
        said.clear()
        assert cancel_maintenance(window, Actor(None, "bob")) is True
        assert cancel_maintenance(window, ANNA) is False
        window.refresh_from_db()
        assert window.cancelled_at is not None
        assert audit()[1:] == [("bob", "maintenance.cancel", "service:stripe", "they migrate")]
        assert len(said) == 1


def test_checks_can_be_made_due():
    due, other = make_check(), make_check()
    later = timezone.now() + HOUR
    CheckState.objects.update(next_due_at=later)
    actions.due_now([due.id])
    assert CheckState.objects.get(check_ref=due).next_due_at < later
    assert CheckState.objects.get(check_ref=other).next_due_at == later


@pytest.mark.django_db(transaction=True)
class TestTwoAtOnce:
    def together(self, *calls: Callable[[], Any]) -> list[Any]:
        barrier, found, errors = threading.Barrier(len(calls)), [], []

        def work(call: Callable[[], Any]) -> None:
            try:
                barrier.wait(10)
                found.append(call())
            except Exception as error:
                errors.append(error)
            finally:
                connection.close()

        threads = [threading.Thread(target=work, args=(call,)) for call in calls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert errors == []
        return sorted(found)

    def test_two_people_pause_a_check_once(self):
        check = make_check()
        people = [Actor(None, f"person {number}") for number in range(4)]
        found = self.together(*[lambda who=who: pause([check], who, "x") for who in people])
        assert found == [0, 0, 0, 1]
        assert len(audit()) == 1
        assert StateChange.objects.filter(check_ref=check).count() == 1

    def test_two_people_cancel_a_window_once(self):
        now = timezone.now()
        window = start_maintenance(None, now, now + HOUR, "x", ANNA)
        assert self.together(*[lambda: cancel_maintenance(window, ANNA)] * 3) == [False, False, True]

    def test_pausing_while_results_arrive_never_deadlocks(self):
        for _ in range(5):
            service = make_service()
            checks = [make_check(service, confirm_down=1) for _ in range(4)]
            batch = [finished(check, outcome("critical")) for check in checks]
            self.together(
                partial(store.settle, batch),
                partial(pause, checks[::-1], ANNA, "x"),
                partial(pause, checks, ANNA, "y"),
            )
            service.refresh_from_db()
            assert service.status == "paused"
