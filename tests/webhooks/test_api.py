"""``/api/admin/webhooks``: health, failures, events, replays and publishing."""

from __future__ import annotations

import json
import threading
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests.callers import person, program, token, with_token
from tests.webhooks.factories import (
    count_deliveries,
    make_attempt,
    make_delivery,
    make_destination,
    make_event,
    make_route,
    make_source,
)
from webhooks import replaying, search
from webhooks.models import Delivery, Event, Refusal, Replay
from webhooks.vocabulary import PUBLISHED, Lane
from wsmon.models import AuditEntry

ROOT = "/api/admin/webhooks"
READ, REPLAY, PUBLISH = "webhooks:read", "webhooks:replay", "events:publish"
SOME = "019f4c1e-7c1a-7d3e-8f00-2b1c5d9e0a11"

pytestmark = pytest.mark.django_db


def get(path: str, **query: Any) -> Any:
    response = program(READ).get(ROOT + path, query)
    assert response.status_code == 200, response.content
    return response.json()


def post(path: str, body: Any = None, client: Client | None = None, key: str = "") -> Any:
    client = client or program(REPLAY)
    headers = {"Idempotency-Key": key} if key else {}
    return client.post(ROOT + path, body or {}, content_type="application/json", headers=headers)


def problem(response: Any, status: int) -> Any:
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/problem+json"
    return json.loads(response.content)


def errors(response: Any) -> list[str]:
    """The fields that a 422 names."""
    found = problem(response, 422)["errors"]
    assert all(error["message"] for error in found)
    return [error["field"] for error in found]


READS = ["/health", "/failures", "/refusals", "/events", f"/events/{SOME}", "/replay", f"/replay/{SOME}"]
WRITES = [
    ("/replay", REPLAY, {"since": "1h"}),
    (f"/replay/{SOME}", REPLAY, {}),
    (f"/replay/{SOME}/pause", REPLAY, {}),
    ("/publish", PUBLISH, {"type": "a", "data": {}}),
]


class TestAccess:
    """Who may call what."""

    @pytest.mark.parametrize("path", READS)
    def test_nobody_reads_without_a_token(self, path: str) -> None:
        problem(Client().get(ROOT + path), 401)

    @pytest.mark.parametrize("path", READS)
    def test_other_scopes_do_not_read(self, path: str) -> None:
        problem(program(REPLAY, PUBLISH, "monitoring:read").get(ROOT + path), 403)

    @pytest.mark.parametrize("path", READS)
    def test_staff_read_with_the_permission_only(self, path: str) -> None:
        problem(person("monitoring.view_service").get(ROOT + path), 403)
        assert person("webhooks.view_event").get(ROOT + path).status_code in (200, 404)

    @pytest.mark.parametrize(("path", "scope", "body"), WRITES)
    def test_nobody_acts_without_a_token(self, path: str, scope: str, body: Any) -> None:
        problem(post(path, body, Client()), 401)

    @pytest.mark.parametrize(("path", "scope", "body"), WRITES)
    def test_other_scopes_do_not_act(self, path: str, scope: str, body: Any) -> None:
        others = {READ, REPLAY, PUBLISH, "monitoring:admin"} - {scope}
        problem(post(path, body, program(*others)), 403)
        assert not Event.objects.exists()

    @pytest.mark.parametrize(("path", "scope", "body"), WRITES)
    def test_staff_act_with_the_permission_only(self, path: str, scope: str, body: Any) -> None:
        problem(post(path, body, person("webhooks.view_event")), 403)
        assert post(path, body, person("webhooks.replay")).status_code in (202, 404, 409)

    @pytest.mark.parametrize(("path", "scope", "body"), WRITES)
    def test_staff_need_the_csrf_token(self, path: str, scope: str, body: Any) -> None:
        problem(post(path, body, person("webhooks.replay", csrf=True)), 403)

    @pytest.mark.parametrize("path", ["/health", "/failures", "/refusals", "/events", f"/events/{SOME}"])
    def test_reading_is_no_posting(self, path: str) -> None:
        problem(post(path, {}, program(READ)), 405)

    @pytest.mark.parametrize("path", ["/publish", f"/replay/{SOME}/pause"])
    def test_acting_is_no_getting(self, path: str) -> None:
        problem(program(REPLAY, PUBLISH, READ).get(ROOT + path), 405)


