"""``/api/admin/integrations`` with any input at all: property tests over what the OpenAPI document declares."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitoring.models import Service
from tests.callers import program
from tests.monitoring.factories import make_check, make_service
from wsmon import api, callers

ROOT = "/api/admin/integrations"
READ, ADMIN = "monitoring:read", "monitoring:admin"

pytestmark = pytest.mark.django_db


ANYTHING = st.one_of(
    st.text(max_size=40),
    st.sampled_from(["true", "1h", "stripe", "site", "connectivity", "1000"]),
    st.integers().map(str),
)
BODIES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["connectivity"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["test_type", "timeout_ms", "body", ""]) | st.text(max_size=5), inner, max_size=4
        )
    ),
    max_leaves=8,
)


class TestAnyInput:
    """Whatever is sent, the answer is one that the OpenAPI document declares, and never a 500."""

    @given(
        query=st.dictionaries(
            st.sampled_from(["service", "detailed", "include_history", "timeframe", "include_metrics"]), ANYTHING
        ),
        which=st.sampled_from(["health", "status"]),
    )
    @settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_it_answers_any_query(self, query: dict[str, str], which: str) -> None:
        callers.reset_limits()
        if not Service.objects.exists():
            make_check(make_service("stripe"))
        response = program(READ).get(f"{ROOT}/{which}", query)
        declared = api.document()["paths"][f"{ROOT}/{which}"]["get"]["responses"]
        assert response.status_code in declared
        assert response.status_code < 500

    @given(service=st.text(min_size=1, max_size=30), body=BODIES)
    @settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_it_answers_any_test(self, service: str, body: Any) -> None:
        callers.reset_limits()
        Service.objects.get_or_create(slug="site", defaults={"provider": "http"})
        slug = "".join(f"%{byte:02X}" for byte in service.encode("utf-8", "replace"))
        client = program(ADMIN)
        for name in (slug, "site"):
            response = client.post(f"{ROOT}/test/{name}", json.dumps(body), content_type="application/json")
            assert response.status_code in (400, 404, 405, 409, 422)
            assert response["Content-Type"] == "application/problem+json"
