"""``/api/admin/webhooks`` with any input at all: property tests over what the OpenAPI document declares."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.callers import program
from tests.webhooks.factories import make_delivery, make_destination, make_event, make_source
from webhooks.models import Source
from wsmon import api, callers

ROOT = "/api/admin/webhooks"
FIELDS = ["source", "type", "status", "destination", "since", "until", "q", "cursor", "limit"]
FIELDS += ["webhook_type", "timeframe", "group_by", "min_failure_count"]
WORDS = ["stripe", "failed", "unrouted", "24h", "2026-11-21", "a.*", "*", '"', "#1", "a=b", "=", "service", "1h", "0"]
ANYTHING = st.one_of(
    st.text(max_size=40),
    st.sampled_from(WORDS),
    st.integers().map(str),
    st.lists(st.sampled_from(WORDS)).map(" ".join),
)
NAMES = [
    "force_retry",
    "max_retries",
    "destination",
    "reason",
    "ids",
    "since",
    "q",
    "dry_run",
    "per_second",
    "status",
]
NAMES += ["type", "data", "idempotency_key", "priority"]
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(["app", "1h"])
)
BODIES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), inner, max_size=5)
    ),
    max_leaves=10,
)
QUICK = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

pytestmark = pytest.mark.django_db


def prepare() -> None:
    callers.reset_limits()
    if not Source.objects.filter(slug="stripe").exists():
        make_delivery(make_event(make_source("stripe")), make_destination("app"), "failed")


class TestAnyInput:
    """Whatever is sent, the answer is one that the OpenAPI document declares, and never a 500."""

    @given(
        query=st.dictionaries(st.sampled_from(FIELDS), ANYTHING),
        which=st.sampled_from(["health", "failures", "events", "refusals", "replay"]),
    )
    @QUICK
    def test_it_answers_any_query(self, query: dict[str, str], which: str) -> None:
        prepare()
        response = program("webhooks:read").get(f"{ROOT}/{which}", query)
        declared = api.document()["paths"][f"{ROOT}/{which}"]["get"]["responses"]
        assert response.status_code in declared, response.content
        assert response.status_code < 500, response.content

    @given(
        body=BODIES,
        key=st.text(st.characters(codec="ascii", exclude_characters="\r\n"), max_size=20),
        which=st.sampled_from(["replay", "replay/{target}", "replay/{target}/{verb}", "publish"]),
        target=st.text(min_size=1, max_size=30) | st.integers().map(str) | st.uuids().map(str),
        verb=st.sampled_from(["pause", "resume", "cancel", "x"]),
    )
    @QUICK
    def test_it_answers_any_body(self, body: Any, key: str, which: str, target: str, verb: str) -> None:
        prepare()
        quoted = "".join(f"%{byte:02X}" for byte in target.encode("utf-8", "replace"))
        path = f"{ROOT}/{which}".format(target=quoted, verb=verb)
        client = program("webhooks:replay", "events:publish")
        headers = {"Idempotency-Key": key}
        response = client.post(path, json.dumps(body), content_type="application/json", headers=headers)
        assert response.status_code in (200, 202, 400, 404, 405, 409, 422), response.content
