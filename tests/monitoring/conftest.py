"""What tests of the monitoring core share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import connection

from tests.monitoring import fakes


@pytest.fixture
def vendors(monkeypatch: pytest.MonkeyPatch) -> Iterator[fakes.Vendors]:
    """Vendors that do as they are told."""
    yield from fakes.opened(fakes.install(monkeypatch))


@pytest.fixture(autouse=True)
def leave_no_results(request: pytest.FixtureRequest) -> Iterator[None]:
    """Django empties only the tables it manages itself after a test with real transactions."""
    marker = request.node.get_closest_marker("django_db")
    if marker is None or not marker.kwargs.get("transaction"):
        yield
        return
    request.getfixturevalue("transactional_db")
    yield
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE service_health_metrics")