class TestHealth:
    """``GET /health``."""

    def test_it_is_empty_before_there_is_anything(self) -> None:
        found = get("/health")
        assert found == {
            "overall_success_rate": None,
            "total_deliveries": 0,
            "failed_deliveries": 0,
            "services": {},
            "timeframe": "24h",
            "last_updated": None,
        }

    def test_it_counts_by_source(self) -> None:
        stripe, mail, app = make_source("stripe"), make_source("mail"), make_destination()
        histogram = [0] * 120
        histogram[50], histogram[80] = 9, 1
        count_deliveries(
            stripe, app, tries=10, tries_failed=1, delivered=8, failed=1, sum_ms=500.0, histogram=histogram
        )
        count_deliveries(stripe, make_destination(), tries=10, delivered=10, sum_ms=300.0, histogram=histogram)
        make_delivery(make_event(stripe), app, "retrying", tried_at=timezone.now())
        found = get("/health")
        one = found["services"]["stripe"]
        assert (one["total"], one["successful"], one["failed"], one["retrying"]) == (20, 18, 1, 1)
        assert one["success_rate"] == 0.9
        assert one["avg_response_time"] == 40.0
        assert 70 < one["p95_response_time"] < 3000
        assert (found["overall_success_rate"], found["total_deliveries"], found["failed_deliveries"]) == (0.9, 20, 1)
        assert found["services"][mail.slug]["success_rate"] is None
        assert found["last_updated"].endswith("Z")

    def test_it_looks_back_as_far_as_it_is_told(self) -> None:
        stripe, app = make_source("stripe"), make_destination()
        for hours, number in ((0, 1), (5, 10), (50, 100), (24 * 9, 1000)):
            count_deliveries(stripe, app, timezone.now() - timedelta(hours=hours), delivered=number)
        assert [get("/health", timeframe=name)["total_deliveries"] for name in ("1h", "24h", "7d")] == [1, 11, 111]

    def test_it_lists_one_source_or_one_provider(self) -> None:
        for slug, provider in (("shop", "stripe"), ("stripe", "stripe"), ("mail", "resend")):
            count_deliveries(make_source(slug, provider=provider), make_destination(), delivered=1)
        assert set(get("/health", webhook_type="stripe")["services"]) == {"shop", "stripe"}
        found = get("/health", webhook_type="mail")
        assert (set(found["services"]), found["total_deliveries"]) == ({"mail"}, 1)
        assert get("/health", webhook_type="nobody")["services"] == {}

    def test_it_lists_sources_with_deliveries_of_a_status(self) -> None:
        good, bad = make_source("good"), make_source("bad")
        count_deliveries(good, make_destination(), delivered=1)
        count_deliveries(bad, make_destination(), failed=1)
        make_delivery(make_event(good), status="pending")
        assert set(get("/health", status="failed")["services"]) == {"bad"}
        assert set(get("/health", status="delivered")["services"]) == {"good"}
        assert set(get("/health", status="pending")["services"]) == {"good"}

    @pytest.mark.parametrize(
        ("field", "value"), [("timeframe", "2h"), ("status", "broken"), ("webhook_type", "x" * 61), ("status", "")]
    )
    def test_it_names_a_bad_parameter(self, field: str, value: str) -> None:
        assert errors(program(READ).get(f"{ROOT}/health", {field: value})) == [field]

    def test_it_costs_the_same_queries_for_many_sources(self) -> None:
        client = program(READ)
        with CaptureQueriesContext(connection) as one:
            client.get(f"{ROOT}/health")
        for _ in range(5):
            count_deliveries(make_source(), make_destination(), delivered=1)
        with CaptureQueriesContext(connection) as many:
            client.get(f"{ROOT}/health")
        assert len(one) >= len(many)


