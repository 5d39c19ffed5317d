"""Sending: channels that hang, fail, refuse, and processes that die between any two steps."""

from __future__ import annotations

import time
import uuid
from datetime import timedelta

import pytest
from django.db.models import F
from django.utils import timezone

from monitoring import alerts
from monitoring.models import Alert, Channel, Notification
from monitoring.notifications import acknowledging, claims, outbox, planning, sending, settling
from monitoring.notifications.outbox import Target
from monitoring.notifications.problems import ChannelProblem
from monitoring.notifications.routing import What
from tests import servers
from tests.monitoring.notifications.factories import (
    Sink,
    forwarded,
    in_turn,
    make_channel,
    raised,
    send_due,
    written,
)
from wsmon.audit import Actor

pytestmark = pytest.mark.django_db

BROKEN, REFUSED, FINE = (servers.http(status=word) for word in ("500 Oops", "401 Unauthorized", "200 OK"))


def only() -> Notification:
    return Notification.objects.exclude(alert__kind="channel").order_by("created_at").first() or Notification()


class TestFailing:
    def test_a_server_that_fails_is_tried_again_and_works_in_the_end(self, loopback_targets: None) -> None:
        with Sink(in_turn(BROKEN, BROKEN, FINE)) as sink:
            channel = make_channel(address=sink.address)
            raised("a")
            send_due()
            row = only()
            assert (row.state, row.tries, row.problem) == ("pending", 1, "JSON answered 500")
            assert 4 < (row.due_at - timezone.now()).total_seconds() <= 5
            channel.refresh_from_db()
            assert (channel.problem, channel.failing_since is not None) == ("JSON answered 500", True)
            assert send_due() == []
            forwarded(5)
            send_due()
            forwarded(30)
            send_due()
        channel.refresh_from_db()
        assert (only().state, only().problem, channel.problem, channel.failing_since) == ("sent", "", "", None)
        assert channel.sent_at is not None

    def test_a_refused_credential_is_given_to_the_fallback_at_once(self, sink: Sink) -> None:
        with Sink(in_turn(REFUSED)) as refusing:
            second = make_channel("second", sink.address, direct=False)
            first = make_channel("first", refusing.address, fallback=second)
            raised("a", title="Stripe is down")
            send_due()
            send_due()
        assert written(first) == [("opened", "failed")]
        assert written(second) == [("opened", "sent")]
        assert sink.titles == ["Stripe is down"]
        assert "Sent here because first does not take messages." in sink.got[0]["message"]
        (told,) = Alert.objects.filter(kind="channel")
        assert (told.key, told.severity) == ("channel:first", "warning")
        assert "401" in told.detail
        assert not Notification.objects.filter(settling.undelivered()).exists()

    def test_a_channel_that_fails_for_long_has_its_fallback_told_while_it_is_tried_on(self, sink: Sink) -> None:
        with Sink(in_turn(BROKEN)) as broken:
            second = make_channel("second", sink.address, direct=False)
            first = make_channel("first", broken.address, fallback=second)
            raised("a")
            for seconds in (0, 5, 30):
                assert sink.got == []
                forwarded(seconds)
                send_due()
            assert written(second) == [("opened", "pending")]
            send_due()
            assert len(sink.got) == 1
            for seconds in (120, 600, 1800, 3600):
                forwarded(seconds)
                send_due()
        row = Notification.objects.get(channel=first)
        assert (row.state, row.tries) == ("failed", 7)
        assert written(second) == [("opened", "sent")]

    def test_what_nobody_got_is_visible_and_told_to_the_other_channels(self, sink: Sink) -> None:
        with Sink(in_turn(REFUSED)) as refusing:
            make_channel("only", refusing.address)
            raised("a")
            make_channel("other", sink.address)
            send_due()
            send_due()
        assert Notification.objects.filter(settling.undelivered()).count() == 1
        assert Alert.objects.get(kind="channel").severity == "critical"
        assert sink.titles == ["Channel only does not take messages"]

    def test_what_others_were_told_too_makes_a_channel_s_failure_less_urgent(self, sink: Sink) -> None:
        with Sink(in_turn(REFUSED)) as refusing:
            make_channel("first", refusing.address)
            make_channel("second", sink.address)
            raised("a")
            send_due()
        assert Alert.objects.get(kind="channel").severity == "warning"

    def test_an_alert_about_a_channel_is_not_sent_by_it(self, loopback_targets: None) -> None:
        with Sink(in_turn(REFUSED)) as refusing:
            make_channel("first", refusing.address)
            raised("a")
            for _ in range(3):
                send_due()
            assert len(refusing.requests) == 1
        assert Notification.objects.count() == 1

    def test_two_channels_that_stand_in_for_each_other_go_round_in_no_circle(self, loopback_targets: None) -> None:
        with Sink(in_turn(REFUSED)) as refusing:
            first = make_channel("first", refusing.address)
            second = make_channel("second", refusing.address, fallback=first, direct=False)
            Channel.objects.filter(id=first.id).update(fallback=second)
            alert = raised("a", "warning")
            for _ in range(6):
                send_due()
        rows = Notification.objects.filter(alert=alert).order_by("created_at")
        assert list(rows.values_list("channel__slug", "state")) == [("first", "failed"), ("second", "failed")]
        assert rows[1].channel_id == second.id

    def test_once_a_channel_works_again_what_waits_goes_at_once(self, loopback_targets: None) -> None:
        with Sink(in_turn(BROKEN, BROKEN, FINE)) as sink:
            channel = make_channel(address=sink.address)
            raised("a")
            raised("b")
            send_due()
            assert [state for _, state in written(channel)] == ["pending", "pending"]
            raised("c")
            send_due()
            assert len(send_due()) == 2
        assert [state for _, state in written(channel)] == ["sent"] * 3

    def test_a_channel_that_hangs_is_given_up_and_others_are_told_meanwhile(
        self, sink: Sink, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sending.channels.send, "__defaults__", (0.3,))
        with Sink(servers.silent) as hanging:
            make_channel("hanging", f"{hanging.address}?rto=60&cto=60")
            make_channel("fine", sink.address)
            raised("a")
            began = time.monotonic()
            send_due()
            assert time.monotonic() - began < 10
        problems = dict(Notification.objects.values_list("channel__slug", "problem"))
        assert problems["fine"] == ""
        assert "0.3 s" in problems["hanging"] or "no connection" in problems["hanging"]
        assert len(sink.got) == 1

    def test_a_channel_whose_variable_is_not_set_fails_with_its_name(self) -> None:
        make_channel(encrypted=None, reference="env:NO_SUCH_VARIABLE")
        raised("a")
        send_due()
        assert only().state == "failed"
        assert "NO_SUCH_VARIABLE" in only().problem

    def test_a_mistake_of_our_own_shows_and_is_tried_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object) -> None:
            raise RuntimeError("secret")

        monkeypatch.setattr(sending.channels, "send", fail)
        make_channel()
        raised("a")
        send_due()
        assert (only().state, only().problem) == ("pending", "wsmon itself failed (RuntimeError)")


