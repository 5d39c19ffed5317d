"""Routing, as tables: what happens to an alert in, who is told what and when out."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.notifications.quiet import Quiet
from monitoring.notifications.routing import AlertFacts, ChannelFacts, Told, What, decide

NOON = datetime(2026, 6, 10, 12, tzinfo=UTC)
MIDNIGHT = datetime(2026, 6, 10, 0, tzinfo=UTC)
NIGHT = Quiet(time(22), time(7), ZoneInfo("UTC"))
OPS = ChannelFacts(1, "ops")
ALERT = AlertFacts("critical", "stripe")


def told(alert: AlertFacts, what: What, channel: ChannelFacts, now: datetime = NOON, **more: object) -> list[str]:
    """Each plan in a word, with its wait in minutes."""
    plans = decide(alert, what, [channel], now, **more)
    return [
        "drop"
        if plan.drop
        else f"{plan.what.value} +{(plan.due_at - now).total_seconds() / 60:g} {plan.held}".strip()
        for plan in plans
    ]


@pytest.mark.parametrize(
    ("alert", "channel", "expected"),
    [
        (ALERT, OPS, ["opened +0"]),
        (replace(ALERT, severity="info"), OPS, []),
        (replace(ALERT, severity="warning"), OPS, ["opened +0"]),
        (replace(ALERT, severity="warning"), replace(OPS, min_severity="critical"), []),
        (ALERT, replace(OPS, services=frozenset(["stripe"])), ["opened +0"]),
        (ALERT, replace(OPS, services=frozenset(["twilio"])), []),
        (replace(ALERT, service=""), replace(OPS, services=frozenset(["twilio"])), []),
        (ALERT, replace(OPS, direct=False), []),
        (replace(ALERT, inhibited_by="maintenance: move"), OPS, []),
        (replace(ALERT, not_to="ops"), OPS, []),
        (ALERT, replace(OPS, digest=600), ["opened +0"]),
        (replace(ALERT, severity="warning"), replace(OPS, digest=600), ["opened +10 digest"]),
        (
            replace(ALERT, severity="warning"),
            replace(OPS, digest=600, window_ends=NOON + timedelta(minutes=3)),
            ["opened +3 digest"],
        ),
        (
            replace(ALERT, severity="warning"),
            replace(OPS, digest=600, window_ends=NOON - timedelta(minutes=3)),
            ["opened +10 digest"],
        ),
    ],
)
def test_an_opening(alert: AlertFacts, channel: ChannelFacts, expected: list[str]) -> None:
    assert told(alert, What.OPENED, channel) == expected


@pytest.mark.parametrize(
    ("severity", "channel", "expected"),
    [
        ("critical", replace(OPS, quiet=NIGHT), ["opened +0"]),
        ("warning", replace(OPS, quiet=NIGHT), ["opened +420 quiet hours"]),
        # A digest that would go out at night goes in the morning.
        ("warning", replace(OPS, quiet=NIGHT, digest=3600), ["opened +420 quiet hours"]),
    ],
)
def test_at_night(severity: str, channel: ChannelFacts, expected: list[str]) -> None:
    assert told(replace(ALERT, severity=severity), What.OPENED, channel, MIDNIGHT) == expected


@pytest.mark.parametrize(
    ("what", "knows", "expected"),
    [
        (What.OPENED, Told.TOLD, []),
        (What.OPENED, Told.WAITING, []),
        (What.WORSE, Told.NOTHING, ["opened +0"]),
        (What.WORSE, Told.TOLD, ["worse +0"]),
        (What.WORSE, Told.WAITING, ["drop", "worse +0"]),
        (What.RESOLVED, Told.NOTHING, []),
        (What.RESOLVED, Told.TOLD, ["resolved +0"]),
        (What.RESOLVED, Told.WAITING, ["drop"]),
    ],
)
def test_what_a_channel_knows_already(what: What, knows: Told, expected: list[str]) -> None:
    assert told(ALERT, what, replace(OPS, told=knows)) == expected


def test_an_end_is_told_to_whoever_was_told_whatever_they_would_hear_now() -> None:
    channel = replace(OPS, direct=False, min_severity="critical", services=frozenset(["x"]), told=Told.TOLD)
    assert told(replace(ALERT, severity="info", inhibited_by="x"), What.RESOLVED, channel) == ["resolved +0"]


@pytest.mark.parametrize("what", [What.ESCALATED, What.REMINDER])
def test_an_escalation_goes_to_whom_it_names_and_no_further(what: What) -> None:
    channel = replace(OPS, direct=False, min_severity="critical", services=frozenset(["x"]), digest=600)
    warning = replace(ALERT, severity="warning")
    assert told(warning, what, channel, named=frozenset(["ops"])) == [f"{what.value} +0"]
    assert told(warning, what, channel, named=frozenset(["other"])) == []
    assert told(replace(warning, inhibited_by="x"), what, channel, named=frozenset(["ops"])) == []
    at_night = replace(channel, quiet=NIGHT)
    assert told(warning, what, at_night, MIDNIGHT, named=frozenset(["ops"])) == [f"{what.value} +420 quiet hours"]


channels = st.builds(
    ChannelFacts,
    id=st.integers(1, 5),
    slug=st.sampled_from(["a", "b", "c"]),
    min_severity=st.sampled_from(["info", "warning", "critical"]),
    services=st.frozensets(st.sampled_from(["stripe", "twilio"])),
    quiet=st.sampled_from([None, NIGHT]),
    digest=st.sampled_from([None, 600.0]),
    direct=st.booleans(),
    told=st.sampled_from(Told),
)
facts = st.builds(
    AlertFacts,
    severity=st.sampled_from(["info", "warning", "critical"]),
    service=st.sampled_from(["", "stripe", "twilio"]),
    inhibited_by=st.sampled_from(["", "maintenance: x"]),
)


@given(facts, st.sampled_from(What), channels, st.integers(0, 1439))
def test_whatever_happens_nobody_is_told_in_the_past_twice_or_late_of_what_is_critical(
    alert: AlertFacts, what: What, channel: ChannelFacts, minute: int
) -> None:
    now = MIDNIGHT + timedelta(minutes=minute)
    plans = decide(alert, what, [channel], now, frozenset([channel.slug]))
    messages = [plan for plan in plans if not plan.drop]
    assert len(messages) <= 1
    assert all(plan.due_at >= now for plan in messages)
    if alert.severity == "critical":
        assert all(plan.due_at == now for plan in messages)
    if alert.inhibited_by:
        assert all(plan.what is What.RESOLVED for plan in messages)
