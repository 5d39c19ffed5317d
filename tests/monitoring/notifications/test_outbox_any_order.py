"""The outbox, whatever happens in whatever order: told at least once, in order, and never lost without a trace."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest
from django.db.models import F
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitoring import alerts
from monitoring.models import Alert, Channel, Notification
from monitoring.notifications import claims, inhibition, sending, settling
from monitoring.notifications.messages import Message
from monitoring.notifications.problems import ChannelProblem
from tests.monitoring.notifications.factories import make_channel, raised

KEYS = ("a", "b", "c", "d", "e")
events = st.one_of(
    st.tuples(st.just("raise"), st.sampled_from(KEYS), st.sampled_from(["info", "warning", "critical"])),
    st.tuples(st.just("resolve"), st.sampled_from(KEYS)),
    st.tuples(st.just("inhibit"), st.sampled_from(KEYS), st.sampled_from(["", "own-connectivity"])),
    st.tuples(st.just("send"), st.sampled_from(["ok", "fail", "refuse", "die", "die after"])),
    st.tuples(st.just("wait"), st.sampled_from([6, 61, 700, 4000])),
    st.tuples(st.just("sweep")),
)


class World:
    """A main channel with a stand-in, whose sends do as they are told, and what arrived."""

    def __init__(self) -> None:
        for model in (Notification, Alert, Channel):
            model.objects.all().delete()
        other = make_channel("other", direct=False)
        make_channel("main", fallback=other, digest=None)
        self.arrived: Counter[str] = Counter()
        self.order: list[str] = []

    def happen(self, event: tuple[str, ...]) -> None:
        match event:
            case ("raise", key, severity):
                raised(key, severity)
            case ("resolve", key):
                alerts.resolve(key)
            case ("inhibit", key, why):
                Alert.objects.filter(key=key, resolved_at=None).update(inhibited_by=why)
            case ("send", fate):
                self.send(fate)
            case ("wait", seconds):
                self.wait(int(seconds))
            case _:
                self.sweep()

    def send(self, fate: str) -> int:
        found = claims.claim(10)
        for claim in found:
            self.attempt(claim, fate)
        return len(found)

    def attempt(self, claim: Notification, fate: str) -> None:
        sending.message_of(claim)
        if fate == "die":
            return
        if fate in ("ok", "die after"):
            number = str(claim.id)
            self.arrived[number] += 1
            self.order.append(number)
        if fate == "ok":
            settling.sent(claim)
        elif fate in ("fail", "refuse"):
            settling.failed(claim, "no", retry=fate == "fail")

    def wait(self, seconds: int) -> None:
        span = timedelta(seconds=seconds)
        for name in ("due_at", "lease_until", "sent_at", "created_at"):
            Notification.objects.update(**{name: F(name) - span})

    def sweep(self) -> None:
        inhibition.refresh(timezone.now())
        for lost in claims.release_expired():
            settling.failed(lost, settling.LOST, retry=True)

    def finish(self) -> None:
        """From here on everything works."""
        Alert.objects.update(inhibited_by="")
        for _ in range(200):
            self.wait(4_000)
            self.sweep()
            if not self.send("ok") and not Notification.objects.filter(state__in=["pending", "sending"]).exists():
                return
        raise AssertionError("it never ends")


@pytest.mark.django_db
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(events, min_size=1, max_size=30))
def test_every_alert_is_told_at_least_once_or_it_is_visible_that_it_was_not(story: list[tuple[str, ...]]) -> None:
    world = World()
    for event in story:
        world.happen(event)
    world.finish()
    rows = {str(row.id): row for row in Notification.objects.all()}
    for alert in Alert.objects.exclude(kind="channel").filter(resolved_at=None):
        mine = [row for row in rows.values() if row.alert_id == alert.id]
        told = any(reached(world, rows, row) for row in mine)
        assert told or any(undelivered(rows, row) for row in mine), "an open alert that nobody heard of"
    for row in rows.values():
        assert row.state in ("sent", "gathered", "dropped", "failed")
        if row.state == "sent":
            assert world.arrived[str(row.id)] >= 1
        if row.state == "failed" and row.channel.slug == "main":
            stand_in = Notification.objects.filter(channel__slug="other", fallback_of=row)
            twin = Notification.objects.filter(channel__slug="other", alert=row.alert_id, kind=row.kind)
            assert stand_in.exists() or twin.exists()
    assert_in_order(world, rows)


def reached(world: World, rows: dict[str, Notification], row: Notification) -> bool:
    if row.state == "gathered":
        return reached(world, rows, rows[str(row.gathered_in_id)])
    return world.arrived[str(row.id)] > 0


def undelivered(rows: dict[str, Notification], row: Notification) -> bool:
    """Whether it is shown that it could not be delivered, by itself or in another."""
    return (rows[str(row.gathered_in_id)] if row.state == "gathered" else row).state == "failed"


def assert_in_order(world: World, rows: dict[str, Notification]) -> None:
    """By one channel nobody hears of an end before the beginning."""
    heard: set[tuple[int, int]] = set()
    for number in world.order:
        row = rows[number]
        if row.alert_id is None:  # a gathered one: both may stand in it
            heard |= {(one.channel_id, one.alert_id or 0) for one in rows.values() if one.gathered_in_id == row.id}
        elif row.kind == "resolved":
            assert (row.channel_id, row.alert_id) in heard or row.fallback_of_id is not None or lost(rows, row)
        else:
            heard.add((row.channel_id, row.alert_id))


def lost(rows: dict[str, Notification], end: Notification) -> bool:
    """The beginning could not be delivered there."""
    mine = [row for row in rows.values() if (row.channel_id, row.alert_id) == (end.channel_id, end.alert_id)]
    return any(row.state in ("failed", "gathered", "dropped") for row in mine if row.kind != "resolved")


@pytest.mark.django_db
@pytest.mark.parametrize("retry", [True, False])
def test_a_problem_is_settled_whatever_it_is(retry: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_channel: Channel, _message: Message) -> None:
        raise ChannelProblem("no", retry=retry)

    monkeypatch.setattr(sending.channels, "send", fail)
    make_channel()
    raised("a")
    (claim,) = claims.claim(5)
    assert sending.attempt(claim) is not None
    assert Notification.objects.get(kind="opened").state == ("pending" if retry else "failed")
