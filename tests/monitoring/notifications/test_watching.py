"""What watches messages: metrics, the dead man's switch, housekeeping, and why nobody is told."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import Error
from django.utils import timezone
from prometheus_client import Metric

from monitoring import alerts, selfwatch
from monitoring.models import Alert, Notification
from monitoring.notifications import deadman, inhibition, metrics, settling
from monitoring.notifications.deadman import Pinged
from monitoring.notifications.inhibition import Open, reason
from tests import servers
from tests.monitoring.notifications.factories import Sink, in_turn, make_channel, raised, send_due


def sample(name: str, **labels: str) -> float:
    found: list[Metric] = list(metrics.collect())
    return next(one.value for family in found for one in family.samples if (one.name, one.labels) == (name, labels))


@pytest.mark.django_db
def test_prometheus_counts_what_was_told_and_what_could_not_be(loopback_targets: None) -> None:
    with Sink(in_turn(servers.http(), servers.http(status="401 No"))) as sink:
        make_channel("ops", sink.address)
        make_channel("idle", direct=False)
        for key in "ab":
            raised(key)
            send_due()
        raised("c")
    assert sample("wsmon_notifications_total", channel="ops", state="sent") == 1
    assert sample("wsmon_notifications_total", channel="ops", state="failed") == 1
    assert sample("wsmon_notifications_total", channel="idle", state="failed") == 0
    assert sample("wsmon_notifications_waiting", channel="ops") == 1
    assert sample("wsmon_notifications_late_seconds", channel="idle") == 0
    assert sample("wsmon_channel_failing", channel="ops") == 1
    assert sample("wsmon_channel_failing", channel="idle") == 0


@pytest.mark.django_db
def test_housekeeping_forgets_what_ended_long_ago_and_nothing_that_waits() -> None:
    make_channel()
    raised("a")
    Notification.objects.update(created_at=timezone.now() - timedelta(days=100))
    assert settling.forget(90) == 0
    Notification.objects.update(state="sent")
    assert settling.forget(101) == 0
    assert settling.forget(90) == 1


@pytest.mark.django_db
class TestDeadMansSwitch:
    @pytest.fixture(autouse=True)
    def _well(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.problem: str | None = None
        deadman._run.failures = 0
        monkeypatch.setattr(selfwatch, "look", lambda: selfwatch.SelfWatch(self.problem, 0, 1, 0, 0, 0))

    def at(self, monkeypatch: pytest.MonkeyPatch, sink: Sink) -> None:
        monkeypatch.setenv("WSMON_DEADMAN_URL", sink.url("/ping"))

    def test_without_one_nothing_is_asked(self) -> None:
        assert deadman.ping() is Pinged.NONE

    def test_it_is_told_while_all_is_well(self, sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at(monkeypatch, sink)
        assert deadman.ping() is Pinged.SENT
        assert sink.requests[0].startswith(b"GET /ping")

    def test_silence_means_trouble(self, sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at(monkeypatch, sink)
        self.problem = "No worker runs"
        assert deadman.ping() is Pinged.HELD
        self.problem = None
        make_channel()
        raised("a")
        now = timezone.now() + timedelta(minutes=6)
        assert deadman.unwell(now) == "Messages wait and none is sent."
        assert deadman.unwell(timezone.now()) == ""
        Notification.objects.create(
            channel_id=Notification.objects.get().channel_id,
            kind="storm",
            once="s",
            severity="info",
            title="s",
            state="sent",
            created_at=now - timedelta(seconds=30),
        )
        monkeypatch.setattr(deadman.claims.timezone, "now", lambda: now)
        assert deadman.unwell(now) == ""  # too many: they wait on purpose

        def fail() -> None:
            raise Error("gone")

        monkeypatch.setattr(selfwatch, "look", fail)
        assert deadman.ping() is Pinged.HELD
        assert sink.requests == []

    def test_one_that_cannot_be_reached_is_an_alert_after_a_while(
        self, loopback_targets: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with Sink(in_turn(*[servers.http(status="500 Oops")] * 3, servers.http())) as sink:
            self.at(monkeypatch, sink)
            for number in range(3):
                assert not Alert.objects.exists(), number
                assert deadman.ping() is Pinged.FAILED
            assert "it answered 500" in Alert.objects.get().detail
            assert deadman.ping() is Pinged.SENT
        assert alerts.open_alerts() == []
        with servers.refusing_port() as port:
            monkeypatch.setenv("WSMON_DEADMAN_URL", f"http://127.0.0.1:{port}/ping/secret-uuid")
            assert deadman.ping() is Pinged.FAILED


INCIDENT, FLAPPING = Open("incident:1", "incident", 1), Open("flapping:x", "flapping", 1)
NETWORK = Open("own-connectivity", "own_connectivity", None)
OWN_ERROR = Open("own-error:x", "own_error", 1)


@pytest.mark.parametrize(
    ("kind", "service", "parents", "planned", "expected"),
    [
        ("breaker", 1, [], "", ""),
        ("breaker", 1, [INCIDENT], "", "alert: incident:1"),
        ("breaker", 2, [INCIDENT], "", ""),
        ("breaker", None, [INCIDENT, NETWORK], "move", ""),
        ("breaker", 1, [NETWORK], "", "alert: own-connectivity"),
        ("breaker", 1, [INCIDENT], "move", "maintenance: move"),
        ("certificate_ends", 1, [INCIDENT, NETWORK], "", ""),
        ("rate_limit", 1, [INCIDENT], "", ""),
        ("own_error", 1, [INCIDENT], "", ""),
        ("own_error", 1, [], "move", "maintenance: move"),
        ("incident", 1, [NETWORK], "move", ""),  # incidents know by themselves
        ("incident", 1, [FLAPPING], "", "alert: flapping:x"),
        ("flapping", 1, [INCIDENT], "move", ""),
        ("slow", 1, [FLAPPING], "", ""),
        ("breaker", 1, [OWN_ERROR], "", "alert: own-error:x"),
        ("breaker", 2, [OWN_ERROR], "", ""),
        ("incident", 1, [OWN_ERROR], "", ""),
        ("slow", 1, [OWN_ERROR], "", ""),
        ("breaker", 1, [INCIDENT, OWN_ERROR], "", "alert: incident:1"),
    ],
)
def test_why_nobody_is_told(kind: str, service: int | None, parents: list[Open], planned: str, expected: str) -> None:
    assert reason(kind, "key", service, parents, planned) == expected


@pytest.mark.parametrize(
    ("kind", "why", "mine"),
    [
        ("x", "", True),
        ("x", "maintenance: move", True),
        ("x", "alert: incident:1", True),
        ("x", "echo of incident:1", False),
        ("incident", "maintenance: move", False),
        ("incident", "own-connectivity", False),
        ("incident", "alert: flapping:x", True),
    ],
)
def test_whose_reason_it_is(kind: str, why: str, mine: bool) -> None:
    assert inhibition.is_mine(kind, why) is mine


def test_an_alert_does_not_stand_for_itself() -> None:
    parent: Any = Open("own-connectivity", "own_connectivity", 1)
    assert reason("thing", "own-connectivity", 1, [parent]) == ""