class TestFailures:
    """``GET /failures``."""

    def test_it_groups_by_service(self) -> None:
        stripe, mail = make_source("stripe"), make_source("mail")
        rows = [make_delivery(make_event(stripe), status="failed") for _ in range(3)]
        make_delivery(make_event(mail), status="failed")
        make_delivery(make_event(mail), status="delivered")
        found = get("/failures")
        assert (found["group_by"], found["timeframe"], found["total_failures"]) == ("service", "24h", 4)
        assert found["truncated"] is False
        assert [(group["key"], group["count"]) for group in found["groups"]] == [("stripe", 3), ("mail", 1)]
        group = found["groups"][0]
        assert group["first_seen"] <= group["last_seen"]
        assert {one["delivery"] for one in group["examples"]} <= {row.id for row in rows}
        assert group["examples"][0]["event"]
        assert sum(group["trend"]) == 3

    @pytest.mark.parametrize(
        ("by", "key"),
        [
            ("error_type", "SERVER_ERROR"),
            ("destination", "app"),
            ("fingerprint", "f" * 16),
            ("service", "stripe"),
        ],
    )
    def test_it_groups_by_what_it_is_told(self, by: str, key: str) -> None:
        make_delivery(make_event(make_source("stripe")), make_destination("app"), "failed")
        assert [group["key"] for group in get("/failures", group_by=by)["groups"]] == [key]

    def test_it_groups_by_time(self) -> None:
        now = timezone.now()
        for hours in (0, 3):
            make_delivery(status="failed", tried_at=now - timedelta(hours=hours))
        keys = [group["key"] for group in get("/failures", group_by="time")["groups"]]
        assert len(keys) == 2
        assert keys == sorted(keys, reverse=True)
        assert keys[0].endswith(":00:00Z")

    def test_small_groups_are_left_out(self) -> None:
        stripe = make_source("stripe")
        for _ in range(2):
            make_delivery(make_event(stripe), status="failed")
        make_delivery(status="failed")
        assert [group["key"] for group in get("/failures", min_failure_count=2)["groups"]] == ["stripe"]

    @pytest.mark.parametrize(
        ("field", "value"),
        [("group_by", "mood"), ("min_failure_count", "0"), ("min_failure_count", "x"), ("timeframe", "1y")],
    )
    def test_it_names_a_bad_parameter(self, field: str, value: str) -> None:
        assert errors(program(READ).get(f"{ROOT}/failures", {field: value})) == [field]


class TestRefusals:
    """``GET /refusals``."""

    def test_it_lists_them_newest_first_page_by_page(self) -> None:
        now = timezone.now()
        for number in range(5):
            Refusal.objects.create(
                at=now, source=f"s{number}", code="too_old", size=number, sha256=b"\1" * 32, last_at=now, count=2
            )
        first = get("/refusals", limit=3)
        second = get("/refusals", limit=3, cursor=first["next_cursor"])
        sources = [row["source"] for page in (first, second) for row in page["refusals"]]
        assert sources == ["s4", "s3", "s2", "s1", "s0"]
        assert second["next_cursor"] is None
        assert first["refusals"][0]["sha256"] == "01" * 32

    def test_it_names_a_bad_cursor(self) -> None:
        assert errors(program(READ).get(f"{ROOT}/refusals", {"cursor": "nope"})) == ["cursor"]


