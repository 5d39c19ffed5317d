"""The outbox: what is to be told is written once, with what it tells of, and never lost without a trace."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from monitoring import alerts
from monitoring.models import Alert, Channel, MaintenanceWindow, Notification
from monitoring.notifications import inhibition, outbox
from monitoring.notifications.outbox import Target
from monitoring.notifications.routing import What
from tests.monitoring.factories import make_service
from tests.monitoring.notifications.factories import Sink, forwarded, make_channel, raised, send_due, written

pytestmark = pytest.mark.django_db


class TestTelling:
    def test_an_alert_is_told_once_however_often_it_is_raised(self, sink: Sink) -> None:
        make_channel(address=sink.address)
        for _ in range(3):
            raised("a", title="Stripe does not answer")
        assert send_due() == ["Stripe does not answer"]
        assert send_due() == []
        (got,) = sink.got
        assert (got["title"], got["type"]) == ("Stripe does not answer", "failure")
        assert "Severity: critical" in got["message"]
        assert "/ack/" in got["message"]

    def test_its_end_is_told_to_whom_its_beginning_was(self, sink: Sink) -> None:
        told = make_channel(address=sink.address)
        make_channel(address=sink.address, min_severity="critical")
        raised("a", "warning", "Stripe is slow")
        send_due()
        alerts.resolve("a")
        send_due()
        assert sink.titles == ["Stripe is slow", "Resolved: Stripe is slow"]
        assert sink.got[1]["type"] == "success"
        assert "/ack/" not in sink.got[1]["message"]
        assert written(told) == [("opened", "sent"), ("resolved", "sent")]

    def test_it_is_told_again_when_it_gets_worse_and_not_when_it_gets_better(self, sink: Sink) -> None:
        make_channel(address=sink.address)
        late = make_channel(address=sink.address, min_severity="critical")
        for severity in ("warning", "critical", "warning", "critical"):
            raised("a", severity, "Stripe")
        assert written(late) == [("opened", "pending")]
        send_due()
        send_due()  # the worse news of one channel waits for its first
        assert sorted(sink.titles) == ["Stripe", "Stripe", "Worse: Stripe"]

    def test_without_the_transaction_nothing_is_written(self) -> None:
        make_channel()
        with transaction.atomic():
            raised("a")
            transaction.set_rollback(True)
        assert not Notification.objects.exists()

    def test_a_channel_for_some_services_hears_of_no_other(self) -> None:
        channel = make_channel(services=["stripe"])
        raised("a", service=make_service("stripe"))
        raised("b", service=make_service("twilio"))
        raised("c")
        assert list(Notification.objects.values_list("channel", "alert__key")) == [(channel.id, "a")]

    def test_a_channel_that_is_only_for_escalations_hears_the_end_of_what_it_heard(self) -> None:
        channel = make_channel(direct=False)
        alert = raised("a")
        assert written() == []
        assert outbox.tell_named(alert, What.ESCALATED, [Target(channel.slug, "Ana")], "step:1") == [channel.slug]
        assert outbox.tell_named(alert, What.ESCALATED, [Target(channel.slug, "Ana")], "step:1") == []
        assert outbox.tell_named(alert.id, What.REMINDER, [Target("nobody")], "step:2") == []
        assert Notification.objects.get().recipient == "Ana"
        alerts.resolve("a")
        assert written(channel) == [("escalated", "pending"), ("resolved", "pending")]

    def test_an_archived_channel_is_told_nothing(self) -> None:
        channel = make_channel()
        raised("a")
        Channel.objects.update(archived_at=timezone.now())
        raised("b")
        send_due()
        assert written(channel) == [("opened", "dropped")]


class TestHoldingBack:
    def test_what_is_over_before_its_digest_is_not_told(self, sink: Sink) -> None:
        make_channel(address=sink.address, digest=600)
        raised("a", "warning")
        assert send_due() == []
        alerts.resolve("a")
        forwarded(700)
        assert send_due() == []
        assert written() == [("opened", "dropped")]

    def test_a_digest_gathers_what_its_window_brought(self, sink: Sink) -> None:
        make_channel(address=sink.address, digest=600)
        for number in range(4):
            raised(f"a{number}", "warning", f"Thing {number}")
        due = Notification.objects.values_list("due_at", flat=True)
        assert max(due) - min(due) < timedelta(seconds=5)
        assert send_due() == []
        forwarded(700)
        assert send_due() == ["4 alerts"]
        (got,) = sink.got
        assert [f"Thing {number}" in got["message"] for number in range(4)] == [True] * 4
        assert sorted(written()) == [("digest", "sent")] + [("opened", "gathered")] * 4
        alerts.resolve("a0")
        forwarded(700)
        assert send_due() == ["Resolved: Thing 0"]

    def test_a_digest_does_not_hold_back_what_is_critical(self, sink: Sink) -> None:
        make_channel(address=sink.address, digest=600)
        raised("a", "warning")
        raised("b", "critical", "Down")
        assert send_due() == ["Down"]

    def test_acknowledging_forgets_what_was_held_back(self) -> None:
        make_channel(digest=600)
        alert = raised("a", "warning")
        assert outbox.drop_held(alert.id, "acknowledged") == 1
        assert written() == [("opened", "dropped")]


class TestInhibition:
    def test_maintenance_keeps_alerts_quiet_until_it_is_over(self, sink: Sink) -> None:
        service, now = make_service("stripe"), timezone.now()
        make_channel(address=sink.address)
        window = MaintenanceWindow.objects.create(
            service=service, starts_at=now - timedelta(hours=1), ends_at=now + timedelta(hours=1), reason="move"
        )
        alert = raised("a", service=service)
        assert (alert.inhibited_by, written()) == ("maintenance: move", [])
        assert inhibition.refresh(timezone.now()) == 0
        window.delete()
        assert inhibition.refresh(timezone.now()) == 1
        assert inhibition.refresh(timezone.now()) == 0
        assert send_due() == [alert.title]
        alert.refresh_from_db()
        assert (alert.inhibited_by, alert.told_severity) == ("", "critical")

    def test_an_open_incident_says_what_its_service_s_other_alerts_would(self) -> None:
        make_channel()
        service, other = make_service(), make_service()
        raised("incident:1", kind="incident", service=service)
        assert raised("breaker:1", kind="breaker", service=service).inhibited_by == "alert: incident:1"
        assert raised("cert:1", kind="certificate", service=service).inhibited_by == ""
        assert raised("breaker:2", kind="breaker", service=other).inhibited_by == ""
        alerts.resolve("incident:1")
        assert inhibition.refresh(timezone.now()) == 1
        assert Alert.objects.get(key="breaker:1").told_severity == "critical"

    def test_a_flapping_check_keeps_the_next_incidents_quiet(self) -> None:
        make_channel()
        service = make_service()
        raised("flapping:x", "warning", kind="flapping", service=service)
        for number in range(5):
            raised(f"incident:{number}", kind="incident", service=service)
            alerts.resolve(f"incident:{number}")
        assert written() == [("opened", "pending")]

    def test_what_others_say_of_it_is_left_alone(self) -> None:
        make_channel()
        alert = raised("a", service=make_service(), inhibited_by="own-connectivity")
        assert inhibition.refresh(timezone.now()) == 0
        assert written() == []
        alert = raised("a", service=alert.service, inhibited_by="")
        assert written() == [("opened", "pending")]

    def test_what_is_inhibited_before_it_is_sent_is_told_when_that_is_over(self, sink: Sink) -> None:
        make_channel(address=sink.address)
        alert = raised("a")
        Alert.objects.update(inhibited_by="own-connectivity")
        assert send_due() == []
        assert written() == [("opened", "dropped")]
        raised("a", inhibited_by="")
        assert send_due() == [alert.title]
        assert written() == [("opened", "sent")]

    def test_the_many_that_stay_quiet_keep_no_other_waiting(self, monkeypatch: pytest.MonkeyPatch) -> None:
        make_channel()
        monkeypatch.setattr(inhibition, "_AT_ONCE", 3)
        for number in range(7):
            raised(f"quiet:{number}", inhibited_by="own-connectivity")
        for number in range(7):
            service = make_service()
            raised(f"incident:{number}", kind="incident", service=service, inhibited_by="because")
            raised(f"breaker:{number}", kind="breaker", service=service)
        assert written() == []
        alerts.resolve_all([f"incident:{number}" for number in (5, 6)])
        assert inhibition.refresh(timezone.now()) == 2
        told = Notification.objects.values_list("alert__key", flat=True)
        assert set(told) == {"breaker:5", "breaker:6"}

    def test_a_digest_of_what_came_at_once_is_one(self, sink: Sink) -> None:
        make_channel(address=sink.address, digest=600)
        raised("first", "warning")
        alerts.raise_alerts([alerts.News(f"a{number}", "thing", "warning", f"Thing {number}") for number in range(5)])
        assert len(set(Notification.objects.values_list("problem", flat=True))) == 1
        forwarded(601)
        assert send_due() == ["6 alerts"]