class TestDying:
    def die(self) -> None:
        """The lease of whoever held it runs out."""
        Notification.objects.filter(state="sending").update(lease_until=timezone.now() - timedelta(seconds=1))

    def test_killed_between_claim_and_send_it_is_sent_by_another(self, sink: Sink) -> None:
        make_channel(address=sink.address)
        raised("a")
        assert len(claims.claim(10)) == 1
        assert send_due() == []
        assert claims.release_expired() == []
        self.die()
        (lost,) = claims.release_expired()
        settling.failed(lost, settling.LOST, retry=True)
        forwarded(5)
        assert len(send_due()) == 1
        assert len(sink.got) == 1

    def test_killed_between_send_and_storing_it_is_sent_twice_rather_than_never(self, sink: Sink) -> None:
        make_channel(address=sink.address)
        raised("a")
        (claim,) = claims.claim(10)
        sending.channels.send(claim.channel, sending.message_of(claim))
        self.die()
        for lost in claims.release_expired():
            settling.failed(lost, settling.LOST, retry=True)
        forwarded(5)
        send_due()
        assert len(sink.got) == 2
        assert written() == [("opened", "sent")]

    def test_who_lost_its_lease_changes_nothing_by_failing_and_saves_a_second_try_by_succeeding(self) -> None:
        make_channel()
        raised("a")
        (claim,) = claims.claim(10)
        Notification.objects.update(lease_token=uuid.uuid4())
        settling.failed(claim, "late", retry=True)
        assert (only().state, only().tries) == ("sending", 0)
        settling.sent(claim)
        assert only().state == "sent"

    def test_a_lease_from_before_the_clock_was_put_back_runs_out(self) -> None:
        make_channel()
        raised("a")
        claims.claim(10)
        Notification.objects.update(lease_until=F("lease_until") + timedelta(hours=1))
        assert len(claims.release_expired()) == 1

    def test_what_was_written_before_the_clock_was_put_back_is_due(self, sink: Sink) -> None:
        make_channel(address=sink.address)
        raised("a")
        later = timedelta(hours=1)
        Notification.objects.update(created_at=F("created_at") + later, due_at=F("due_at") + later)
        assert len(send_due()) == 1