class TestEvents:
    """``GET /events``."""

    def test_it_answers_with_the_names_of_the_contract(self) -> None:
        event = make_event(make_source("stripe"), type="invoice.paid", subject="in_1", message_status="sent")
        make_delivery(event, status="failed")
        make_delivery(event, status="delivered")
        found = get("/events")
        assert found["next_cursor"] is None
        (one,) = found["events"]
        assert (one["id"], one["source"], one["type"], one["status"]) == (
            str(event.id),
            "stripe",
            "invoice.paid",
            "failed",
        )
        assert one["received_at"].endswith("Z")
        assert (one["subject"], one["message_status"], one["duplicates"]) == ("in_1", "sent", 0)
        assert one["deliveries"] == {"failed": 1, "delivered": 1}

    def test_an_event_without_deliveries_is_unrouted(self) -> None:
        make_event()
        assert get("/events")["events"][0]["status"] == "unrouted"

    def test_a_replay_that_arrived_settles_the_status(self) -> None:
        old = make_delivery(status="failed")
        make_delivery(old.event, old.destination, "delivered", lane=Lane.REPLAY)
        assert get("/events")["events"][0]["status"] == "delivered"
        assert get("/events", status="failed")["events"] == []

    def test_pages_hold_each_event_once_newest_first(self) -> None:
        source = make_source()
        made = [str(make_event(source).id) for _ in range(7)]
        seen: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            page = get("/events", limit=3, cursor=cursor)
            seen += [event["id"] for event in page["events"]]
            make_event(source)  # newer ones do not shift the pages
            cursor = page["next_cursor"]
        assert seen == sorted(made, reverse=True)

    def test_a_full_last_page_has_no_next(self) -> None:
        source = make_source()
        for _ in range(3):
            make_event(source)
        assert get("/events", limit=3)["next_cursor"] is None

    @pytest.mark.parametrize(
        "query",
        [
            {"source": "stripe"},
            {"type": "invoice.*"},
            {"status": "failed"},
            {"destination": "app"},
            {"since": "1h"},
            {"q": "cus_1"},
            {"q": "data.customer=cus_1"},
            {"source": "stripe", "type": "*.paid", "status": "failed", "since": "1h", "q": "cus_1"},
        ],
    )
    def test_it_finds_by(self, query: dict[str, str]) -> None:
        wanted = make_event(make_source("stripe"), {"data": {"customer": "cus_1"}}, type="invoice.paid")
        make_delivery(wanted, make_destination("app"), "failed")
        make_event(type="other", received_at=timezone.now() - timedelta(hours=2))
        search.index_some()
        assert [event["id"] for event in get("/events", **query)["events"]] == [str(wanted.id)]

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("status", "broken"),
            ("since", "yesterday"),
            ("until", "x"),
            ("cursor", "!"),
            ("cursor", "é"),
            ("cursor", "AAAA"),
            ("limit", "0"),
            ("limit", "201"),
            ("limit", "x"),
            ("source", "x" * 61),
        ],
    )
    def test_it_names_a_bad_parameter(self, field: str, value: str) -> None:
        assert errors(program(READ).get(f"{ROOT}/events", {field: value})) == [field]

    def test_it_costs_the_same_queries_for_one_and_for_many(self) -> None:
        client, source = program(READ), make_source()
        make_event(source)
        with CaptureQueriesContext(connection) as one:
            client.get(f"{ROOT}/events")
        for _ in range(10):
            make_delivery(make_event(source))
        with CaptureQueriesContext(connection) as many:
            client.get(f"{ROOT}/events")
        assert len(many) <= len(one)


class TestEvent:
    """``GET /events/{id}``."""

    def test_it_tells_all_about_an_event(self) -> None:
        event = make_event(
            make_source("stripe"),
            {"id": "evt_1", "customer": {"email": "anna@example.org", "plan": "gold"}},
            headers=[("content-type", "application/json"), ("stripe-signature", "t=1,v1=abcdef")],
            verification={"scheme": "Stripe-Signature v1"},
        )
        delivery = make_delivery(event, make_destination("app"), "failed")
        make_attempt(delivery)
        make_attempt(delivery, ok=True)
        found = get(f"/events/{event.id}")
        assert (found["id"], found["source"], found["status"]) == (str(event.id), "stripe", "failed")
        assert found["verification"] == {"scheme": "Stripe-Signature v1"}
        assert "gold" in found["payload"]
        assert found["masked"] == ["customer.email"]
        assert ["content-type", "application/json"] in found["headers"]
        (one,) = found["deliveries"]
        assert (one["id"], one["destination"], one["status"]) == (delivery.id, "app", "failed")
        assert (one["lane"], one["priority"], one["next_attempt_at"]) == ("live", "normal", None)
        assert [attempt["number"] for attempt in one["attempts"]] == [1, 2]
        assert one["attempts"][0]["response_body"] == "no such thing"
        assert one["attempts"][0]["timings"]["total"] == 12.5

    def test_personal_data_and_signatures_do_not_leave(self) -> None:
        event = make_event(
            data={"email": "anna@example.org", "note": "call bert@example.org"},
            headers=[("stripe-signature", "t=1,v1=abcdef0123456789"), ("authorization", "Bearer abcdef0123")],
        )
        text = program(READ).get(f"{ROOT}/events/{event.id}").content.decode()
        assert not [word for word in ("anna@", "bert@", "abcdef0123") if word in text]

    def test_an_erased_event_has_no_payload(self) -> None:
        event = make_event(sealed=None, erased_at=timezone.now())
        found = get(f"/events/{event.id}")
        assert (found["payload"], found["headers"]) == (None, None)
        assert found["erased_at"]

    @pytest.mark.parametrize("name", [SOME, "1", "x", "é", "a" * 500])
    def test_it_knows_no_other_event(self, name: str) -> None:
        problem(program(READ).get(f"{ROOT}/events/{name}"), 404)


