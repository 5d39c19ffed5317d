"""Escalations that would reach nobody."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from django.utils import timezone

from monitoring.alertrules.finding import Context
from monitoring.escalation import gaps
from monitoring.escalation.ladder import Policy, Rung
from monitoring.models import Channel, Escalation, Rotation

POLICY = Policy("ops", (Rung(0, ("chat",)), Rung(300, ("rotation:ops", "boss"))))


@pytest.mark.parametrize(
    ("on_call", "channels", "steps"),
    [
        ({"ops": ["ana"]}, ["chat", "ana"], []),
        ({"ops": []}, ["chat", "boss"], []),
        ({"ops": []}, ["chat"], [2]),
        ({"ops": ["ana"]}, ["chat"], [2]),  # Ana's channel is gone
        ({}, [], [1, 2]),
    ],
)
def test_which_steps_reach_nobody(on_call: dict[str, list[str]], channels: list[str], steps: list[int]) -> None:
    found = gaps.find([POLICY], on_call, channels)
    assert [one.key for one in found] == [f"on-call:ops:{number}" for number in steps]


def test_it_says_why() -> None:
    [found] = gaps.find([POLICY], {}, ["chat"])
    assert found.title == "The escalation ops would reach nobody by its step 2 of 2"
    assert found.detail == "nobody is on call by the rotation ops; there is no channel boss any more."


@pytest.mark.django_db
def test_it_looks_at_what_is_in_use() -> None:
    now = datetime(2026, 11, 28, 12, tzinfo=UTC)
    assert gaps.look(Context(now)) == []
    Channel.objects.create(slug="chat")
    rotation = Rotation.objects.create(slug="ops", people=[{"name": "Ana", "channels": ["chat"]}])
    row = Escalation.objects.create(slug="ops", steps=[{"after": 0, "notify": ["rotation:ops"]}])
    assert gaps.look(Context(now)) == []
    rotation.starts_on = date(2026, 11, 29)
    rotation.save()
    assert [one.key for one in gaps.look(Context(now))] == ["on-call:ops:1"]
    row.archived_at = timezone.now()
    row.save()
    assert gaps.look(Context(now)) == []
