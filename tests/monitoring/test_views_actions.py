"""Test now, pause, resume, maintenance: what they do, who may, and what is left behind."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Semaphore, Thread
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from monitoring.models import Check, MaintenanceWindow, ProbeResult, Service
from monitoring.views.actions import TESTS_PER_MINUTE
from monitoring.views.forms import MaintenanceForm
from tests.monitoring.factories import make_check, make_service
from tests.monitoring.test_views_service import signed_in
from wsmon.models import AuditEntry

pytestmark = pytest.mark.django_db

HTMX = {"HX-Request": "true", "HX-Current-URL": "http://testserver/services/site/"}
ACTIONS = ["service-test", "service-pause", "service-resume", "service-maintenance"]


@pytest.fixture
def operator() -> Client:
    return signed_in("operator", "view_service", "operate")


@pytest.fixture
def check() -> Check:
    return make_check(make_service("site", "http", name="Our site"), name="home")


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/ok" else 503)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def target(loopback_targets: None) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def post(client: Client, name: str, data: dict[str, Any], slug: str = "site", *, htmx: bool = True) -> Any:
    return client.post(reverse(name, args=[slug]), data, headers=HTMX if htmx else {})


# who may -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ACTIONS)
def test_strangers_are_sent_to_the_login(client: Client, check: Check, name: str) -> None:
    response = post(client, name, {}, htmx=False)
    assert (response.status_code, response["Location"]) == (302, "/login/")


@pytest.mark.parametrize("name", ACTIONS)
def test_viewers_may_not_act(check: Check, name: str) -> None:
    assert post(signed_in("viewer", "view_service"), name, {"check": check.id, "timeout_ms": 1000}).status_code == 403
    assert not AuditEntry.objects.exists()


@pytest.mark.parametrize("name", ACTIONS)
def test_nothing_is_done_by_following_a_link(operator: Client, check: Check, name: str) -> None:
    assert operator.get(reverse(name, args=["site"])).status_code == 405


@pytest.mark.parametrize("name", ACTIONS)
def test_an_unknown_service_cannot_be_acted_on(operator: Client, name: str) -> None:
    assert post(operator, name, {"kind": "connectivity", "timeout_ms": 5000}, slug="nowhere").status_code == 404


def test_a_form_of_another_site_is_refused(check: Check) -> None:
    client = Client(enforce_csrf_checks=True)
    client.cookies = signed_in("operator", "view_service", "operate").cookies
    assert post(client, "service-resume", {}).status_code == 403


# test now ------------------------------------------------------------------------------------------


def test_a_test_shows_its_result_and_keeps_it_as_manual(operator: Client, check: Check, target: str) -> None:
    Check.objects.filter(pk=check.pk).update(options={"url": f"{target}/ok"})
    response = post(operator, "service-test", {"check": check.id, "timeout_ms": 3000})
    said = response.content.decode()
    assert response.status_code == 200
    assert "<html" not in said
    assert "home: healthy" in said
    assert "HTTP 200 at" in said
    assert "first byte" in said
    assert ProbeResult.objects.get().manual


def test_a_test_of_a_broken_target_says_what_is_wrong(operator: Client, check: Check, target: str) -> None:
    Check.objects.filter(pk=check.pk).update(options={"url": f"{target}/broken"})
    said = post(operator, "service-test", {"check": check.id, "timeout_ms": 3000}).content.decode()
    assert "home: critical" in said
    assert "SERVER_ERROR" in said


def test_a_test_works_without_javascript(operator: Client, check: Check, target: str) -> None:
    Check.objects.filter(pk=check.pk).update(options={"url": f"{target}/ok"})
    response = post(operator, "service-test", {"check": check.id, "timeout_ms": 3000}, htmx=False)
    page = response.content.decode()
    assert "<html" in page
    assert "home: healthy" in page


def test_a_test_leaves_an_audit_row(operator: Client, check: Check, target: str) -> None:
    Check.objects.filter(pk=check.pk).update(options={"url": f"{target}/ok"})
    post(operator, "service-test", {"check": check.id, "timeout_ms": 3000})
    row = AuditEntry.objects.get()
    assert (row.actor_name, row.action, row.target) == ("operator", "service.test", "service:site")
    assert row.details["test"] == "home"
    assert row.address == "127.0.0.1"


def test_a_test_without_its_credential_names_what_to_set(operator: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STRIPE_SECRET_KEY", raising=False)
    make_service("stripe", "stripe")
    response = post(operator, "service-test", {"kind": "authentication", "timeout_ms": 1000}, slug="stripe")
    assert "authentication: not configured" in response.content.decode()
    assert "STRIPE_SECRET_KEY" in response.content.decode()


@pytest.mark.parametrize("timeout", ["999", "30001", "", "soon", "-5", "1e9"])
def test_a_test_takes_only_a_sensible_timeout(operator: Client, check: Check, timeout: str) -> None:
    response = post(operator, "service-test", {"check": check.id, "timeout_ms": timeout})
    assert response.status_code == 422
    assert "between 1,000 and 30,000 ms" in response.content.decode()
    assert not AuditEntry.objects.exists()


@pytest.mark.parametrize("what", [{}, {"kind": "http", "check": "1"}, {"check": "x"}])
def test_a_test_is_of_exactly_one_thing(operator: Client, check: Check, what: dict[str, str]) -> None:
    assert post(operator, "service-test", what | {"timeout_ms": "1000"}).status_code == 422


def test_a_kind_that_the_provider_does_not_have_is_refused(operator: Client, check: Check) -> None:
    response = post(operator, "service-test", {"kind": "<b>levitation", "timeout_ms": 1000})
    assert response.status_code == 422
    assert "<b>levitation" not in response.content.decode()


def test_a_check_of_another_service_cannot_be_tested_through_this_one(operator: Client, check: Check) -> None:
    make_service("other", "http")
    response = post(operator, "service-test", {"check": check.id, "timeout_ms": 1000}, slug="other")
    assert response.status_code == 404


def test_too_many_tests_are_slowed_down(operator: Client, check: Check, target: str) -> None:
    Check.objects.filter(pk=check.pk).update(options={"url": f"{target}/ok"})
    answers = [
        post(operator, "service-test", {"check": check.id, "timeout_ms": 1000}).status_code
        for _ in range(TESTS_PER_MINUTE + 1)
    ]
    assert answers == [200] * TESTS_PER_MINUTE + [429]
    other = post(
        signed_in("second", "view_service", "operate"), "service-test", {"check": check.id, "timeout_ms": 1000}
    )
    assert other.status_code == 200


def test_only_so_many_tests_run_at_once(operator: Client, check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitoring.views.actions._slots", Semaphore(0))
    response = post(operator, "service-test", {"check": check.id, "timeout_ms": 1000})
    assert response.status_code == 429
    assert "Other tests are running." in response.content.decode()


def test_a_slot_is_given_back_when_a_test_fails(
    operator: Client, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots = Semaphore(1)
    monkeypatch.setattr("monitoring.views.actions._slots", slots)
    monkeypatch.setattr("monitoring.probing.probe_now", raising)
    with pytest.raises(RuntimeError):
        post(operator, "service-test", {"check": check.id, "timeout_ms": 1000})
    assert slots.acquire(blocking=False)


def raising(*args: Any) -> None:
    raise RuntimeError


# pause and resume ----------------------------------------------------------------------------------


def test_pausing_takes_a_reason_and_is_seen_at_once(operator: Client, check: Check) -> None:
    data = {"pause-checks": [check.id], "pause-reason": "new account", "pause-minutes": "60"}
    said = post(operator, "service-pause", data).content.decode()
    check.refresh_from_db()
    assert (check.paused_by, check.paused_reason) == ("operator", "new account")
    assert check.paused_until is not None
    assert timedelta(minutes=59) < check.paused_until - timezone.now() < timedelta(minutes=61)
    assert "<html" not in said
    assert "Resume 1 check" in said
    assert 'id="svc-head" hx-swap-oob="true"' in said
    assert "Paused 1 check of Our site" in said
    assert AuditEntry.objects.get(action="check.pause").reason == "new account"


def test_a_pause_may_last_until_somebody_resumes(operator: Client, check: Check) -> None:
    post(operator, "service-pause", {"pause-checks": [check.id], "pause-reason": "x", "pause-minutes": ""})
    check.refresh_from_db()
    assert check.paused_at is not None
    assert check.paused_until is None


def test_pausing_works_without_javascript(operator: Client, check: Check) -> None:
    data = {"pause-checks": [check.id], "pause-reason": "new account", "pause-minutes": ""}
    response = post(operator, "service-pause", data, htmx=False)
    assert response["Location"] == "/services/site/"
    assert "Paused 1 check of Our site." in operator.get("/services/site/").content.decode()


@pytest.mark.parametrize(("data", "words"), [
    ({"pause-reason": ""}, "Say why: others will read it."),
    ({"pause-reason": "   "}, "Say why: others will read it."),
    ({"pause-minutes": "7"}, "Select a valid choice"),
    ({"pause-checks": []}, "Choose at least one check."),
    ({"pause-checks": ["999999"]}, "Select a valid choice"),
])  # fmt: skip
def test_a_wrong_pause_changes_nothing_and_says_why(
    operator: Client, check: Check, data: dict[str, Any], words: str
) -> None:
    sent = {"pause-checks": [check.id], "pause-reason": "new account", "pause-minutes": ""} | data
    response = post(operator, "service-pause", sent)
    check.refresh_from_db()
    assert response.status_code == 422
    assert words in response.content.decode()
    assert '<details class="ws-confirm" id="pause" open>' in response.content.decode()
    assert check.paused_at is None


def test_a_check_of_another_service_cannot_be_paused_through_this_one(operator: Client, check: Check) -> None:
    stranger = make_check(make_service("other"), name="stranger")
    response = post(operator, "service-pause", {"pause-checks": [stranger.id], "pause-reason": "x"})
    stranger.refresh_from_db()
    assert response.status_code == 422
    assert stranger.paused_at is None


def test_resuming_probes_again(operator: Client, check: Check) -> None:
    post(operator, "service-pause", {"pause-checks": [check.id], "pause-reason": "x", "pause-minutes": ""})
    said = post(operator, "service-resume", {}).content.decode()
    check.refresh_from_db()
    assert check.paused_at is None
    assert "Resumed 1 check of Our site" in said
    assert "Pause checks…" in said
    assert AuditEntry.objects.filter(action="check.resume").exists()


def test_resuming_what_runs_does_no_harm(operator: Client, check: Check) -> None:
    assert post(operator, "service-resume", {}).status_code == 200
    assert not AuditEntry.objects.exists()


# maintenance ---------------------------------------------------------------------------------------


def local(at: datetime) -> str:
    return timezone.localtime(at).strftime("%Y-%m-%dT%H:%M")


def window(**changes: str) -> dict[str, str]:
    now = timezone.now()
    data = {
        "starts_at": local(now),
        "ends_at": local(now + timedelta(hours=2)),
        "recurrence": "once",
        "reason": "database move",
    }
    return {f"maintenance-{name}": value for name, value in (data | changes).items()}


def test_maintenance_is_set_and_listed(operator: Client, check: Check) -> None:
    said = post(operator, "service-maintenance", window()).content.decode()
    row = MaintenanceWindow.objects.get()
    assert (row.reason, row.created_by, row.recurrence) == ("database move", "operator", "")
    assert "<html" not in said
    assert "in maintenance: database move" in said
    assert AuditEntry.objects.filter(action="maintenance.start", target="service:site").exists()


@pytest.mark.parametrize(("choice", "rule"), [("daily", "FREQ=DAILY"), ("weekly", "FREQ=WEEKLY;BYDAY=")])
def test_maintenance_may_repeat(operator: Client, check: Check, choice: str, rule: str) -> None:
    post(operator, "service-maintenance", window(recurrence=choice))
    assert MaintenanceWindow.objects.get().recurrence.startswith(rule)


def test_maintenance_without_a_start_begins_now(operator: Client, check: Check) -> None:
    post(operator, "service-maintenance", window(starts_at=""))
    assert abs(MaintenanceWindow.objects.get().starts_at - timezone.now()) < timedelta(minutes=1)


@pytest.mark.parametrize(("changes", "words"), [
    ({"reason": ""}, "Say why"),
    ({"ends_at": ""}, "Enter when it ends."),
    ({"ends_at": "2020-01-01T00:00"}, "It must end after it starts."),
    ({"starts_at": "2020-01-01T00:00", "ends_at": "2020-01-02T00:00"}, "This is over already."),
    ({"ends_at": "2099-01-01T00:00"}, "It may last 31 days at most."),
    ({"starts_at": "tomorrow"}, "Enter a valid date/time."),
    ({"recurrence": "hourly"}, "Select a valid choice"),
])  # fmt: skip
def test_a_wrong_window_changes_nothing_and_says_why(
    operator: Client, check: Check, changes: dict[str, str], words: str
) -> None:
    response = post(operator, "service-maintenance", window(**changes))
    assert response.status_code == 422
    assert words in response.content.decode()
    assert not MaintenanceWindow.objects.exists()


def test_a_repeated_window_may_not_overlap_itself() -> None:
    now = timezone.now()
    form = MaintenanceForm(
        window(recurrence="daily", ends_at=local(now + timedelta(days=1, hours=1))), prefix="maintenance"
    )
    assert form.errors["ends_at"] == ["It must end before it starts again."]


def test_maintenance_is_cancelled(operator: Client, check: Check) -> None:
    post(operator, "service-maintenance", window())
    row = MaintenanceWindow.objects.get()
    response = operator.post(reverse("service-maintenance-cancel", args=["site", row.id]), headers=HTMX)
    row.refresh_from_db()
    assert row.cancelled_at is not None
    assert "in maintenance" not in response.content.decode()
    assert AuditEntry.objects.filter(action="maintenance.cancel").exists()


def test_a_window_of_another_service_or_of_all_is_not_cancelled_here(operator: Client, check: Check) -> None:
    now = timezone.now()
    others: list[Service | None] = [make_service("other"), None]
    for service in others:
        row = MaintenanceWindow.objects.create(
            service=service, starts_at=now, ends_at=now + timedelta(hours=1), reason="x"
        )
        url = reverse("service-maintenance-cancel", args=["site", row.id])
        assert operator.post(url, headers=HTMX).status_code == 404
