from __future__ import annotations

from typing import Any

import pytest

from monitoring.critical import comparing
from monitoring.critical.comparing import Facts, Posed
from monitoring.critical.effects import AS_USUAL, IN_AN_EMERGENCY, ON_A_CRITICAL_DAY, Values

USUAL, CRITICAL = Posed(AS_USUAL), Posed(ON_A_CRITICAL_DAY, frozen=True)
EMERGENCY = Posed(IN_AN_EMERGENCY, frozen=True, read_only=True)


def facts(criticality: str = "critical", interval: float = 30, timeout: float = 5, **fields: Any) -> Facts:
    defaults: dict[str, Any] = {
        "service": criticality,
        "service_label": criticality.title(),
        "name": "health",
        "kind": "http",
        "provider": "http",
        "criticality": criticality,
        "usual": Values(interval, timeout, fields.pop("confirm_down", 2)),
        "recovery": 30.0,
    }
    return Facts(**defaults | fields)


def told(checks: list[Facts], posed: Posed) -> dict[str, tuple[str, str, str]]:
    return {line.policy: (line.usual, line.then, line.meaning) for line in comparing.lines(checks, posed)}


def test_on_a_critical_day_each_policy_says_what_it_becomes():
    assert told([facts(), facts("low", 60)], CRITICAL) == {
        "Check interval, critical and high": ("30 s", "15 s", "4.0 probes/min instead of 2.0"),
        "Probe timeout": ("5 s", "2.5 s", ""),
        "Confirm down": ("2 probes", "1 probe", "alert within 15 s of the first failure"),
        "Check interval, normal and low": (
            "60 s",
            "3 min",
            "0.3 probes/min instead of 1.0; saves quota while they are healthy: Low",
        ),
        "Breaker open time": ("30 s", "15 s", "also for breakers already open"),
        "Retries of critical webhooks": (
            "as configured",
            "waits halved",
            "up to 10 min; critical first in every lane",
        ),
        "Escalation starts at": ("step 1", "step 2", ""),
        "Deploys": ("allowed", "frozen", "GET /api/admin/freeze answers 423"),
        "Applications": ("read and write", "read and write", ""),
    }


def test_on_a_usual_day_nothing_differs():
    assert not any(line.differs for line in comparing.lines([facts(), facts("low")], USUAL))
    assert comparing.changed([facts()], USUAL) == []
    assert comparing.loads([facts()], USUAL) == []


def test_in_an_emergency_applications_are_asked_for_read_only():
    found = told([facts(), facts("low", 60)], EMERGENCY)
    assert found["Applications"][1] == "asked for read-only"
    assert found["Escalation starts at"][1] == "all steps at once"
    assert found["Check interval, normal and low"][1] == "5 s"


def test_without_checks_only_the_policies_of_all_are_told():
    assert list(told([], CRITICAL)) == [
        "Retries of critical webhooks",
        "Escalation starts at",
        "Deploys",
        "Applications",
    ]


@pytest.mark.parametrize(
    ("intervals", "words"),
    [([30, 30], "30 s"), ([2.5, 90], "2.5 s to 90 s"), ([120, 600], "2 min to 10 min"), ([86_400], "1 d")],
)
def test_values_that_differ_are_told_as_a_range(intervals: list[float], words: str):
    checks = [facts(interval=each) for each in intervals]
    assert told(checks, USUAL)["Check interval, critical and high"][0] == words


def test_many_that_make_room_are_counted():
    checks = [facts("low", service_label=f"S{number}") for number in range(5)]
    assert told(checks, CRITICAL)["Check interval, normal and low"][2].endswith("S0, S1, S2 and 2 more")


def test_what_is_probed_more_often_comes_first():
    checks = [facts("low", name="l"), facts(name="slow", interval=600), facts(name="quick", interval=4)]
    assert [one.facts.name for one in comparing.changed(checks, CRITICAL)] == ["quick", "slow", "l"]


def test_each_vendor_is_told_its_calls():
    checks = [facts(provider="stripe"), facts(provider="stripe"), facts("low", provider="github"), facts("low", 3600)]
    found = [(one.provider, one.usual, round(one.then, 2)) for one in comparing.loads(checks, CRITICAL)]
    assert found == [("stripe", 4, 8), ("github", 2, 0.67)]


def test_what_is_in_force_for_one_service_alone_counts_for_it():
    one = facts("low", strict=IN_AN_EMERGENCY)
    assert comparing.then_of(one, USUAL).interval == 5
    found = told([one, facts("high")], USUAL)["Breaker open time"]
    assert found == ("30 s", "7.5 s to 30 s", "shorter for Low; also for breakers already open")
    assert told([one, facts("high")], CRITICAL)["Breaker open time"][1] == "7.5 s to 15 s"
