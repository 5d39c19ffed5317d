"""Acknowledging: on the page, by the link in a message, by two people at once."""

from __future__ import annotations

import re
import threading
import uuid
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from monitoring import alerts
from monitoring.models import AckLink, Alert, Incident, IncidentEntry, Notification
from monitoring.notifications import acknowledging, claims, links, sending
from monitoring.notifications.links import Standing
from monitoring.views import acklinks
from tests.callers import person
from tests.monitoring.factories import make_service
from tests.monitoring.notifications.factories import make_channel, raised
from wsmon.audit import Actor
from wsmon.models import AuditEntry
from wsmon.throttle import Rate

ANA, BEN = Actor(None, "ana"), Actor(None, "ben")


@pytest.fixture(autouse=True)
def _no_rate() -> None:
    acklinks.rate.reset()


def link_of(alert: Alert) -> str:
    """The token in the message about an alert."""
    row = Notification.objects.select_related("channel", "alert").get(alert=alert)
    url = sending.message_of(row).ack_url
    assert url.startswith("http://127.0.0.1:8000/ack/")
    return url.rstrip("/").rpartition("/")[2]


def ask(token: str, method: str = "get", client: Client | None = None) -> tuple[int, str]:
    response = getattr(client or Client(), method)(f"/ack/{token}/")
    assert "no-store" in response["Cache-Control"]
    return response.status_code, " ".join(re.sub(r"<[^>]*>", " ", response.content.decode()).split())


