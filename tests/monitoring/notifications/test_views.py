"""The alerts' page and what can be done on it; one's own browsers."""

from __future__ import annotations

import json
import uuid
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models import F
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from monitoring import nav
from monitoring.models import Alert, Channel, Notification, PushSubscription
from monitoring.notifications import actions, claims, reads
from tests import servers
from tests.callers import person
from tests.monitoring.factories import make_service
from tests.monitoring.notifications.factories import Sink, in_turn, make_channel, raised, send_due
from tests.monitoring.notifications.test_push import subscription
from tests.monitoring.test_views_service import text
from wsmon.models import AuditEntry

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}


@pytest.fixture
def viewer() -> Client:
    return person("monitoring.view_service")


@pytest.fixture
def operator() -> Client:
    return person("monitoring.view_service", "monitoring.operate")


def page(client: Client, **query: str) -> str:
    response = client.get("/alerts/", query)
    assert response.status_code == 200
    return text(response.content.decode())


class TestPage:
    def test_without_anything_it_says_how_to_begin(self, viewer: Client) -> None:
        words = page(viewer)
        assert "No alert is open" in words
        assert "OPS_APPRISE_URL" in words
        assert "No message has been written yet." in words

    def test_it_shows_what_is_open_who_was_told_and_what_was_not_delivered(
        self, sink: Sink, operator: Client, viewer: Client
    ) -> None:
        with Sink(in_turn(servers.http(status="401 No"))) as refusing:
            make_channel("ops", sink.address)
            make_channel("broken", refusing.address, services=["stripe"], quiet_hours={})
            raised("a", title="Stripe is down", detail="503", service=make_service("stripe"))
            raised("b", "warning", "Quiet", service=make_service("twilio"), inhibited_by="echo of x")
            send_due()
            send_due()
        words = page(operator)
        assert "Stripe is down" in words
        assert "Nobody is told echo of x" in words
        assert "Could not be delivered" in words
        assert "JSON answered 401" in words
        assert "Acknowledge…" in words
        assert "Acknowledge…" not in page(viewer)
        assert "Send again" not in page(viewer)

    def test_the_part_that_changes_is_no_whole_page(self, viewer: Client) -> None:
        make_channel("ops", digest=600, quiet_hours={"from": "00:00", "to": "23:59", "days": [], "time_zone": "UTC"})
        raised("a")
        response = viewer.get("/alerts/", headers={"X-Wsmon-Live": "1"})
        html = response.content.decode()
        assert "<html" not in html
        assert 'id="alert-' in html
        assert 'id="ch-ops"' in html

    def test_messages_are_paged_by_where_one_is(self, viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reads, "MESSAGES_SHOWN", 2)
        make_channel()
        for number in range(5):
            raised(f"a{number}", title=f"Thing {number}")
        found = reads.messages()
        assert [one.row.title for one in found] == ["Thing 4", "Thing 3", "Thing 2"]
        words = viewer.get("/alerts/", {"before": str(found[1].row.id)}).content.decode()
        assert "Older" in words
        shown = words[words.index('id="messages"') :]
        assert ("Thing 2" in shown, "Thing 4" in shown) == (True, False)
        assert page(viewer, before="nonsense")

    def test_of_many_alerts_it_counts_all_and_says_how_many_it_shows(
        self, viewer: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reads, "ALERTS_SHOWN", 3)
        for number in range(3):
            raised(f"a{number}", "warning", f"Thing {number}")
        words = page(viewer)
        assert "3 open, 3 wait for somebody" in words
        assert "are shown" not in words
        raised("b", "critical", "The worst")
        raised("c", "critical", "Echo", service=make_service(), inhibited_by="echo of x")
        Alert.objects.filter(key="a2").update(acknowledged_at=timezone.now())
        assert "5 open, 3 wait for somebody; 3 are shown, the most urgent first" in page(viewer)
        assert [one.alert.title for one in reads.open_views()] == ["The worst", "Thing 1", "Thing 0"]
        Alert.objects.filter(key="a1").update(resolved_at=timezone.now())
        assert [one.alert.title for one in reads.open_views()] == ["The worst", "Thing 0", "Echo"]
        monkeypatch.setattr(reads, "ALERTS_SHOWN", 4)
        assert [one.alert.title for one in reads.open_views()] == ["The worst", "Thing 0", "Echo", "Thing 2"]

    def test_somebody_was_told_though_the_newest_messages_did_not_arrive(self, viewer: Client) -> None:
        channel = make_channel("ops")
        alert, other = raised("a"), raised("b")
        Notification.objects.filter(alert=alert).update(state="sent", created_at=F("created_at") - timedelta(hours=1))
        Notification.objects.filter(alert=other).update(state="dropped")
        for number in range(reads.TOLD_SHOWN + 1):
            for one in (alert, other):
                words = {"kind": "reminder", "severity": "critical", "title": "x", "state": "failed"}
                Notification.objects.create(channel=channel, alert=one, once=f"{one.id}:{number}", **words)
        views = {one.alert.key: one for one in reads.open_views()}
        assert [one.kind for one in views["a"].told] == ["reminder"] * reads.TOLD_SHOWN
        assert (views["a"].nobody, views["a"].more) == (False, 2)
        assert (views["b"].nobody, views["b"].more) == (True, 2)
        assert page(viewer).count("Nobody was told") == 1

    def test_of_much_that_was_not_delivered_it_says_how_much_it_shows(
        self, viewer: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reads, "MESSAGES_SHOWN", 2)
        make_channel("ops")
        for number in range(3):
            raised(f"a{number}", title=f"Thing {number}")
            Notification.objects.update(state="failed")
            assert ("the newest 2 are shown" in page(viewer)) is (number == 2)

    def test_a_message_says_how_many_it_stands_for(self, viewer: Client) -> None:
        channel = make_channel("ops")
        for number in range(5):
            raised(f"a{number}")
        claims.claim(5)
        (digest,) = reads.messages()
        assert (digest.row.kind, digest.row.line_count) == ("storm", 5)  # type: ignore[attr-defined]
        assert "5 messages in one" in page(viewer)
        assert channel.notifications.count() == 6

    def test_it_is_for_those_who_may_read(self) -> None:
        assert Client().get("/alerts/").status_code == 302
        assert person().get("/alerts/").status_code == 403
        assert person("monitoring.view_service").post("/alerts/").status_code == 405

    def test_the_navigation_counts_what_waits_for_somebody(self) -> None:
        raised("a")
        raised("b", inhibited_by="echo of x", service=make_service())
        assert reads.open_count() == 1
        assert '1<span class="vh"> not acknowledged</span>' in nav.counts()["count-alerts"]

    def test_that_is_one_query_and_stands_beside_the_page_s_name(self, viewer: Client) -> None:
        raised("a")
        with CaptureQueriesContext(connection) as context:
            assert reads.open_count() == 1
        assert len(context) == 1
        words = viewer.get("/critical-days/").content.decode()
        item = words[words.index('href="/alerts/"') :]
        item = item[: item.index("</a>")]
        assert 'sse-swap="count-alerts"' in item
        assert '1<span class="vh"> not acknowledged</span>' in item

    def test_its_queries_do_not_grow_with_what_it_shows(self, viewer: Client) -> None:
        make_channel()
        counts = []
        for number in range(30):
            raised(f"a{number}", service=make_service())
            if number in (2, 29):
                with CaptureQueriesContext(connection) as context:
                    viewer.get("/alerts/", headers={"X-Wsmon-Live": "1"})
                counts.append(len(context))
        assert counts[1] <= counts[0]