class TestReplayOne:
    """``POST /replay/{id}``."""

    def test_it_sends_an_event_again(self) -> None:
        old = make_delivery(status="failed")
        response = post(f"/replay/{old.event_id}", {"max_retries": 2, "reason": "it was down"})
        assert response.status_code == 202, response.content
        found = response.json()
        new = Delivery.objects.get(replay_id=found["id"])
        assert (new.replay_of, new.max_tries) == (old.id, 2)
        assert (found["job"], found["status"], found["made"]) == (found["id"], "done", 1)
        assert found["delivery_ids"] == [new.id]
        assert found["deliveries"] == {"pending": 1}
        assert found["created_by"].startswith("token:")
        assert AuditEntry.objects.get(action="replay.start").reason == "it was down"

    def test_it_tries_three_times_when_not_told(self) -> None:
        old = make_delivery(status="failed")
        response = program(REPLAY).generic("POST", f"{ROOT}/replay/{old.event_id}")  # no body at all
        assert response.status_code == 202, response.content
        assert response.json()["max_retries"] == 3
        assert Delivery.objects.get(replay__isnull=False).max_tries == 3

    def test_it_repeats_one_delivery_by_its_number(self) -> None:
        event = make_event()
        wanted = make_delivery(event, status="failed")
        make_delivery(event, status="failed")
        response = post(f"/replay/{wanted.id}")
        assert response.status_code == 202
        assert Delivery.objects.get(replay__isnull=False).replay_of == wanted.id

    def test_it_sends_to_another_destination(self) -> None:
        old, other = make_delivery(status="delivered"), make_destination("other")
        response = post(f"/replay/{old.event_id}", {"destination": "other"})
        assert response.status_code == 202
        assert response.json()["destination"] == "other"
        assert Delivery.objects.get(replay__isnull=False).destination == other

    def test_what_is_delivered_goes_by_force_only(self) -> None:
        old = make_delivery(status="delivered")
        found = problem(post(f"/replay/{old.event_id}"), 409)
        assert "force_retry" in found["detail"]
        assert found["skipped"] == {"delivered": 1}
        assert post(f"/replay/{old.event_id}", {"force_retry": True}).status_code == 202

    @pytest.mark.parametrize("name", [SOME, "1", "99999999999999999999", "x", "é"])
    def test_it_knows_no_other_event(self, name: str) -> None:
        problem(post(f"/replay/{name}"), 404)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("max_retries", 0),
            ("max_retries", 6),
            ("max_retries", "many"),
            ("max_retries", None),
            ("force_retry", "perhaps"),
            ("destination", "nowhere"),
            ("destination", "a\x00"),
            ("reason", "x" * 501),
            ("speed", 1),
        ],
    )
    def test_it_names_a_bad_parameter(self, field: str, value: Any) -> None:
        old = make_delivery(status="failed")
        assert errors(post(f"/replay/{old.event_id}", {field: value})) == [field]
        assert Delivery.objects.count() == 1

    def test_a_dry_run_tells_what_would_go(self) -> None:
        old = make_delivery(status="failed", destination=make_destination("app"))
        response = post(f"/replay/{old.event_id}", {"dry_run": True})
        assert response.status_code == 200
        found = response.json()
        assert (found["total"], found["would_go"], found["skipped"]) == (1, 1, {})
        assert found["examples"][0]["destination"] == "app"
        assert post(f"/replay/{old.id}", {"dry_run": True}).json()["would_go"] == 1
        assert Delivery.objects.count() == 1

    def test_the_same_key_replays_once(self) -> None:
        old, client = make_delivery(status="failed"), program(REPLAY)
        first = post(f"/replay/{old.event_id}", {}, client, "k")
        again = post(f"/replay/{old.event_id}", {}, client, "k")
        assert (first.status_code, again.status_code) == (202, 202)
        assert first.json() == again.json()
        assert Replay.objects.count() == 1

    def test_the_same_key_for_something_else_is_a_conflict(self) -> None:
        client, one, other = program(REPLAY), make_delivery(status="failed"), make_delivery(status="failed")
        assert post(f"/replay/{one.event_id}", {}, client, "k").status_code == 202
        problem(post(f"/replay/{one.event_id}", {"max_retries": 1}, client, "k"), 409)
        problem(post(f"/replay/{other.event_id}", {}, client, "k"), 409)
        assert Replay.objects.count() == 1

    def test_a_refusal_does_not_use_a_key_up(self) -> None:
        old, client = make_delivery(status="pending"), program(REPLAY)
        problem(post(f"/replay/{old.event_id}", {}, client, "k"), 409)
        Delivery.objects.update(status="failed")
        assert post(f"/replay/{old.event_id}", {}, client, "k").status_code == 202

    def test_it_names_a_bad_key(self) -> None:
        old = make_delivery(status="failed")
        assert errors(post(f"/replay/{old.event_id}", {}, key="x" * 256)) == ["Idempotency-Key"]

    def test_too_many_have_to_wait(self, settings: Any) -> None:
        settings.API_REPLAYS_PER_MINUTE = 2
        client = program(REPLAY)
        for _ in range(2):
            assert post(f"/replay/{SOME}", {}, client).status_code == 404
        response = post(f"/replay/{SOME}", {}, client)
        problem(response, 429)
        assert int(response["Retry-After"]) > 0

    @pytest.mark.django_db(transaction=True)
    def test_many_at_once_with_one_key_make_one_replay(self) -> None:
        old, text = make_delivery(status="failed"), token(REPLAY)
        answers: list[tuple[int, str]] = []

        def ask() -> None:
            response = post(f"/replay/{old.event_id}", {}, with_token(text), "k")
            answers.append((response.status_code, response.json()["id"]))
            connection.close()

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert answers == [(202, str(Replay.objects.get().id))] * 8
        assert Delivery.objects.filter(replay__isnull=False).count() == 1


