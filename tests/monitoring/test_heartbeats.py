"""The URL that cron jobs call."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from unittest import mock

import pytest
import requests
import time_machine
from django.db import OperationalError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from pytest_django.live_server_helper import LiveServer

from monitoring import heartbeats
from monitoring.models import Check, CheckState, Heartbeat
from tests.monitoring.factories import make_check, make_service
from wsmon.redact import redact
from wsmon.throttle import Rate

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _no_calls_counted() -> Iterator[None]:
    for rate in (heartbeats.calls, heartbeats.unknown):
        rate.reset()
    yield
    for rate in (heartbeats.calls, heartbeats.unknown):
        rate.reset()


@pytest.fixture
def job() -> Heartbeat:
    """A cron job whose check is due in an hour."""
    check = make_check(make_service("backup", provider="heartbeat"), "heartbeat")
    CheckState.objects.update(next_due_at=timezone.now() + timedelta(hours=1))
    return Heartbeat.objects.get(check_ref=check)


@pytest.mark.parametrize("method", ["get", "head", "post"])
@pytest.mark.parametrize(
    ("path", "column"), [("", "last_success_at"), ("/start", "last_start_at"), ("/fail", "last_fail_at")]
)
def test_it_notes_a_call(job: Heartbeat, method: str, path: str, column: str) -> None:
    before = timezone.now()
    response = getattr(Client(enforce_csrf_checks=True), method)(f"/api/heartbeat/{job.token}{path}")
    assert response.status_code == 200
    assert response["Cache-Control"] == "no-store"
    assert response["Content-Type"].startswith("text/plain")
    job.refresh_from_db()
    times = {name: getattr(job, name) for name in ("last_success_at", "last_start_at", "last_fail_at")}
    assert times.pop(column) >= before
    assert set(times.values()) == {None}


def test_a_web_host_whose_clock_is_wrong_makes_no_job_late(job: Heartbeat) -> None:
    before = timezone.now()
    with time_machine.travel(before - timedelta(hours=1)):
        Client().get(f"/api/heartbeat/{job.token}")
    job.refresh_from_db()
    assert job.last_success_at is not None
    assert job.last_success_at >= before


def test_it_makes_the_check_due_at_once(job: Heartbeat) -> None:
    Client().get(f"/api/heartbeat/{job.token}")
    assert CheckState.objects.get().next_due_at <= timezone.now()


def test_it_does_not_put_off_a_check_that_is_overdue(job: Heartbeat) -> None:
    due = timezone.now() - timedelta(minutes=5)
    CheckState.objects.update(next_due_at=due)
    Client().get(f"/api/heartbeat/{job.token}")
    assert CheckState.objects.get().next_due_at == due


def test_it_makes_a_check_due_again_that_is_being_probed(job: Heartbeat) -> None:
    due = timezone.now() - timedelta(seconds=1)
    CheckState.objects.update(next_due_at=due, lease_token=uuid.uuid4())
    Client().get(f"/api/heartbeat/{job.token}")
    assert CheckState.objects.get().next_due_at > due


def test_it_touches_no_other_job(job: Heartbeat) -> None:
    other = make_check(make_service("report", provider="heartbeat"), "heartbeat")
    Client().get(f"/api/heartbeat/{job.token}")
    assert Heartbeat.objects.get(check_ref=other).last_success_at is None


def test_it_takes_one_query(job: Heartbeat) -> None:
    with CaptureQueriesContext(connection) as captured:
        Client().get(f"/api/heartbeat/{job.token}")
    assert len(captured) == 1


@pytest.mark.parametrize(
    "path", ["nope", "nope/start", "nope/fail", "%F0%9F%92%A9", "' OR ''='", "x" * 5000, "a%25b", "*"]
)
def test_it_answers_every_unknown_token_alike(job: Heartbeat, path: str) -> None:
    response = Client().get(f"/api/heartbeat/{path}")
    assert (response.status_code, response.content) == (404, b"not found\n")
    assert response["Cache-Control"] == "no-store"
    job.refresh_from_db()
    assert job.last_success_at is None


@pytest.mark.parametrize("path", ["/stop", "/start/", "/", "/start/fail"])
def test_it_knows_no_other_signals(job: Heartbeat, path: str) -> None:
    assert Client().get(f"/api/heartbeat/{job.token}{path}").status_code == 404


def test_it_does_not_tell_a_check_that_is_gone_from_one_that_never_was(job: Heartbeat) -> None:
    Check.objects.update(archived_at=timezone.now())
    known, unknown = (Client().get(f"/api/heartbeat/{token}") for token in (job.token, "nope"))
    assert (known.status_code, known.content, known.headers.keys()) == (
        unknown.status_code,
        unknown.content,
        unknown.headers.keys(),
    )


@pytest.mark.parametrize("method", ["put", "patch", "delete", "options"])
def test_it_takes_no_other_methods(job: Heartbeat, method: str) -> None:
    response = getattr(Client(), method)(f"/api/heartbeat/{job.token}")
    assert (response.status_code, response["Allow"]) == (405, "GET, HEAD, POST")
    job.refresh_from_db()
    assert job.last_success_at is None


def test_it_ignores_a_body_and_refuses_a_huge_one(job: Heartbeat) -> None:
    client, url = Client(), f"/api/heartbeat/{job.token}"
    assert (
        client.post(url, b"\xff\x00 not a form" * 1000, content_type="application/x-www-form-urlencoded").status_code
        == 200
    )
    assert client.post(url, b"x" * (heartbeats.LONGEST_BODY + 1), content_type="text/plain").status_code == 413
    assert client.generic("POST", url, CONTENT_LENGTH="lots").status_code == 413


def test_a_job_that_calls_all_the_time_is_told_to_wait(job: Heartbeat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeats, "calls", Rate(3, 3600.0))
    answers = [Client().get(f"/api/heartbeat/{job.token}") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert int(answers[-1]["Retry-After"]) >= 1


def test_an_address_that_guesses_is_told_to_wait(job: Heartbeat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeats, "unknown", Rate(3, 3600.0))
    statuses = [Client().get(f"/api/heartbeat/guess-{number}").status_code for number in range(4)]
    assert statuses == [404, 404, 404, 429]


def test_a_job_is_heard_however_many_others_guess_from_its_address(
    job: Heartbeat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeats, "unknown", Rate(1, 3600.0))
    assert [Client().get("/api/heartbeat/guess").status_code for _ in range(2)] == [404, 429]
    assert Client().get(f"/api/heartbeat/{job.token}").status_code == 200


def test_it_asks_to_try_again_when_the_database_is_away(job: Heartbeat) -> None:
    with mock.patch("monitoring.heartbeats.note", side_effect=OperationalError("db.internal refused")):
        response = Client().get(f"/api/heartbeat/{job.token}")
    assert (response.status_code, response["Retry-After"]) == (503, "5")
    assert b"internal" not in response.content


def test_the_log_does_not_hold_the_token(job: Heartbeat, caplog: pytest.LogCaptureFixture) -> None:
    """Django logs the path of every answer of 400 and above; wsmon.logs redacts all it writes."""
    Client().delete(f"/api/heartbeat/{job.token}/fail")
    assert job.token in caplog.text
    assert redact(caplog.text).count("/api/heartbeat/***/fail") >= 1
    assert job.token not in redact(caplog.text)


def test_pages_can_name_its_urls(job: Heartbeat) -> None:
    assert reverse("heartbeat", args=["abc"]) == "/api/heartbeat/abc"
    assert reverse("heartbeat_start", args=["abc"]) == "/api/heartbeat/abc/start"
    assert reverse("heartbeat_fail", args=["abc"]) == "/api/heartbeat/abc/fail"


@pytest.mark.django_db(transaction=True)
def test_it_works_over_http_without_a_login(live_server: LiveServer, job: Heartbeat) -> None:
    url = f"{live_server.url}/api/heartbeat/{job.token}"
    answers: list[Any] = [
        requests.get(url, timeout=10, allow_redirects=False),
        requests.post(f"{url}/start", data=b"output of the job", timeout=10, allow_redirects=False),
        requests.head(f"{url}/fail", timeout=10, allow_redirects=False),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert [answer.text for answer in answers] == ["ok\n", "ok\n", ""]
