"""What critical days do to checks: how they are claimed, and how soon a failure is confirmed."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from monitoring import claims, store
from monitoring.claims import Claim
from monitoring.critical import actions, inforce
from monitoring.models import Check, CheckState, Posture, Service
from tests.monitoring.factories import finished, make_check, make_service, outcome
from wsmon.audit import Actor

pytestmark = pytest.mark.django_db
ANNA = Actor.system("anna")


def claim(check: Check) -> Claim:
    """The claim of a check that is due, given back at once."""
    CheckState.objects.filter(check_ref=check).update(next_due_at=timezone.now() - timedelta(seconds=1))
    found = {one.check_id: one for one in claims.claim(uuid.uuid4(), 100, {}, 100)}
    for one in found.values():
        claims.give_back(one)
    return found[check.id]


def values(check: Check) -> tuple[float, float, int, bool]:
    found = claim(check)
    return found.interval, found.timeout, found.policy.confirm_down, found.policy.hurried


def critical_day() -> None:
    actions.override(True, timezone.now() + timedelta(hours=1), "a test", ANNA)


def check_of(criticality: str, **fields: Any) -> Check:
    return make_check(make_service(criticality=criticality), **{"interval": 30, "timeout": 5} | fields)


class TestClaims:
    def test_before_anything_was_worked_out_checks_are_as_configured(self):
        assert not Posture.objects.exists()
        assert values(check_of("critical")) == (30, 5, 2, False)

    def test_on_a_usual_day_checks_are_as_configured(self):
        inforce.refresh()
        assert values(check_of("critical")) == (30, 5, 2, False)

    def test_on_a_critical_day_what_matters_is_halved(self):
        critical_day()
        assert values(check_of("critical")) == (15, 2.5, 1, False)
        assert values(check_of("high", confirm_down=6)) == (15, 2.5, 3, True)

    def test_what_matters_less_makes_room_while_it_is_healthy(self):
        critical_day()
        check = check_of("low")
        assert values(check) == (30, 5, 2, False)
        CheckState.objects.filter(check_ref=check).update(status="healthy")
        assert values(check) == (90, 5, 2, False)

    def test_recovery_is_confirmed_as_usual(self):
        critical_day()
        assert claim(check_of("critical", confirm_up=3)).policy.confirm_up == 3

    def test_in_an_emergency_of_all_services_everything_is_strict(self):
        actions.start_emergency(None, "a test", ANNA)
        assert values(check_of("low", confirm_down=8)) == (5, 2.5, 1, False)

    def test_in_one_of_one_service_the_others_are_as_usual(self):
        check, other = check_of("low"), check_of("critical")
        actions.start_emergency(Service.objects.get(id=check.service_id), "a test", ANNA)
        assert values(check) == (5, 2.5, 1, False)
        assert values(other) == (30, 5, 2, False)

    def test_when_it_is_over_checks_are_as_configured_again(self):
        critical_day()
        check = check_of("critical")
        actions.end_override(ANNA)
        assert values(check) == (30, 5, 2, False)

    def test_a_check_that_makes_room_is_not_taken_for_one_whose_clock_went_back(self):
        critical_day()
        check = check_of("low", interval=180)
        CheckState.objects.filter(check_ref=check).update(next_due_at=timezone.now() + timedelta(seconds=539))
        assert claims.claim(uuid.uuid4(), 100, {}, 100) == []
        CheckState.objects.filter(check_ref=check).update(next_due_at=timezone.now() + timedelta(hours=1))
        assert len(claims.claim(uuid.uuid4(), 100, {}, 100)) == 1


# outcomes of a check with confirm_down -> after which of them it is critical, and seconds to the next probe
SEQUENCES: list[tuple[str, int, list[str], list[tuple[str, float]]]] = [
    ("the usual two", 2, ["critical"], [("critical", 15)]),
    ("four become two, the second at once", 4, ["critical", "critical"], [("healthy", 1), ("critical", 15)]),
    ("a blip is none", 4, ["critical", "healthy", "critical"], [("healthy", 1), ("healthy", 15), ("healthy", 1)]),
    ("six become three", 6, ["critical"] * 3, [("healthy", 1), ("healthy", 1), ("critical", 15)]),
    ("slowness too", 4, ["degraded", "degraded"], [("healthy", 1), ("degraded", 15)]),
]


@pytest.mark.parametrize(
    ("confirm_down", "outcomes", "came"), [case[1:] for case in SEQUENCES], ids=[case[0] for case in SEQUENCES]
)
def test_a_failure_is_confirmed_within_15_seconds(
    confirm_down: int, outcomes: list[str], came: list[tuple[str, float]]
):
    critical_day()
    check = check_of("critical", confirm_down=confirm_down)
    CheckState.objects.filter(check_ref=check).update(status="healthy", recent=["healthy"], checked_at=timezone.now())
    for word, (status, seconds) in zip(outcomes, came, strict=True):
        found = claim(check)
        due = timezone.now()
        CheckState.objects.filter(check_ref=check).update(next_due_at=due)
        store.settle([finished(check, outcome(word), policy=found.policy, interval=found.interval, due_at=due)])
        state = CheckState.objects.get(check_ref=check)
        assert state.status == status
        assert (state.next_due_at - due).total_seconds() == pytest.approx(seconds, abs=0.9)


def test_on_a_usual_day_a_failure_waits_for_its_interval():
    check = check_of("critical", confirm_down=4)
    CheckState.objects.filter(check_ref=check).update(status="healthy", checked_at=timezone.now())
    found = claim(check)
    due = timezone.now()
    CheckState.objects.filter(check_ref=check).update(next_due_at=due)
    store.settle([finished(check, outcome("critical"), policy=found.policy, interval=found.interval, due_at=due)])
    left = (CheckState.objects.get(check_ref=check).next_due_at - due).total_seconds()
    assert left == pytest.approx(30, abs=0.9)