class TestReplayMany:
    """``POST /replay`` and what one can do to a job."""

    def failed(self, count: int = 3) -> list[Delivery]:
        source, app = make_source("stripe"), make_destination("app")
        return [make_delivery(make_event(source), app, "failed") for _ in range(count)]

    def test_a_filter_makes_a_job(self) -> None:
        rows = self.failed()
        make_delivery(status="delivered")
        response = post("/replay", {"since": "1h", "per_second": 2, "reason": "an outage"})
        assert response.status_code == 202, response.content
        found = response.json()
        assert (found["status"], found["total"], found["made"], found["progress"]) == ("running", 3, 0, 0.0)
        for second in range(1, 4):
            replaying.run_due(timezone.now() + timedelta(seconds=second))
        found = get(f"/replay/{found['job']}")
        assert (found["status"], found["made"], found["deliveries"]) == ("done", 3, {"pending": 3})
        assert {row.replay_of for row in Delivery.objects.filter(replay__isnull=False)} == {row.id for row in rows}

    def test_ids_go_at_once(self) -> None:
        first, second, _third = self.failed()
        response = post("/replay", {"ids": [first.id, str(second.event_id)]})
        assert response.status_code == 202, response.content
        assert (response.json()["status"], response.json()["made"]) == ("done", 2)

    def test_it_filters(self) -> None:
        self.failed()
        make_delivery(status="failed")
        for body in ({"source": "stripe"}, {"from_destination": "app"}, {"source": "stripe", "type": "pay*"}):
            assert post("/replay", body | {"dry_run": True}).json()["would_go"] == 3
        assert post("/replay", {"category": "SERVER_ERROR", "dry_run": True}).json()["would_go"] == 4

    def test_delivered_ones_go_by_force_only(self) -> None:
        make_delivery(status="delivered")
        body = {"status": "delivered", "since": "1h", "dry_run": True}
        assert post("/replay", body).json()["skipped"] == {"delivered": 1}
        assert post("/replay", body | {"force_retry": True}).json()["would_go"] == 1

    def test_nothing_that_matches_is_a_conflict(self) -> None:
        problem(post("/replay", {"since": "1h"}), 409)
        problem(post("/replay", {"ids": [1]}), 404)

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({}, "since"),
            ({"since": "yesterday"}, "since"),
            ({"since": "1h", "status": "broken"}, "status"),
            ({"since": "1h", "status": "unrouted"}, "status"),
            ({"since": "1h", "max_retries": 9}, "max_retries"),
            ({"since": "1h", "per_second": 0}, "per_second"),
            ({"since": "1h", "per_second": 1e9}, "per_second"),
            ({"since": "1h", "destination": "nowhere"}, "destination"),
            ({"ids": []}, "ids"),
            ({"ids": [1], "since": "1h"}, "ids"),
            ({"ids": list(range(501))}, "ids"),
        ],
    )
    def test_it_names_a_bad_parameter(self, body: Any, field: str) -> None:
        assert errors(post("/replay", body)) == [field]

    def test_a_job_can_be_paused_resumed_and_cancelled(self) -> None:
        self.failed()
        job = post("/replay", {"since": "1h"}).json()["job"]
        for verb, status in (("pause", "paused"), ("resume", "running"), ("cancel", "cancelled")):
            response = post(f"/replay/{job}/{verb}", {"reason": "so"})
            assert (response.status_code, response.json()["status"]) == (200, status)
        problem(post(f"/replay/{job}/resume"), 409)
        actions = list(AuditEntry.objects.filter(target=f"replay:{job}").values_list("action", flat=True))
        assert sorted(actions) == ["replay.cancel", "replay.pause", "replay.resume", "replay.start"]

    def test_it_knows_no_other_job(self) -> None:
        for name in (str(uuid.uuid4()), "x", "17"):
            problem(program(READ).get(f"{ROOT}/replay/{name}"), 404)
            problem(post(f"/replay/{name}/pause"), 404)

    def test_it_knows_no_other_verb(self) -> None:
        assert errors(post(f"/replay/{SOME}/explode")) == ["verb"]

    def test_the_same_key_starts_one_job(self) -> None:
        self.failed()
        client = program(REPLAY)
        first, again = (post("/replay", {"since": "1h"}, client, "k").json()["job"] for _ in range(2))
        assert first == again
        assert Replay.objects.count() == 1