@pytest.mark.django_db
class TestLink:
    def test_following_it_asks_and_the_button_acknowledges(self) -> None:
        make_channel("ops")
        alert = raised("a", title="Stripe is down")
        token = link_of(alert)
        status, words = ask(token)
        assert (status, "Have you got it?" in words, "Stripe is down" in words) == (200, True, True)
        alert.refresh_from_db()
        assert alert.acknowledged_at is None
        status, words = ask(token, "post")
        assert (status, "It is yours" in words) == (200, True)
        alert.refresh_from_db()
        assert (alert.acknowledged_by, alert.acknowledged_at is not None) == ("ops (by link)", True)
        link = AckLink.objects.get()
        assert (link.used_at is not None, link.used_from) == (True, "127.0.0.1")
        assert AuditEntry.objects.get().actor_name == "ops (by link)"
        assert token not in link.digest

    def test_it_works_once(self) -> None:
        make_channel()
        token = link_of(raised("a"))
        ask(token, "post")
        assert ask(token, "post")[0] == 410
        status, words = ask(token)
        assert (status, "This link was used" in words) == (410, True)
        assert AuditEntry.objects.count() == 1

    def test_a_forged_one_is_refused(self) -> None:
        make_channel()
        token = link_of(raised("a"))
        forged = ("B" if token[-5] != "B" else "C").join([token[:-5], token[-4:]])
        for wrong in (forged, token[:-1], token + "A", "x", "ä" * 43, "!" * 43, links.token_of(uuid.uuid4())[:-3]):
            status, words = ask(wrong, "post")
            assert (status, "no link of ours" in words) == (404, True)
        assert not Alert.objects.exclude(acknowledged_at=None).exists()

    def test_one_of_a_message_that_is_no_longer_kept(self) -> None:
        assert ask(links.token_of(uuid.uuid4()))[0] == 410

    def test_after_two_days_it_is_too_old(self) -> None:
        make_channel()
        token = link_of(raised("a"))
        AckLink.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
        status, words = ask(token, "post")
        assert (status, "too old" in words) == (410, True)

    def test_somebody_else_has_it(self) -> None:
        make_channel()
        alert = raised("a")
        token = link_of(alert)
        acknowledging.acknowledge(alert.id, ANA)
        for method in ("get", "post"):
            status, words = ask(token, method)
            assert (status, "Acknowledged by ana" in words) == (200, True)
        assert AckLink.objects.get().used_at is None

    def test_it_is_over(self) -> None:
        make_channel()
        token = link_of(raised("a"))
        alerts.resolve("a")
        status, words = ask(token, "post")
        assert (status, "It is over" in words) == (410, True)

    def test_its_address_is_told_to_no_other_site_and_the_button_works_all_the_same(self) -> None:
        # By "no-referrer" a browser would send "Origin: null", which Django refuses.
        assert Client().get("/ack/x/")["Referrer-Policy"] == "same-origin"

    def test_its_button_needs_the_page_s_token(self) -> None:
        make_channel()
        token = link_of(raised("a"))
        assert Client(enforce_csrf_checks=True).post(f"/ack/{token}/").status_code == 403

    def test_guessing_is_limited(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(acklinks, "rate", Rate(2, 3600))
        assert [Client().get("/ack/x/").status_code for _ in range(3)] == [404, 404, 429]

    def test_there_is_none_for_what_is_over_acknowledged_or_gathered(self) -> None:
        make_channel()
        alert = raised("a")
        row = Notification.objects.select_related("alert").get()
        for field in ("resolved_at", "acknowledged_at"):
            setattr(row.alert, field, timezone.now())
            assert links.ack_url(row) == ""
            setattr(row.alert, field, None)
        row.kind = "resolved"
        assert links.ack_url(row) == ""
        assert links.ack_url(Notification(kind="storm")) == ""
        assert links.absolute("") == ""
        assert alert.id

    def test_links_begin_with_the_public_address(self, settings: object) -> None:
        settings.PUBLIC_URL = "https://ops.example.com"  # type: ignore[attr-defined]
        assert links.absolute("/alerts/") == "https://ops.example.com/alerts/"

    def test_the_person_on_call_is_named(self) -> None:
        make_channel("ops")
        alert = raised("a")
        Notification.objects.update(recipient="Ana")
        row = Notification.objects.select_related("channel", "alert").get()
        assert sending.message_of(row).body.startswith("For Ana\n")
        ask(link_of(alert), "post")
        alert.refresh_from_db()
        assert alert.acknowledged_by == "Ana (by link)"


@pytest.mark.django_db
class TestAcknowledging:
    def test_the_incident_has_it_too(self) -> None:
        service, now = make_service("stripe"), timezone.now()
        incident = Incident.objects.create(
            service=service, began_at=now, opened_at=now, status="critical", worst="critical", title="Stripe"
        )
        alert = raised("incident:1", kind="incident", service=service, incident=incident)
        assert acknowledging.acknowledge(alert.id, ANA, "looking").mine
        incident.refresh_from_db()
        alert.refresh_from_db()
        assert (incident.acknowledged_by, alert.acknowledged_by) == ("ana", "ana")
        assert IncidentEntry.objects.get().text == "acknowledged (looking)"
        again = acknowledging.acknowledge(alert.id, BEN)
        assert (again.mine, again.over, again.alert.acknowledged_by) == (False, False, "ana")
        assert IncidentEntry.objects.count() == 1
        Incident.objects.update(closed_at=timezone.now())
        assert acknowledging.acknowledge(alert.id, BEN).over

    def test_a_link_in_a_message_says_so_in_the_timeline(self) -> None:
        make_channel("ops")
        service, now = make_service("stripe"), timezone.now()
        incident = Incident.objects.create(
            service=service, began_at=now, opened_at=now, status="critical", worst="critical", title="Stripe"
        )
        alert = raised("incident:1", kind="incident", service=service, incident=incident)
        assert "It is yours" in ask(link_of(alert), "post")[1]
        entry = IncidentEntry.objects.get()
        assert (entry.text, entry.by) == ("acknowledged by the link in the message", "ops (by link)")

    def test_of_what_is_over(self) -> None:
        alert = raised("a")
        alerts.resolve("a")
        done = acknowledging.acknowledge(alert.id, ANA)
        assert (done.mine, done.over) == (False, True)
        with pytest.raises(Alert.DoesNotExist):
            acknowledging.acknowledge(0, ANA)


@pytest.mark.django_db(transaction=True)
def test_of_two_at_once_one_has_it_and_the_other_is_told() -> None:
    make_channel()
    alert = raised("a")
    token = link_of(alert)
    start, found = threading.Barrier(4), []

    def by_page(actor: Actor) -> None:
        start.wait(10)
        found.append(acknowledging.acknowledge(alert.id, actor).mine)
        connection.close()

    def by_link() -> None:
        start.wait(10)
        found.append(links.use(token, "127.0.0.1").standing is Standing.DONE)
        connection.close()

    threads = [threading.Thread(target=by_page, args=(actor,)) for actor in (ANA, BEN)]
    threads += [threading.Thread(target=by_link) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(found) == [False, False, False, True]
    assert AuditEntry.objects.filter(action="alert.acknowledge").count() == 1


@pytest.mark.django_db
class TestPage:
    def test_operators_are_asked_and_do_it(self) -> None:
        alert = raised("a", title="Stripe is down")
        operator = person("monitoring.view_service", "monitoring.operate")
        page = operator.get(f"/alerts/{alert.id}/acknowledge/")
        assert "Acknowledge “Stripe is down”?" in page.content.decode()
        part = operator.get(f"/alerts/{alert.id}/acknowledge/", headers={"HX-Request": "true"})
        assert "<html" not in part.content.decode()
        done = operator.post(f"/alerts/{alert.id}/acknowledge/", {"reason": "on it"}, headers={"HX-Request": "true"})
        assert "Acknowledged: Stripe is down" in done.content.decode()
        again = operator.post(f"/alerts/{alert.id}/acknowledge/", {"reason": ""}, follow=True)
        assert "has it already" in again.content.decode()
        alerts.resolve("a")
        over = operator.post(f"/alerts/{alert.id}/acknowledge/", {"reason": ""}, follow=True)
        assert "over already" in over.content.decode()
        entry = AuditEntry.objects.get()
        assert (entry.action, entry.reason, entry.target) == ("alert.acknowledge", "on it", "alert:a")

    def test_a_reason_that_is_too_long_is_refused(self) -> None:
        alert = raised("a")
        operator = person("monitoring.view_service", "monitoring.operate")
        response = operator.post(f"/alerts/{alert.id}/acknowledge/", {"reason": "x" * 501})
        assert response.status_code == 422

    def test_viewers_and_strangers_may_not(self) -> None:
        alert = raised("a")
        url = f"/alerts/{alert.id}/acknowledge/"
        assert person("monitoring.view_service").post(url).status_code == 403
        assert Client().post(url).status_code == 302
        assert person("monitoring.operate").post("/alerts/0/acknowledge/").status_code == 404
        assert claims.claim(1) == []
