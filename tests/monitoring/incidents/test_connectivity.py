"""When everything fails at once it is us: one alert, not twenty."""

from __future__ import annotations

import socket
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from monitoring import store
from monitoring.incidents import connectivity, judging
from monitoring.incidents.connectivity import Reach, Tried, is_near, is_ours
from monitoring.models import Alert, ControlTarget, Incident
from tests.monitoring.factories import finished, make_check, make_service, outcome
from tests.monitoring.incidents.makers import probe, vendor
from wsmon.vocabulary import Category

PROVIDERS = ["stripe", "resend", "twilio", "github", "slack", "shopify"]


@pytest.mark.parametrize(
    ("control", "failing", "working", "ours"),
    [
        (None, 0, 0, False),
        (None, 2, 0, False),
        (None, 3, 0, True),
        (None, 3, 1, False),
        (True, 4, 0, False),
        (True, 5, 0, True),
        (True, 50, 1, False),
        (False, 0, 0, False),
        (False, 0, 9, False),
        (False, 1, 0, True),
        (False, 1, 1, False),
        (False, 2, 2, True),
        (False, 2, 3, False),
        (False, 20, 1, True),
    ],
)
def test_when_it_is_ours(control: bool | None, failing: int, working: int, ours: bool) -> None:
    assert is_ours(Reach(control, failing, working)) is ours


@pytest.mark.parametrize(
    ("url", "host", "near"),
    [
        ("https://api.stripe.com/", "", False),
        ("http://127.0.0.1:9001/health", "", True),
        ("http://10.1.2.3/", "", True),
        ("http://[::1]:8000/", "", True),
        ("http://redis:6379/", "", True),
        ("http://1.1.1.1/", "", False),
        ("", "db.internal.example:5432", False),
        ("", "localhost:5432", True),
        ("", "", False),
        ("http://[", "", False),
    ],
)
def test_what_is_nearby_says_nothing_of_the_outside(url: str, host: str, near: bool) -> None:
    assert is_near(url, host) is near