class TestPublish:
    """``POST /publish``."""

    def publish(self, body: Any, client: Client | None = None, key: str = "") -> Any:
        return post("/publish", body, client or program(PUBLISH), key)

    def test_it_stores_and_routes_an_event(self) -> None:
        make_route(make_source(PUBLISHED, provider=PUBLISHED, secrets=()), make_destination(), ["order.*"])
        response = self.publish({"type": "order.paid", "data": {"id": "ord_1"}, "idempotency_key": "k"})
        assert response.status_code == 202, response.content
        found = response.json()
        assert (found["created"], found["duplicate"], found["deliveries"]) == (True, False, 1)
        event = Event.objects.get(id=found["id"])
        assert (event.type, event.subject) == ("order.paid", "ord_1")
        assert Delivery.objects.get().event_id == event.id

    @pytest.mark.parametrize("by_header", [True, False])
    def test_the_same_key_gives_the_first_event(self, by_header: bool) -> None:
        client = program(PUBLISH)
        body = {"type": "order.paid", "data": {}} | ({} if by_header else {"idempotency_key": "k"})
        first = self.publish(body, client, "k" if by_header else "").json()
        again = self.publish(body, client, "k" if by_header else "")
        assert again.status_code == 202
        assert again.json() == first | {"created": False, "duplicate": True}
        assert Event.objects.count() == 1

    def test_the_same_key_for_another_event_is_a_conflict(self) -> None:
        client = program(PUBLISH)
        self.publish({"type": "order.paid", "data": {}}, client, "k")
        problem(self.publish({"type": "order.paid", "data": {"a": 1}}, client, "k"), 409)

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({"data": {}}, "type"),
            ({"type": "", "data": {}}, "type"),
            ({"type": "a b", "data": {}}, "type"),
            ({"type": "x" * 201, "data": {}}, "type"),
            ({"type": 1, "data": {}}, "type"),
            ({"type": "a"}, "data"),
            ({"type": "a", "data": {}, "idempotency_key": "x" * 256}, "idempotency_key"),
            ({"type": "a", "data": {}, "idempotency_key": "other"}, "idempotency_key"),
            ({"type": "a", "data": {}, "priority": "urgent"}, "priority"),
            ({"type": "a", "data": {}, "to": "me"}, "to"),
        ],
    )
    def test_it_names_a_bad_parameter(self, body: Any, field: str) -> None:
        assert errors(self.publish(body, key="k")) == [field]
        assert not Event.objects.exists()

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"type": "a", "data": NaN}'])
    def test_a_body_that_is_none_is_refused(self, body: bytes) -> None:
        response = program(PUBLISH).post(f"{ROOT}/publish", body, content_type="application/json")
        assert response.status_code in (400, 422)
        assert response["Content-Type"] == "application/problem+json"
