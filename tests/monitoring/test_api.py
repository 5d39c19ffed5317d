"""``/api/admin/integrations``: health, status and test."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from unittest import mock

import pytest
import requests
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from ninja import Schema
from ninja.responses import NinjaJSONEncoder
from pytest_django.live_server_helper import LiveServer

from monitoring import actions, store, summaries, variables
from monitoring.api_schemas import HealthAnswer, StatusAnswer
from monitoring.models import Check, CheckState, ProbeResult, Service
from monitoring.periods import PERIODS
from providers.base import NotConfigured
from tests.callers import person, program, token
from tests.monitoring.factories import finished, make_check, make_service, outcome
from wsmon.audit import Actor
from wsmon.models import AuditEntry
from wsmon.vocabulary import Category, Timings

ROOT = "/api/admin/integrations"
READ, ADMIN = "monitoring:read", "monitoring:admin"
EVERYTHING = {"detailed": "true", "include_history": "true"}

pytestmark = pytest.mark.django_db


def probed(slug: str, word: str = "healthy", category: Category | None = None, **fields: Any) -> Check:
    """A service with one http check that was probed once and confirmed at once."""
    check = make_check(make_service(slug, **fields), name="home", confirm_down=1, confirm_up=1)
    found = outcome(word, 120.5, category, f"it is {word}", http_status=200, details={"tls_days_left": 40})
    store.settle([finished(check, found)])
    return check


def get(path: str, **query: Any) -> Any:
    response = program(READ).get(ROOT + path, query)
    assert response.status_code == 200, response.content
    return response.json()


def post(service: str, body: Any, client: Client | None = None) -> Any:
    client = client or program(ADMIN)
    return client.post(f"{ROOT}/test/{service}", body, content_type="application/json")


def errors(response: Any) -> list[str]:
    """The fields that a 422 names."""
    assert response.status_code == 422, response.content
    assert response["Content-Type"] == "application/problem+json"
    found = json.loads(response.content)["errors"]
    assert all(error["message"] for error in found)
    return [error["field"] for error in found]


@pytest.mark.parametrize("query", [{}, EVERYTHING, {"include_history": "true"}])
def test_the_health_of_services_is_answered_as_documented(query: dict[str, str]) -> None:
    some_of_each_kind()
    found = get("/health", **query)
    assert len(found["services"]) == 4
    assert found == documented(HealthAnswer, found)


@pytest.mark.parametrize("query", [{}, {"include_metrics": "true", "timeframe": "7d"}])
def test_the_status_of_services_is_answered_as_documented(query: dict[str, str]) -> None:
    some_of_each_kind()
    summaries.refresh(PERIODS["7d"])
    found = get("/status", **query)
    assert len(found["services"]) == 4
    assert found == documented(StatusAnswer, found)


def some_of_each_kind() -> None:
    """Services that work, fail, wait for their first result and have no check."""
    probed("works")
    probed("fails", "critical", Category.DNS_ERROR)
    make_check(make_service("waits"))
    make_service("empty")


def documented(schema: type[Schema], found: dict[str, Any]) -> Any:
    """The same answer as the schema would write it: every field, nothing else, each of its type."""
    return json.loads(json.dumps(schema.model_validate(found).model_dump(), cls=NinjaJSONEncoder))


class TestHealth:
    """``GET /health``."""

    def test_it_is_empty_before_there_is_a_service(self) -> None:
        found = get("/health")
        assert found["services"] == []
        assert (found["healthy_services"], found["total_services"]) == (0, 0)

    def test_it_answers_with_the_names_of_the_contract(self) -> None:
        probed("stripe", "critical", Category.TIMEOUT_ERROR)
        found = get("/health")
        assert set(found) >= {"overall_status", "services", "healthy_services", "total_services", "last_updated"}
        service = found["services"][0]
        assert service["service"] == "stripe"
        assert service["status"] == "critical"
        assert service["response_time"] == 120.5
        assert "it is critical" in service["error"]
        assert service["error_category"] == "TIMEOUT_ERROR"
        assert service["checked_at"].endswith("Z")
        assert service["details"] == {}
        assert (service["checks"], service["history"]) == (None, None)

    def test_it_has_no_error_for_what_is_healthy(self) -> None:
        probed("stripe")
        service = get("/health")["services"][0]
        assert (service["error"], service["error_category"]) == (None, None)

    def test_it_counts_by_the_formula_and_lists_what_does_not_count(self) -> None:
        for number in range(5):
            probed(f"good-{number}")
        probed("bad", "error", Category.AUTHENTICATION_ERROR)
        make_check(make_service("new"))
        paused = probed("resting")
        actions.pause([paused], Actor.system("test"), "holiday")
        missing = make_check(make_service("absent"))
        store.settle([finished(missing, None, missing=("STRIPE_SECRET_KEY",))])
        found = get("/health")
        assert (found["healthy_services"], found["total_services"]) == (5, 6)
        assert found["overall_status"] == "healthy"
        statuses = {service["service"]: service["status"] for service in found["services"]}
        assert len(statuses) == 9
        assert (statuses["new"], statuses["resting"], statuses["absent"]) == ("unknown", "paused", "not_configured")
        absent = next(service for service in found["services"] if service["service"] == "absent")
        assert absent["missing_variables"] == ["STRIPE_SECRET_KEY"]
        assert absent["error"] == "not configured: set STRIPE_SECRET_KEY"

    def test_it_puts_the_most_urgent_first(self) -> None:
        probed("a-fine")
        probed("m-low", "critical", criticality="low")
        probed("z-critical", "critical", criticality="critical")
        assert [service["service"] for service in get("/health")["services"]] == ["z-critical", "m-low", "a-fine"]

    def test_it_lists_one_service_on_demand_and_still_counts_all(self) -> None:
        probed("stripe")
        probed("resend", "critical")
        found = get("/health", service="stripe")
        assert [service["service"] for service in found["services"]] == ["stripe"]
        assert found["total_services"] == 2

    @pytest.mark.parametrize("slug", ["nope", "", " ", "a/b", "x" * 500, "é", "' OR 1=1 --", "../x"])
    def test_it_knows_no_other_service(self, slug: str) -> None:
        response = program(READ).get(f"{ROOT}/health", {"service": slug})
        assert response.status_code == 404
        assert response["Content-Type"] == "application/problem+json"

    def test_it_leaves_archived_services_out(self) -> None:
        check = probed("stripe")
        Service.objects.filter(id=check.service_id).update(archived_at=timezone.now())
        assert get("/health")["services"] == []
        assert program(READ).get(f"{ROOT}/health?service=stripe").status_code == 404

    def test_it_adds_checks_and_details_on_demand(self) -> None:
        check = make_check(make_service("site"), name="home", interval=30)
        timings = Timings(1.5, 2.5, 3.5, 70.0, 80.0)
        found = outcome(http_status=503, message="503", word="critical", category=Category.SERVER_ERROR)
        found = type(found)(found.outcome, found.category, found.message, timings, 503, {"request_id": "r1"})
        store.settle([finished(check, found)])
        service = get("/health", detailed="true")["services"][0]
        assert service["details"] == {"home": {"request_id": "r1"}}
        only = service["checks"][0]
        assert (only["name"], only["kind"], only["outcome"], only["http_status"]) == ("home", "http", "critical", 503)
        assert (only["error_category"], only["message"], only["interval"]) == ("SERVER_ERROR", "503", 30)
        assert only["timings"] == {"dns": 1.5, "connect": 2.5, "tls": 3.5, "first_byte": 70.0, "total": 80.0}
        assert (only["response_time"], only["missing_variables"]) == (80.0, [])
        assert service["history"] is None

    def test_it_names_what_a_check_lacks(self) -> None:
        check = make_check(make_service("site"))
        store.settle([finished(check, None, missing=("STRIPE_SECRET_KEY",))])
        only = get("/health", detailed="true")["services"][0]["checks"][0]
        assert (only["status"], only["outcome"]) == ("not_configured", None)
        assert only["missing_variables"] == ["STRIPE_SECRET_KEY"]

    def test_it_adds_history_on_demand_newest_first(self) -> None:
        check = probed("stripe")
        other = make_check(check.service, name="other")
        now = timezone.now()
        for minutes, one in enumerate([check, other, check], 1):
            store.settle([finished(one, outcome("critical", 9.0), at=now + timedelta(minutes=minutes))])
        history = get("/health", include_history="true")["services"][0]["history"]
        times = [result["at"] for result in history["results"]]
        assert times == sorted(times, reverse=True)
        assert [result["check"] for result in history["results"]] == ["home", "other", "home", "home"]
        assert history["results"][0]["outcome"] == "critical"
        assert {(change["check"], change["old"], change["new"]) for change in history["changes"]} >= {
            ("home", "unknown", "healthy"),
            (None, "unknown", "healthy"),
        }

    def test_it_bounds_the_history(self) -> None:
        check = probed("stripe")
        now = timezone.now()
        ProbeResult.objects.bulk_create(
            ProbeResult(id=number, at=now - timedelta(seconds=number), check_ref=check, outcome="healthy")
            for number in range(1, 100)
        )
        assert len(get("/health", include_history="true")["services"][0]["history"]["results"]) == 20

    def test_it_asks_the_database_as_often_for_many_services_as_for_one(self) -> None:
        client = program(READ)
        client.get(f"{ROOT}/health", EVERYTHING)

        def queries() -> int:
            with CaptureQueriesContext(
                connection,
            ) as captured:
                assert client.get(f"{ROOT}/health", EVERYTHING).status_code == 200
            return len(captured)

        probed("first")
        one = queries()
        for number in range(12):
            probed(f"more-{number}")
        assert queries() == one

    @pytest.mark.parametrize(
        ("query", "fields"),
        [
            ({"detailed": "maybe"}, ["detailed"]),
            ({"include_history": "2"}, ["include_history"]),
            ({"detailed": "", "include_history": "x"}, ["detailed", "include_history"]),
        ],
    )
    def test_it_names_each_bad_parameter(self, query: dict[str, str], fields: list[str]) -> None:
        assert errors(program(READ).get(f"{ROOT}/health", query)) == fields


class TestStatus:
    """``GET /status``."""

    def test_it_covers_a_day_unless_told_otherwise(self) -> None:
        probed("stripe")
        found = get("/status")
        assert found["timeframe"] == "24h"
        assert set(found) >= {"overall_status", "healthy_services", "total_services", "last_updated"}
        assert found["services"][0]["service"] == "stripe"
        assert found["services"][0]["metrics"] is None

    @pytest.mark.parametrize("timeframe", ["1h", "24h", "7d"])
    def test_it_adds_metrics_over_the_timeframe(self, timeframe: str) -> None:
        check = make_check(make_service("stripe"))
        now = timezone.now()
        words = ["healthy"] * 7 + ["degraded", "critical", "error"]
        for number, word in enumerate(words):
            store.settle([finished(check, outcome(word, 100.0 * (number + 1)), at=now - timedelta(minutes=number))])
        metrics = get("/status", timeframe=timeframe, include_metrics="true")["services"][0]["metrics"]
        assert metrics["counts"] == {"healthy": 7, "degraded": 1, "critical": 1, "error": 1}
        assert metrics["total"] == 10
        assert metrics["uptime"] == pytest.approx(8 / 9)
        assert metrics["p50"] == pytest.approx(500, rel=0.13)
        assert metrics["p95"] == pytest.approx(1000, rel=0.13)
        assert metrics["p50"] < metrics["p95"] <= metrics["p99"]

    def test_it_adds_up_the_checks_of_a_service_and_no_other(self) -> None:
        first = probed("stripe")
        store.settle([finished(make_check(first.service), outcome("critical", 50.0))])
        probed("resend")
        found = {
            service["service"]: service["metrics"] for service in get("/status", include_metrics="1")["services"]
        }
        assert (found["stripe"]["total"], found["resend"]["total"]) == (2, 1)

    def test_it_forgets_what_is_older_than_the_timeframe(self) -> None:
        check = make_check(make_service("stripe"))
        store.settle([finished(check, outcome(), at=timezone.now() - timedelta(hours=3))])
        hour = get("/status", timeframe="1h", include_metrics="true")["services"][0]["metrics"]
        day = get("/status", timeframe="24h", include_metrics="true")["services"][0]["metrics"]
        assert (hour["total"], hour["uptime"], hour["p50"]) == (0, None, None)
        assert day["total"] == 1

    def test_it_gives_the_same_from_the_summary_made_beforehand(self) -> None:
        check = make_check(make_service("stripe"))
        for number in range(70):
            at = timezone.now() - timedelta(minutes=20 * number)
            store.settle([finished(check, outcome(ms=float(number * 10 + 10)), at=at)])
        young = get("/status", include_metrics="true")["services"][0]["metrics"]
        summaries.refresh(PERIODS["24h"])
        with mock.patch("monitoring.api_reads.rollups", None):  # nothing is added up now
            settled = get("/status", include_metrics="true")["services"][0]["metrics"]
        assert settled == young

    @pytest.mark.parametrize("timeframe", ["90d", "24", "", "1H", "0", "1h,24h"])
    def test_it_names_a_bad_timeframe(self, timeframe: str) -> None:
        assert errors(program(READ).get(f"{ROOT}/status", {"timeframe": timeframe})) == ["timeframe"]

    def test_it_names_a_bad_flag(self) -> None:
        assert errors(program(READ).get(f"{ROOT}/status", {"include_metrics": "maybe"})) == ["include_metrics"]


@pytest.mark.django_db(transaction=True)
class TestTest:
    """``POST /test/{service}``, against a real server on loopback."""

    @pytest.fixture
    def site(self, live_server: LiveServer, loopback_targets: None) -> Check:
        options = {"url": f"{live_server.url}/healthz", "expect": {"json": {"$.status": "ok"}}}
        return make_check(make_service("site"), name="home", options=options)

    def test_it_probes_and_answers_with_the_names_of_the_contract(self, site: Check) -> None:
        response = post("site", {"test_type": "connectivity"})
        assert response.status_code == 200, response.content
        found = response.json()
        assert (found["service"], found["test_type"], found["check"]) == ("site", "connectivity", "home")
        assert (found["success"], found["status"], found["http_status"]) == (True, "healthy", 200)
        assert (found["error"], found["error_category"]) == (None, None)
        assert set(found["timings"]) == {"dns", "connect", "tls", "first_byte", "total"}
        assert found["response_time"] == found["timings"]["total"] > 0
        assert found["checked_at"].endswith("Z")
        assert isinstance(found["details"], dict)

    def test_it_keeps_the_result_as_manual_and_changes_no_status(self, site: Check) -> None:
        post("site", {"test_type": "connectivity"})
        assert ProbeResult.objects.get(check_ref=site).manual is True
        assert CheckState.objects.get().status == "unknown"
        history = get("/health", include_history="true")["services"][0]["history"]
        assert history["results"][0]["manual"] is True

    def test_it_tells_a_failure_from_a_mistake_of_the_caller(self, site: Check) -> None:
        Check.objects.update(options={"url": "http://127.0.0.1:9/"})
        response = post("site", {"test_type": "connectivity"})
        assert response.status_code == 200
        found = response.json()
        assert (found["success"], found["status"], found["error_category"]) == (False, "critical", "NETWORK_ERROR")
        assert found["error"]

    def test_it_leaves_an_audit_row(self, site: Check) -> None:
        response = post("site", {"test_type": "connectivity", "timeout_ms": 2000}, person("monitoring.operate"))
        assert response.status_code == 200, response.content
        entry = AuditEntry.objects.get(action="service.test")
        assert entry.target == "service:site"
        assert entry.actor is not None
        assert entry.address == "127.0.0.1"
        assert entry.details == {"test_type": "connectivity", "timeout_ms": 2000}

    def test_it_names_the_token_in_the_audit_row(self, site: Check) -> None:
        post("site", {"test_type": "connectivity"})
        entry = AuditEntry.objects.get(action="service.test")
        assert entry.actor is None
        assert entry.actor_name.startswith("token:")

    def test_it_waits_as_long_as_it_was_told(self, site: Check) -> None:
        for body, seconds in [({}, 5.0), ({"timeout_ms": 1000}, 1.0), ({"timeout_ms": 30000}, 30.0)]:
            with mock.patch("monitoring.api.probing.probe_now", side_effect=NotConfigured("X")) as probe:
                post("site", {"test_type": "connectivity"} | body)
            assert probe.call_args.args[2] == seconds

    def test_it_works_over_http_with_a_token(self, site: Check, live_server: LiveServer) -> None:
        answer = requests.post(
            f"{live_server.url}{ROOT}/test/site",
            json={"test_type": "connectivity", "timeout_ms": 5000},
            headers={"Authorization": f"Bearer {token(ADMIN)}"},
            timeout=20,
        )
        assert answer.status_code == 200
        assert answer.json()["success"] is True


@pytest.mark.django_db(transaction=True)
class TestOfAVendor:
    """``POST /test/{service}`` of a vendor, played by a server on loopback that says what Stripe says."""

    key = "sk_test_" + "51Abcdefghijklmnop"

    @pytest.fixture
    def stripe(self, loopback_targets: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), _Stripe)
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("STRIPE_API_BASE", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("STRIPE_SECRET_KEY", self.key)
        variables.forget()
        yield make_service("stripe", provider="stripe")
        server.shutdown()
        server.server_close()
        variables.forget()

    def test_a_refused_key_is_our_error_and_not_the_vendors(self, stripe: Service) -> None:
        reached = post("stripe", {"test_type": "connectivity"}).json()
        assert (reached["success"], reached["status"], reached["check"]) == (True, "healthy", None)
        refused = post("stripe", {"test_type": "authentication"})
        assert refused.status_code == 200
        found = refused.json()
        assert (found["success"], found["status"]) == (False, "error")
        assert (found["error_category"], found["http_status"]) == ("AUTHENTICATION_ERROR", 401)

    def test_it_never_shows_the_key(self, stripe: Service) -> None:
        make_check(stripe, "authentication", name="authentication")
        refused = post("stripe", {"test_type": "authentication"})
        assert self.key not in refused.content.decode()
        everything = program(READ).get(f"{ROOT}/health", EVERYTHING).content.decode()
        assert "401" in everything
        assert self.key not in everything
        assert self.key not in str(list(AuditEntry.objects.values()))


class _Stripe(BaseHTTPRequestHandler):
    """Refuses every key as Stripe does, and repeats it."""

    def do_GET(self) -> None:
        sent = self.headers.get("Authorization", "")
        error = {"type": "invalid_request_error", "message": f"Invalid API Key provided: {sent}"}
        body = json.dumps({"error": error}).encode()
        self.send_response(401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


class TestRefusedTests:
    """``POST /test/{service}`` that never reaches a vendor."""

    def test_it_needs_the_scope_or_the_permission_to_operate(self) -> None:
        body = {"test_type": "connectivity"}
        assert post("site", body, Client()).status_code == 401
        assert post("site", body, program(READ)).status_code == 403
        assert post("site", body, person("monitoring.view_service")).status_code == 403
        assert not AuditEntry.objects.filter(action="service.test").exists()

    @pytest.mark.parametrize("slug", ["nope", "x" * 500, "%C3%A9", "a.b"])
    def test_it_knows_no_other_service(self, slug: str) -> None:
        response = post(slug, {"test_type": "connectivity"})
        assert response.status_code == 404
        assert response["Content-Type"] == "application/problem+json"

    @pytest.mark.parametrize(
        ("body", "fields"),
        [
            ({}, ["test_type"]),
            ({"test_type": "everything"}, ["test_type"]),
            ({"test_type": None}, ["test_type"]),
            ({"test_type": ["connectivity"]}, ["test_type"]),
            ({"test_type": "connectivity", "timeout_ms": 999}, ["timeout_ms"]),
            ({"test_type": "connectivity", "timeout_ms": 30001}, ["timeout_ms"]),
            ({"test_type": "connectivity", "timeout_ms": -1}, ["timeout_ms"]),
            ({"test_type": "connectivity", "timeout_ms": "soon"}, ["timeout_ms"]),
            ({"test_type": "connectivity", "timeout_ms": 1500.5}, ["timeout_ms"]),
            ({"test_type": "connectivity", "timeout_ms": None}, ["timeout_ms"]),
            ({"test_type": "connectivity", "timeout_ms": True}, ["timeout_ms"]),
            ({"test_type": "connectivity", "timeout_ms": 1e400}, ["timeout_ms"]),
            ({"test_type": "connectivity", "timeout": 5}, ["timeout"]),
            ({"test_type": "x", "timeout_ms": 1}, ["test_type", "timeout_ms"]),
            ([], ["body"]),
            ("connectivity", ["body"]),
        ],
    )
    def test_it_names_each_bad_parameter(self, body: Any, fields: list[str]) -> None:
        make_check(make_service("site"))
        assert errors(post("site", json.dumps(body))) == fields

    @pytest.mark.parametrize("test_type", ["authentication", "functionality"])
    def test_a_generic_provider_has_connectivity_only(self, test_type: str) -> None:
        make_check(make_service("site"))
        assert errors(post("site", {"test_type": test_type})) == ["test_type"]

    def test_it_names_the_variables_that_a_service_lacks(self) -> None:
        make_service("stripe", provider="stripe")
        response = post("stripe", {"test_type": "authentication"})
        assert response.status_code == 409
        found = json.loads(response.content)
        assert found["variables"] == ["STRIPE_SECRET_KEY"]
        assert "STRIPE_SECRET_KEY" in found["detail"]

    def test_it_has_nothing_to_run_for_a_generic_service_without_checks(self) -> None:
        make_service("site")
        assert post("site", {"test_type": "connectivity"}).status_code == 409

    def test_it_survives_a_provider_that_is_gone(self) -> None:
        make_service("old", provider="gone")
        assert post("old", {"test_type": "connectivity"}).status_code == 409
        assert get("/health", service="old", **EVERYTHING)["services"][0]["provider"] == "gone"

    def test_it_is_throttled(self, settings: Any) -> None:
        settings.API_TESTS_PER_MINUTE = 2
        client = program(ADMIN)
        answers = [post("nope", {"test_type": "connectivity"}, client) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [404, 404, 429]
        assert int(answers[-1]["Retry-After"]) >= 1