class TestTesting:
    def test_a_channel_that_works(self, sink: Sink, operator: Client) -> None:
        make_channel("ops", sink.address)
        response = operator.post("/alerts/channels/ops/test/", headers=HTMX)
        assert "ops took the test" in response.content.decode()
        assert sink.titles == ["Test of ops: wsmon can reach you"]
        assert Notification.objects.get().state == "sent"
        assert AuditEntry.objects.get().action == "channel.test"
        assert Channel.objects.get().sent_at is not None

    def test_a_channel_that_does_not(self, operator: Client) -> None:
        make_channel("ops", reference="env:NO_SUCH", encrypted=None)
        response = operator.post("/alerts/channels/ops/test/", follow=True)
        assert "ops did not take the test" in response.content.decode()
        assert "NO_SUCH" in response.content.decode()
        assert Notification.objects.get().state == "failed"
        assert reads.undelivered_rows() == []

    def test_not_too_often(self, operator: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(actions, "TESTS_PER_MINUTE", 0)
        make_channel("ops")
        response = operator.post("/alerts/channels/ops/test/", headers=HTMX)
        assert response.status_code == 429
        assert not Notification.objects.exists()

    def test_who_may(self, viewer: Client, operator: Client) -> None:
        make_channel("ops")
        assert viewer.post("/alerts/channels/ops/test/").status_code == 403
        assert operator.get("/alerts/channels/ops/test/").status_code == 405
        assert operator.post("/alerts/channels/none/test/").status_code == 404
        Channel.objects.update(archived_at="2026-01-01T00:00Z")
        with pytest.raises(actions.Refused):
            actions.test(Channel.objects.get(), actions.Actor(None, "x"))


class TestAgain:
    def test_what_was_not_delivered_is_sent_again(self, loopback_targets: None, operator: Client) -> None:
        with Sink(in_turn(servers.http(status="401 No"), servers.http())) as sink:
            make_channel("ops", sink.address)
            raised("a")
            send_due()
            row = Notification.objects.get()
            response = operator.post(f"/alerts/messages/{row.id}/again/", headers=HTMX)
            assert "sent to ops again" in response.content.decode()
            send_due()
            assert len(sink.got) == 2
        row.refresh_from_db()
        assert row.state == "sent"
        assert operator.post(f"/alerts/messages/{row.id}/again/", headers=HTMX).status_code == 409

    def test_of_a_channel_that_is_archived(self, operator: Client) -> None:
        make_channel(archived_at="2026-01-01T00:00Z")
        row = Notification.objects.create(
            channel=Channel.objects.get(), kind="opened", once="x", severity="info", title="x", state="failed"
        )
        response = operator.post(f"/alerts/messages/{row.id}/again/", follow=True)
        assert "not in use" in response.content.decode()

    def test_who_may(self, viewer: Client, operator: Client) -> None:
        url = f"/alerts/messages/{uuid.uuid4()}/again/"
        assert viewer.post(url).status_code == 403
        assert operator.post(url).status_code == 404
        assert operator.get(url).status_code == 405


class TestBrowsers:
    def test_one_adds_and_removes_one_s_own(self, viewer: Client) -> None:
        assert "None yet" in text(viewer.get("/account/browsers/").content.decode())
        told, _ = subscription("https://push.example.com/x")
        agent = "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0"
        made = viewer.post(
            "/account/browsers/add/",
            json.dumps(told),
            content_type="application/json",
            headers={"User-Agent": agent},
        )
        assert made.status_code == 204
        assert "Firefox on Linux" in text(viewer.get("/account/browsers/").content.decode())
        row = PushSubscription.objects.get()
        other = person("monitoring.view_service")
        assert other.post(f"/account/browsers/{row.id}/remove/").status_code == 404
        assert viewer.post(f"/account/browsers/{row.id}/remove/").status_code == 302
        assert not PushSubscription.objects.exists()
        assert {entry.action for entry in AuditEntry.objects.all()} == {"push.subscribe", "push.unsubscribe"}

    @pytest.mark.parametrize("body", ["", "[]", "{}", "[" * 5000, '{"endpoint": "ftp://x", "keys": {}}'])
    def test_what_is_no_subscription(self, body: str, viewer: Client) -> None:
        response = viewer.post("/account/browsers/add/", body, content_type="application/json")
        assert response.status_code == 422
        assert not PushSubscription.objects.exists()

    def test_what_is_too_large(self, viewer: Client) -> None:
        response = viewer.post("/account/browsers/add/", "x" * 9000, content_type="application/json")
        assert response.status_code == 413

    def test_without_a_key_to_encrypt_by_it_cannot_be_set_up(self, viewer: Client, settings: object) -> None:
        settings.ENCRYPTION_KEYS = []  # type: ignore[attr-defined]
        assert "It cannot be set up" in viewer.get("/account/browsers/").content.decode()

    def test_the_account_page_leads_there(self, viewer: Client) -> None:
        assert "/account/browsers/" in viewer.get("/account/").content.decode()
        assert person().get("/account/browsers/").status_code == 403
