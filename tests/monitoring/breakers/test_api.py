"""``/api/admin/circuit-breakers``: status, metrics, force, reset, outcomes, trials."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from monitoring.breakers import reads, store
from monitoring.breakers.machine import Mode
from monitoring.models import Breaker, BreakerMinute, BreakerSlot, BreakerTransition, Service
from tests.callers import person, program
from tests.monitoring.factories import make_service
from wsmon.models import AuditEntry

ROOT = "/api/admin/circuit-breakers"
READ, ADMIN = "monitoring:read", "monitoring:admin"
COUNTING = {"policy": "counting", "recovery_timeout": 30.0}

pytestmark = pytest.mark.django_db


@pytest.fixture
def stripe() -> Service:
    return make_service("stripe", breaker=COUNTING)


def get(path: str = "/status", **query: Any) -> Any:
    response = program(READ).get(ROOT + path, query)
    assert response.status_code == 200, response.content
    return response.json()


def post(path: str, body: Any = None, scope: str = ADMIN) -> Any:
    return program(scope).post(ROOT + path, body if body is not None else {}, content_type="application/json")


def report(outcomes: list[dict[str, Any]], service: str = "stripe", **more: Any) -> Any:
    response = post(f"/outcomes/{service}", {"outcomes": outcomes, **more})
    assert response.status_code == 202, response.content
    return response.json()


def fields(response: Any) -> list[str]:
    assert response.status_code == 422, response.content
    return [error["field"] for error in json.loads(response.content)["errors"]]


FAILED = {"ok": False, "duration_ms": 5000, "status": 503}


class TestStatus:
    def test_it_has_the_names_of_the_contract(self, stripe: Service) -> None:
        (found,) = get()["breakers"]
        contract = {
            "service", "state", "policy", "forced", "failure_rate", "failure_count", "success_count", "opened_at",
            "next_attempt_at", "calls_rejected",
        }  # fmt: skip
        assert contract <= set(found)
        assert (found["service"], found["state"], found["policy"], found["forced"]) == (
            "stripe",
            "CLOSED",
            "counting",
            None,
        )
        assert (found["failure_rate"], found["failure_count"], found["success_count"]) == (None, 0, 0)
        assert (found["opened_at"], found["next_attempt_at"], found["calls_rejected"]) == (None, None, 0)

    def test_it_says_why_and_until_when_one_is_open(self, stripe: Service) -> None:
        make_service("other")
        report([FAILED] * 5)
        first, second = get()["breakers"]
        assert (first["service"], first["state"], first["cause"]) == ("stripe", "OPEN", "outage")
        assert (first["failure_rate"], first["failure_count"], first["openings"]) == (1.0, 5, 1)
        opened, due = (datetime.fromisoformat(first[name]) for name in ("opened_at", "next_attempt_at"))
        assert due - opened == timedelta(seconds=30)
        assert (second["service"], second["state"]) == ("other", "CLOSED")

    def test_an_etag_saves_an_answer_until_something_changes(self, stripe: Service) -> None:
        client = program(READ)
        tag = client.get(f"{ROOT}/status")["ETag"]
        same = client.get(f"{ROOT}/status", headers={"If-None-Match": f'"x", {tag}'})
        assert (same.status_code, same.content, same["ETag"]) == (304, b"", tag)
        store.force(stripe.id, Mode.OPEN, "ann", "x", None)
        changed = client.get(f"{ROOT}/status", headers={"If-None-Match": tag})
        assert changed.status_code == 200
        assert changed["ETag"] != tag

    def test_one_service_may_be_asked_for(self, stripe: Service) -> None:
        make_service("other")
        assert [one["service"] for one in get(service="stripe")["breakers"]] == ["stripe"]
        assert program(READ).get(f"{ROOT}/status", {"service": "nobody"}).status_code == 404
        assert program(READ).get(f"{ROOT}/status", {"service": "a\0b"}).status_code in (400, 404)

    def test_archived_services_have_no_breaker(self, stripe: Service) -> None:
        Service.objects.update(archived_at=timezone.now())
        assert get()["breakers"] == []
        assert post("/reset/stripe").status_code == 404

    def test_the_number_of_queries_does_not_grow(self) -> None:
        def queries() -> int:
            with CaptureQueriesContext(connection) as captured:
                reads.views()
            return len(captured)

        make_service()
        one = queries()
        for _ in range(5):
            make_service()
        assert queries() == one == 4


class TestForce:
    def test_it_holds_and_says_who_and_why(self, stripe: Service) -> None:
        response = post("/force/stripe", {"state": "OPEN", "reason": "moving house", "minutes": 10})
        assert response.status_code == 200, response.content
        found = response.json()
        assert (found["state"], found["forced"], found["forced_reason"]) == ("OPEN", "OPEN", "moving house")
        assert found["forced_by"].startswith("token:")
        left = datetime.fromisoformat(found["forced_until"]) - timezone.now()
        assert timedelta(minutes=9) < left <= timedelta(minutes=10)
        entry = AuditEntry.objects.get(action="breaker.force")
        assert (entry.target, entry.reason) == ("breaker:stripe", "moving house")

    def test_null_ends_it(self, stripe: Service) -> None:
        post("/force/stripe", {"state": "CLOSED", "reason": "testing"})
        found = post("/force/stripe", {"state": None}).json()
        assert (found["state"], found["forced"]) == ("CLOSED", None)
        assert list(BreakerTransition.objects.order_by("id").values_list("trigger", flat=True)) == [
            "forced",
            "force ended",
        ]

    def test_ending_what_does_not_hold_changes_nothing(self, stripe: Service) -> None:
        assert post("/force/stripe", {"state": None, "reason": "x"}).status_code == 200
        assert not AuditEntry.objects.filter(action__startswith="breaker.").exists()

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({"state": "OPEN"}, "reason"),
            ({"state": "OPEN", "reason": "   "}, "reason"),
            ({"state": "HALF_OPEN", "reason": "x"}, "state"),
            ({"state": "open", "reason": "x"}, "state"),
            ({"reason": "x"}, "state"),
            ({"state": "OPEN", "reason": "x", "minutes": 0}, "minutes"),
            ({"state": "OPEN", "reason": "x", "minutes": 1e9}, "minutes"),
            ({"state": "OPEN", "reason": "x", "minutes": "soon"}, "minutes"),
            ({"state": "OPEN", "reason": "x" * 501}, "reason"),
            ({"state": "OPEN", "reason": "x", "hours": 1}, "hours"),
        ],
    )
    def test_a_wrong_body_is_named_and_changes_nothing(self, stripe: Service, body: Any, field: str) -> None:
        assert fields(post("/force/stripe", body)) == [field]
        assert not BreakerTransition.objects.exists()

    def test_it_is_for_operators(self, stripe: Service) -> None:
        body = {"state": "OPEN", "reason": "x"}
        assert post("/force/stripe", body, READ).status_code == 403
        assert (
            person("monitoring.view_service")
            .post(f"{ROOT}/force/stripe", body, content_type="application/json")
            .status_code
            == 403
        )
        assert not Breaker.objects.exists()


def test_a_reset_closes_and_forgets(stripe: Service) -> None:
    report([FAILED] * 5)
    post("/force/stripe", {"state": "OPEN", "reason": "x"})
    found = post("/reset/stripe", {"reason": "repaired"}).json()
    assert (found["state"], found["forced"], found["openings"], found["opened_at"]) == ("CLOSED", None, 0, None)
    assert AuditEntry.objects.get(action="breaker.reset").reason == "repaired"
    response = program(ADMIN).post(f"{ROOT}/reset/stripe", b"", content_type="application/json")
    assert response.status_code == 200, "without a body too"


class TestOutcomes:
    def test_five_failures_open_it(self, stripe: Service) -> None:
        assert report([FAILED] * 4)["state"] == "CLOSED"
        found = report([FAILED])
        assert (found["accepted"], found["ignored"], found["state"], found["generation"]) == (1, 0, "OPEN", 1)
        assert datetime.fromisoformat(found["next_attempt_at"]) > datetime.fromisoformat(found["now"])

    def test_many_equal_ones_are_one_item(self, stripe: Service) -> None:
        assert report([{"ok": True, "count": 50_000}])["accepted"] == 50_000
        assert BreakerMinute.objects.get().ok == 50_000
        assert report([{"ok": False, "count": 7}])["state"] == "OPEN"

    def test_a_success_takes_a_failure_away_in_their_order(self, stripe: Service) -> None:
        assert report([FAILED] * 4 + [{"ok": True}] + [FAILED])["state"] == "CLOSED"
        assert report([FAILED])["state"] == "OPEN"

    def test_rolling_opens_at_half_of_the_volume(self) -> None:
        make_service("twilio", breaker={"min_volume": 10})
        assert report([{"ok": True}] * 6 + [FAILED] * 5, "twilio")["state"] == "CLOSED"
        assert report([FAILED], "twilio")["state"] == "OPEN"
        assert BreakerTransition.objects.get().reason == "6 of 12 calls failed in 10 s"

    @pytest.mark.parametrize(
        ("item", "counted"),
        [
            ({"ok": False, "status": 404}, False),
            ({"ok": False, "status": 402}, False),
            ({"ok": False, "status": 408}, True),
            ({"ok": False, "status": 500}, True),
            ({"ok": False}, True),
            ({"ok": True, "status": 404}, True),
        ],
    )
    def test_what_is_no_outage_is_not_counted(self, stripe: Service, item: Any, counted: bool) -> None:
        assert report([item])["accepted"] == counted

    def test_our_own_credential_is_named_as_the_cause(self, stripe: Service) -> None:
        report([{"ok": False, "status": 401}] * 5)
        assert get()["breakers"][0]["cause"] == "credential"

    def test_a_rate_limit_waits_for_as_long_as_asked(self, stripe: Service) -> None:
        report([{"ok": False, "status": 429, "retry_after": 120}] * 5)
        found = get()["breakers"][0]
        assert found["cause"] == "rate_limit"
        due = datetime.fromisoformat(found["next_attempt_at"])
        assert timedelta(seconds=110) < due - timezone.now() <= timedelta(seconds=121)

    def test_slow_ones_fail_where_the_policy_says_so(self) -> None:
        make_service("slow", breaker=COUNTING | {"slow_over": 2.0})
        report([{"ok": True, "duration_ms": 2001}, {"ok": True, "duration_ms": 1999}], "slow")
        row = BreakerMinute.objects.get()
        assert (row.ok, row.fail) == (1, 1)

    def test_late_ones_say_nothing_any_more(self, stripe: Service) -> None:
        now = timezone.now()
        old = {"ok": False, "at": (now - timedelta(seconds=60)).isoformat()}
        fresh = {"ok": False, "at": (now - timedelta(seconds=2)).isoformat()}
        ahead = {"ok": False, "at": (now + timedelta(hours=1)).isoformat()}
        found = report([old, fresh, ahead])
        assert (found["accepted"], found["ignored"]) == (2, 1)
        assert all(slot.start <= timezone.now() for slot in BreakerSlot.objects.all())

    def test_while_it_is_open_only_trials_count(self, stripe: Service) -> None:
        report([FAILED] * 5)
        found = report([{"ok": True}] * 3, rejected=4)
        assert (found["accepted"], found["ignored"], found["state"]) == (0, 3, "OPEN")
        assert get()["breakers"][0]["calls_rejected"] == 4

    def test_what_was_called_before_the_last_change_is_left_out(self, stripe: Service) -> None:
        before = timezone.now().isoformat()
        store.reset(stripe.id, "ann", "")
        assert report([{"ok": False, "at": before}])["accepted"] == 0

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({}, "outcomes"),
            ({"outcomes": [{}]}, "outcomes.0.ok"),
            ({"outcomes": [{"ok": "perhaps"}]}, "outcomes.0.ok"),
            ({"outcomes": [{"ok": True, "duration_ms": -1}]}, "outcomes.0.duration_ms"),
            ({"outcomes": [{"ok": True, "status": 99}]}, "outcomes.0.status"),
            ({"outcomes": [{"ok": True, "at": "yesterday"}]}, "outcomes.0.at"),
            ({"outcomes": [{"ok": True, "at": "2026-11-27T10:00:00"}]}, "outcomes.0.at"),
            ({"outcomes": [{"ok": True, "count": 0}]}, "outcomes.0.count"),
            ({"outcomes": [{"ok": True, "why": "x"}]}, "outcomes.0.why"),
            ({"outcomes": [], "rejected": -1}, "rejected"),
            ({"outcomes": [{"ok": True}] * 1001}, "outcomes"),
        ],
    )
    def test_a_wrong_body_is_named_and_changes_nothing(self, stripe: Service, body: Any, field: str) -> None:
        assert fields(post("/outcomes/stripe", body)) == [field]
        assert not BreakerMinute.objects.exists()

    def test_an_unknown_service_is_not_found(self) -> None:
        assert post("/outcomes/nobody", {"outcomes": []}).status_code == 404


class TestTrial:
    def due(self, service: Service) -> None:
        report([FAILED] * 5)
        Breaker.objects.update(opened_at=timezone.now() - timedelta(seconds=31))

    def test_one_is_granted_and_closes_it_by_two_successes(self, stripe: Service) -> None:
        self.due(stripe)
        for state in ("HALF_OPEN", "CLOSED"):
            granted = post("/trial/stripe")
            assert granted.status_code == 200, granted.content
            assert granted.json()["lease_seconds"] == 10
            found = report([{"ok": True, "duration_ms": 20}], trial=granted.json()["trial"])
            assert (found["accepted"], found["state"]) == (1, state)

    def test_no_second_one_while_it_runs(self, stripe: Service) -> None:
        self.due(stripe)
        token = post("/trial/stripe").json()["trial"]
        refused = post("/trial/stripe")
        assert refused.status_code == 409
        assert int(refused["Retry-After"]) >= 1
        assert post("/trial/stripe", {"trial": token}).status_code == 200, "its lease may be lengthened"
        assert post("/trial/stripe", {"trial": "unknown"}).status_code == 409

    def test_a_failure_opens_it_again_for_longer(self, stripe: Service) -> None:
        self.due(stripe)
        token = post("/trial/stripe").json()["trial"]
        found = report([FAILED], trial=token)
        assert (found["state"], get()["breakers"][0]["openings"]) == ("OPEN", 2)
        assert report([{"ok": True}], trial=token)["accepted"] == 0, "its token is used up"

    def test_one_that_ends_neutral_gives_its_place_back(self, stripe: Service) -> None:
        self.due(stripe)
        report([{"ok": False, "status": 404}], trial=post("/trial/stripe").json()["trial"])
        assert post("/trial/stripe").status_code == 200

    def test_one_that_was_not_made_gives_its_place_back(self, stripe: Service) -> None:
        self.due(stripe)
        found = report([], trial=post("/trial/stripe").json()["trial"])
        assert (found["accepted"], found["ignored"], found["state"]) == (0, 0, "HALF_OPEN")
        assert post("/trial/stripe").status_code == 200

    def test_reports_have_a_limit_of_their_own(self, stripe: Service, settings: Any) -> None:
        settings.API_REQUESTS_PER_MINUTE, settings.API_REPORTS_PER_MINUTE = 1, 3
        client = program(ADMIN)
        body = {"outcomes": [{"ok": True}]}
        found = [client.post(f"{ROOT}/outcomes/stripe", body, content_type="application/json") for _ in range(4)]
        assert [answer.status_code for answer in found] == [202, 202, 202, 429]
        assert client.post(f"{ROOT}/reset/stripe", {}, content_type="application/json").status_code == 200

    def test_it_is_refused_while_closed_not_due_or_forced(self, stripe: Service) -> None:
        assert post("/trial/stripe").status_code == 409
        report([FAILED] * 5)
        refused = post("/trial/stripe")
        assert (refused.status_code, 28 <= int(refused["Retry-After"]) <= 30) == (409, True)
        store.force(stripe.id, Mode.OPEN, "ann", "x", None)
        assert "forced" in json.loads(post("/trial/stripe").content)["detail"]


class TestMetrics:
    def test_it_counts_over_a_timeframe(self, stripe: Service) -> None:
        now = timezone.now()
        BreakerMinute.objects.create(service=stripe, start=now - timedelta(minutes=5), ok=90, fail=10, rejected=3)
        BreakerMinute.objects.create(service=stripe, start=now - timedelta(hours=5), ok=100, fail=0)
        for minutes, old, new in ((30, "CLOSED", "OPEN"), (29, "OPEN", "HALF_OPEN"), (28, "HALF_OPEN", "CLOSED")):
            at = now - timedelta(minutes=minutes)
            BreakerTransition.objects.create(at=at, service=stripe, generation=1, old=old, new=new, trigger="x")
        (hour,) = get("/metrics", timeframe="1h")["breakers"]
        assert (hour["calls"], hour["failures"], hour["failure_rate"], hour["rejected"]) == (100, 10, 0.1, 3)
        assert (hour["openings"], hour["open_seconds"]) == (1, pytest.approx(120, abs=1))
        assert get("/metrics", timeframe="24h")["breakers"][0]["calls"] == 200

    def test_one_that_is_open_all_the_time_says_so(self, stripe: Service) -> None:
        Breaker.objects.create(
            service=stripe, state="OPEN", opened_at=timezone.now() - timedelta(days=2), open_for=30
        )
        assert get("/metrics", timeframe="1h")["breakers"][0]["open_seconds"] == pytest.approx(3600, abs=1)

    def test_a_bad_timeframe_is_named(self) -> None:
        assert fields(program(READ).get(f"{ROOT}/metrics", {"timeframe": "1y"})) == ["timeframe"]


@pytest.mark.parametrize("path", ["/status", "/metrics"])
def test_strangers_learn_nothing(path: str) -> None:
    assert Client().get(ROOT + path).status_code == 401