class TestOrder:
    def test_nobody_hears_of_an_end_before_the_beginning(self, loopback_targets: None) -> None:
        with Sink(in_turn(BROKEN, FINE)) as sink:
            make_channel(address=sink.address)
            raised("a", title="Down")
            send_due()
            alerts.resolve("a")
            assert send_due() == []
            forwarded(5)
            assert send_due() == ["Down"]
            assert send_due() == ["Resolved: Down"]
            assert sink.titles == ["Down", "Down", "Resolved: Down"]

    def test_an_escalation_of_what_is_over_or_acknowledged_is_not_sent(self, sink: Sink) -> None:
        channel = make_channel("boss", sink.address, direct=False)
        for key in ("over", "acknowledged"):
            outbox.tell_named(raised(key), What.ESCALATED, [Target("boss")], "1")
        alerts.resolve("over")
        acknowledging.acknowledge(Alert.objects.get(key="acknowledged").id, Actor.system("test"))
        assert "Nobody has acknowledged: over is broken" not in send_due()
        assert sorted(written(channel))[:2] == [("escalated", "dropped"), ("escalated", "dropped")]


class TestStorm:
    def test_two_thousand_alerts_are_one_message_and_then_a_count(self, sink: Sink) -> None:
        channel = make_channel(address=sink.address)
        for number in range(1_200):
            raised(f"a{number}", "critical" if number < 7 else "warning", f"Check {number} fails")
        assert send_due() == ["1,200 alerts (7 critical)"]
        for number in range(1_200, 2_000):
            raised(f"a{number}", "warning", f"Check {number} fails")
        assert send_due() == []
        Notification.objects.filter(kind="storm").update(created_at=F("created_at") - timedelta(seconds=60))
        assert send_due() == ["800 alerts"]
        assert len(sink.got) == 2
        assert sink.got[0]["type"] == "failure"
        assert "Check 0 fails" in sink.got[0]["message"]
        assert "and 1,190 more" in sink.got[0]["message"]
        assert Notification.objects.filter(channel=channel, state="gathered", sent_at__isnull=False).count() == 2_000

    def test_its_end_is_a_count_too(self, sink: Sink) -> None:
        make_channel(address=sink.address)
        for number in range(50):
            raised(f"a{number}")
        send_due()
        for number in range(50):
            alerts.resolve(f"a{number}")
        Notification.objects.filter(kind="storm").update(created_at=F("created_at") - timedelta(seconds=60))
        assert send_due() == ["50 resolved"]

    def test_a_storm_that_could_not_be_sent_goes_to_the_fallback(self, sink: Sink) -> None:
        with Sink(in_turn(REFUSED)) as refusing:
            second = make_channel("second", sink.address, direct=False)
            make_channel("first", refusing.address, fallback=second)
            for number in range(20):
                raised(f"a{number}")
            send_due()
            send_due()
        assert sink.titles == ["20 alerts (20 critical)"]

    def test_the_cap_of_an_hour_holds_and_then_they_are_counted(self, sink: Sink) -> None:
        make_channel(address=sink.address, max_per_hour=2)
        for number in range(5):
            raised(f"a{number}")
            send_due()
        assert len(sink.got) == 2
        Notification.objects.filter(state="sent").update(sent_at=timezone.now() - timedelta(minutes=61))
        send_due()
        assert len(sink.got) <= 4
        assert not Notification.objects.filter(state="pending").exists() or len(sink.got) == 4


def test_of_a_channel_that_is_archived_while_its_message_is_under_way_there_is_no_alert(sink: Sink) -> None:
    second = make_channel("second", sink.address, direct=False)
    first = make_channel("first", fallback=second)
    raised("a", title="Stripe is down")
    (claim,) = claims.claim(10)
    planning.archive(first)
    settling.failed(claim, "401", retry=False)
    assert not Alert.objects.filter(kind="channel").exists()
    assert send_due() == ["Stripe is down"], "by the other channel all the same"


def test_problems_hold_no_secret(sink: Sink) -> None:
    make_channel()
    raised("a")
    (claim,) = claims.claim(10)
    settling.failed(claim, "Bearer abcdefghijklmnop failed", retry=True)
    assert "abcdefghijklmnop" not in only().problem
    assert isinstance(ChannelProblem("x", retry=True), Exception)
