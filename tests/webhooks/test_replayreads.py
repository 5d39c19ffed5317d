"""webhooks/replayreads.py: ``GET /api/admin/webhooks/replay``, and one replay beside it."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tests.callers import person, program
from tests.webhooks.factories import make_delivery, make_destination, make_event, make_source
from webhooks import replaying
from webhooks.filters import Filter
from webhooks.models import Delivery, Replay
from webhooks.replay_schemas import ReplayAnswer, ReplayItem, ReplaysAnswer
from wsmon import api
from wsmon.audit import Actor

URL = "/api/admin/webhooks/replay"
READ = "webhooks:read"
ANNA = Actor.system("anna")

pytestmark = pytest.mark.django_db


def get(**query: Any) -> Any:
    response = program(READ).get(URL, query)
    assert response.status_code == 200, response.content
    return response.json()


def one(**more: Any) -> Replay:
    """What was sent again at once."""
    return replaying.replay_event(make_delivery(status="failed").event.id, actor=ANNA, **more)


def job(count: int = 3, **more: Any) -> Replay:
    """A job over so many failed deliveries."""
    source, app = make_source(), make_destination()
    for _ in range(count):
        make_delivery(make_event(source), app, "failed")
    return replaying.start(Filter.read({"source": source.slug, "status": "failed"}), actor=ANNA, **more)


def test_it_is_empty_before_there_is_anything():
    assert get() == {"replays": [], "next_cursor": None}


def test_it_lists_jobs_and_what_was_sent_at_once_newest_first():
    rows = [one(reason="first"), job(per_second=2, reason="second"), one(destination=make_destination("other"))]
    found = get()["replays"]
    assert [each["id"] for each in found] == [str(row.id) for row in reversed(rows)]
    elsewhere, running, first = found
    assert (first["status"], first["total"], first["made"], first["progress"]) == ("done", 1, 1, 1.0)
    assert (running["status"], running["total"], running["made"], running["progress"]) == ("running", 3, 0, 0.0)
    assert (running["reason"], running["per_second"], running["created_by"]) == ("second", 2.0, "anna")
    assert (elsewhere["destination"], first["destination"]) == ("other", None)
    assert running["job"] == running["id"]
    assert running["finished_at"] is None


def test_one_of_the_list_can_be_asked_for():
    row = one()
    (listed,) = get()["replays"]
    found = program(READ).get(f"{URL}/{listed['job']}").json()
    assert {name: found[name] for name in listed} == listed
    assert found["deliveries"] == {"pending": 1}
    assert found["delivery_ids"] == [Delivery.objects.get(replay=row).id]


def test_pages_hold_each_once_and_those_that_come_meanwhile_move_nothing():
    rows = [one() for _ in range(7)]
    seen: list[str] = []
    cursor = ""
    for length in (3, 3, 1):
        page = get(limit=3, cursor=cursor)
        assert len(page["replays"]) == length
        seen += [each["id"] for each in page["replays"]]
        cursor = page["next_cursor"] or ""
        one()
    assert cursor == ""
    assert seen == [str(row.id) for row in reversed(rows)]


def test_a_full_last_page_has_no_next():
    one(), one()
    assert get(limit=2)["next_cursor"] is None


@pytest.mark.parametrize("status", ["running", "paused", "done", "cancelled"])
def test_it_lists_those_that_are_up_to_something(status: str):
    rows = {"running": job(), "paused": job(), "done": one(), "cancelled": job()}
    replaying.pause(rows["paused"], ANNA)
    replaying.cancel(rows["cancelled"], ANNA)
    (found,) = get(status=status)["replays"]
    assert (found["id"], found["status"]) == (str(rows[status].id), status)


@pytest.mark.parametrize(
    ("field", "value"),
    [("status", "asleep"), ("limit", "0"), ("limit", "201"), ("limit", "x"), ("cursor", "x"), ("cursor", "é")],
)
def test_it_names_a_bad_parameter(field: str, value: str):
    response = program(READ).get(URL, {field: value})
    assert response.status_code == 422
    assert [error["field"] for error in response.json()["errors"]] == [field]


def test_it_costs_the_same_queries_for_one_and_for_many():
    client = program(READ)

    def queries() -> int:
        with CaptureQueriesContext(connection) as asked:
            assert client.get(URL, {"limit": 100}).status_code == 200
        return len(asked)

    one(destination=make_destination("other"))
    queries()  # the first one notes that the token is used
    few = queries()
    for number in range(20):
        one(destination=make_destination(f"other-{number}"))
    assert queries() == few


def test_who_may_read_it():
    assert Client().get(URL).status_code == 401
    assert program("webhooks:replay", "monitoring:read").get(URL).status_code == 403
    assert person("monitoring.view_service").get(URL).status_code == 403
    assert person("webhooks.view_event").get(URL).status_code == 200


def test_the_openapi_document_tells_of_it():
    paths = api.document()["paths"]
    assert {"get", "post"} <= set(paths[URL])
    declared = paths[URL]["get"]
    assert [parameter["name"] for parameter in declared["parameters"]] == ["status", "cursor", "limit"]
    assert declared["responses"][200]["content"]["application/json"]["schema"]["$ref"].endswith("/ReplaysAnswer")


def test_the_examples_are_what_they_are_examples_of():
    schemas = api.document()["components"]["schemas"]
    for schema in (ReplaysAnswer, ReplayAnswer):
        (example,) = schemas[schema.__name__]["examples"]
        assert set(schema.model_validate(example).model_dump()) == set(example)
    assert set(ReplayItem.model_fields) < set(ReplayAnswer.model_fields)


def test_a_cursor_of_nothing_that_exists_is_a_place_all_the_same():
    row = one()
    assert get(cursor=uuid.UUID(int=row.id.int + 1).hex)["replays"][0]["id"] == str(row.id)
    assert get(cursor=uuid.UUID(int=0).hex)["replays"] == []