@pytest.fixture(autouse=True)
def no_target(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.CONTROL_TARGETS = []
    monkeypatch.setattr(connectivity, "_next_look", 0.0)


def vendors(number: int = 6) -> list[Any]:
    return [vendor(slug, slug) for slug in PROVIDERS[:number]]


def fail_all(checks: list[Any], category: Category = Category.TIMEOUT_ERROR) -> None:
    """Each fails twice; the second time all in one batch."""
    for check in checks:
        probe(check, "hc", category=category)
    store.settle([finished(check, outcome("critical", category=category)) for check in checks])


@pytest.mark.django_db
class TestAllAtOnce:
    def test_one_alert_tells_of_it_and_the_incidents_tell_nobody(self) -> None:
        fail_all(vendors())
        assert Incident.objects.filter(closed_at=None).count() == 6
        own = Alert.objects.get(key="own-connectivity", resolved_at=None)
        assert (own.severity, own.inhibited_by) == ("critical", "")
        assert "6 vendors and services cannot be reached, 0 can." in own.detail
        held = Alert.objects.filter(kind="incident", resolved_at=None)
        assert {alert.inhibited_by for alert in held} == {"own-connectivity"}

    def test_errors_of_their_own_are_not_ours(self) -> None:
        fail_all(vendors(), Category.SERVER_ERROR)
        assert not Alert.objects.filter(key="own-connectivity").exists()

    def test_while_others_work_it_is_theirs(self) -> None:
        probe(vendor("whatsapp", "whatsapp"), "hh")
        fail_all(vendors(2))
        assert not Alert.objects.filter(key="own-connectivity").exists()
        assert {alert.inhibited_by for alert in Alert.objects.filter(kind="incident")} == {""}

    def test_our_own_hosts_nearby_do_not_count(self) -> None:
        near = make_check(make_service("db", "tcp"), "tcp", options={"host": "127.0.0.1", "port": 5432})
        probe(near, "hh")
        fail_all(vendors())
        assert Alert.objects.filter(key="own-connectivity", resolved_at=None).exists()

    def test_it_is_resolved_when_they_can_be_reached_again(self) -> None:
        checks = vendors()
        fail_all(checks)
        for check in checks[:5]:
            probe(check, "hh", timezone.now())
        assert connectivity.settle() is False
        assert not connectivity.in_trouble()
        judging.rejudge()
        (left,) = Alert.objects.filter(kind="incident", resolved_at=None)
        assert left.inhibited_by == "", "what is still wrong is told after all"

    def test_what_opened_a_moment_before_is_taken_for_the_same(self) -> None:
        checks = vendors()
        probe(checks[0], "hcc", category=Category.TIMEOUT_ERROR)
        first = Alert.objects.get(kind="incident")
        assert first.inhibited_by == ""
        fail_all(checks[1:])
        first.refresh_from_db()
        assert first.inhibited_by == "own-connectivity"

    def test_results_of_long_ago_say_nothing(self) -> None:
        old = timezone.now() - timedelta(hours=1)
        for check in vendors():
            probe(check, "c", old, category=Category.TIMEOUT_ERROR)
        assert connectivity.reach() == Reach(None, 0, 0)


@pytest.mark.django_db
class TestControlTarget:
    def test_it_is_tried_and_remembered(self, settings: Any, loopback_targets: None) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            settings.CONTROL_TARGETS = [f"127.0.0.1:{server.getsockname()[1]}"]
            assert connectivity.look()
            row = ControlTarget.objects.get()
            assert (row.reachable, row.problem) == (True, "")
            assert connectivity.reach().control is True
            assert connectivity.reach().took_ms is not None

    def test_what_does_not_answer_is_not_reachable(self, settings: Any, loopback_targets: None) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        settings.CONTROL_TARGETS = [f"127.0.0.1:{port}"]
        assert connectivity.look()
        row = ControlTarget.objects.get()
        assert row.reachable is False
        assert row.problem
        assert connectivity.reach().control is False
        assert not connectivity.in_trouble(), "by itself it proves nothing"

    @pytest.mark.parametrize("text", ["host:port", "nonsense:99999999"])
    def test_a_target_that_is_none_is_told_and_opens_nothing(self, settings: Any, text: str) -> None:
        settings.CONTROL_TARGETS = [text]
        connectivity.look()
        assert ControlTarget.objects.get().reachable is False

    def test_one_that_answers_is_enough(self, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        settings.CONTROL_TARGETS = ["a:1", "b:2"]
        monkeypatch.setattr(
            connectivity, "_connect", lambda address: Tried(address, 5.0 if address == "b:2" else None)
        )
        connectivity.look()
        assert connectivity.reach().control is True

    def test_while_all_is_well_it_is_tried_once_a_minute(
        self, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings.CONTROL_TARGETS = ["a:1"]
        tries: list[str] = []
        monkeypatch.setattr(connectivity, "_connect", lambda address: tries.append(address) or Tried(address, 5.0))
        assert connectivity.look()
        assert not connectivity.look()
        probe(vendor(), "hc", category=Category.TIMEOUT_ERROR)
        assert connectivity.look(timezone.now() + timedelta(seconds=6)), "somebody was not found"
        assert tries == ["a:1", "a:1"]

    def test_with_it_fewer_failures_are_enough(self, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        settings.CONTROL_TARGETS = ["a:1"]
        monkeypatch.setattr(connectivity, "_connect", lambda address: Tried(address, None, "timed out"))
        probe(vendor(), "hc", category=Category.TIMEOUT_ERROR)
        probe(vendor("resend", "resend"), "hc", category=Category.DNS_ERROR)
        connectivity.look()
        own = Alert.objects.get(key="own-connectivity", resolved_at=None)
        assert "The control target does not answer either." in own.detail

    def test_targets_that_are_gone_are_forgotten(self, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connectivity, "_connect", lambda address: Tried(address, 5.0))
        settings.CONTROL_TARGETS = ["a:1"]
        connectivity._store([Tried("a:1", 1.0)], timezone.now())
        settings.CONTROL_TARGETS = ["b:1"]
        connectivity._store([Tried("b:1", 1.0)], timezone.now())
        assert [row.address for row in ControlTarget.objects.all()] == ["b:1"]
