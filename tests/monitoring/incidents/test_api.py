"""``/api/admin/incidents``: reading, and what programs may do."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitoring.incidents import judging
from monitoring.models import Incident
from tests.callers import person, program
from tests.monitoring.incidents.makers import open_incident, probe, vendor
from wsmon import api, callers

ROOT = "/api/admin/incidents"
READ, ADMIN = "monitoring:read", "monitoring:admin"
pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _no_calls_counted(settings: Any) -> Iterator[None]:
    settings.CONTROL_TARGETS = []
    callers.reset_limits()
    yield
    callers.reset_limits()


def get(path: str = "", **query: Any) -> Any:
    response = program(READ).get(ROOT + path, query)
    assert response.status_code == 200, response.content
    return response.json()


def post(path: str, body: Any = None, client: Any = None) -> Any:
    return (client or program(ADMIN)).post(ROOT + path, body or {}, content_type="application/json")


class TestReading:
    def test_the_list_newest_first(self) -> None:
        old = open_incident(
            vendor("a").service, began_at=timezone.now() - timedelta(days=1), closed_at=timezone.now()
        )
        new = open_incident(vendor("b").service, verdict="theirs", confidence=0.86)
        found = get()
        assert [row["id"] for row in found["incidents"]] == [new.id, old.id]
        assert (found["open"], found["next_cursor"]) == (1, None)
        row = found["incidents"][0]
        assert (row["service"], row["verdict"], row["confidence"]) == ("b", "theirs", 0.86)
        assert (row["error_category"], row["time_to_detect"], row["assignee"]) == ("SERVER_ERROR", 15.0, None)

    def test_filters_and_paging(self) -> None:
        for number in range(5):
            open_incident(vendor(f"s{number}").service)
        seen, cursor = [], None
        while True:
            found = get(limit=2, **({"cursor": cursor} if cursor else {}))
            seen += [row["id"] for row in found["incidents"]]
            cursor = found["next_cursor"]
            if not cursor:
                break
        assert len(set(seen)) == 5
        assert [row["service"] for row in get(service="s3")["incidents"]] == ["s3"]
        assert get(state="closed")["incidents"] == []
        assert get(verdict="ours")["incidents"] == []
        assert len(get(since=(timezone.now() - timedelta(hours=1)).isoformat())["incidents"]) == 5

    @pytest.mark.parametrize(
        ("query", "field"),
        [
            ({"cursor": "x"}, "cursor"), ({"state": "loud"}, "state"), ({"verdict": "x"}, "verdict"),
            ({"limit": 0}, "limit"), ({"since": "x"}, "since"),
        ],
    )  # fmt: skip
    def test_a_wrong_parameter_is_named(self, query: dict[str, Any], field: str) -> None:
        response = program(READ).get(ROOT, query)
        assert response.status_code == 422
        assert response["Content-Type"] == "application/problem+json"
        assert field in [error["field"] for error in response.json()["errors"]]

    def test_one_with_its_evidence_and_timeline(self) -> None:
        probe(vendor(), "hhhccc")
        judging.rejudge()
        found = get(f"/{Incident.objects.get().id}")
        assert found["verdict"] == "theirs"
        assert found["evidence"][0]["key"] == "probes"
        assert "Incident opened: functionality critical" in [line["text"] for line in found["timeline"]]

    def test_one_that_does_not_exist(self) -> None:
        assert program(READ).get(f"{ROOT}/1").status_code == 404
        assert program(READ).get(f"{ROOT}/{10**30}").status_code == 422


class TestActing:
    def test_acknowledging_once(self) -> None:
        incident = open_incident()
        response = post(f"/{incident.id}/acknowledge")
        assert response.status_code == 200
        assert response.json()["acknowledged_by"].startswith("token:")
        again = post(f"/{incident.id}/acknowledge")
        assert again.status_code == 409
        assert again.json()["acknowledged_by"] == response.json()["acknowledged_by"]

    def test_a_note(self) -> None:
        incident = open_incident()
        found = post(f"/{incident.id}/note", {"text": "deploy rolled back"}).json()
        assert (found["timeline"][0]["kind"], found["timeline"][0]["detail"]) == ("note", "deploy rolled back")
        assert post(f"/{incident.id}/note", {"text": "  "}).status_code == 422
        assert post(f"/{incident.id}/note", {"text": "x" * 5000}).status_code == 422
        assert post(f"/{incident.id}/note", {"text": "x", "more": 1}).status_code == 422

    def test_resolving(self) -> None:
        incident = open_incident()
        assert post(f"/{incident.id}/resolve", {"reason": " "}).status_code == 422
        assert post(f"/{incident.id}/resolve").status_code == 422
        found = post(f"/{incident.id}/resolve", {"reason": "fixed"}).json()
        assert found["closed_at"] is not None
        assert post(f"/{incident.id}/resolve", {"reason": "fixed"}).status_code == 409
        assert post(f"/{incident.id}/acknowledge").status_code == 409

    @pytest.mark.parametrize("verb", ["acknowledge", "note", "resolve"])
    def test_one_that_does_not_exist(self, verb: str) -> None:
        assert post(f"/1/{verb}", _body(verb)).status_code == 404

    @pytest.mark.parametrize("verb", ["acknowledge", "note", "resolve"])
    def test_only_those_who_may(self, verb: str) -> None:
        path = f"/{open_incident().id}/{verb}"
        for client, status in (
            (program(READ), 403),
            (program("webhooks:read"), 403),
            (person("monitoring.view_service"), 403),
            (person("monitoring.operate", csrf=True), 403),
            (person("monitoring.operate"), 200),
        ):
            assert post(path, _body(verb), client).status_code == status


def _body(verb: str) -> dict[str, str]:
    return {"note": {"text": "x"}, "resolve": {"reason": "x"}}.get(verb, {})


def test_reading_needs_the_scope() -> None:
    assert program("webhooks:read").get(ROOT).status_code == 403
    assert person("monitoring.view_service").get(ROOT).status_code == 200


@given(
    query=st.dictionaries(
        st.sampled_from(["state", "service", "verdict", "since", "cursor", "limit"]),
        st.one_of(
            st.text(max_size=30), st.integers().map(str), st.sampled_from(["open", "theirs", "1-1", "2026-01-01"])
        ),
    )
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_asked_the_answer_is_declared(query: dict[str, str]) -> None:
    callers.reset_limits()
    response = program(READ).get(ROOT, query)
    declared = api.document()["paths"][ROOT]["get"]["responses"]
    assert response.status_code in {int(status) for status in declared}, response.content
    assert response.status_code < 500
