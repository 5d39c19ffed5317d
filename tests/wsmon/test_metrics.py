"""``/metrics``: who may scrape, in which format, and how often the rooms are asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest import mock

import pytest
import requests
from django.db import OperationalError
from django.test import Client
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse
from pytest_django.live_server_helper import LiveServer

from tests.callers import person, program, token
from wsmon import callers, metrics

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    for forget in (metrics.kept.clear, callers.reset_limits):
        forget()
    yield
    metrics.kept.clear()


def one() -> Iterator[GaugeMetricFamily]:
    """A room's collector."""
    yield GaugeMetricFamily("room_size", "How large.", value=42)


def test_it_is_not_for_strangers() -> None:
    response = Client().get("/metrics")
    assert response.status_code == 401
    assert response["Content-Type"] == "application/problem+json"
    assert response["WWW-Authenticate"].startswith("Bearer")


def test_it_needs_the_scope_or_the_permission() -> None:
    assert program("monitoring:admin").get("/metrics").status_code == 403
    assert person().get("/metrics").status_code == 403
    assert program("monitoring:read").get("/metrics").status_code == 200
    assert person("monitoring.view_service").get("/metrics").status_code == 200


@pytest.mark.parametrize("method", ["post", "put", "delete"])
def test_it_can_only_be_read(method: str) -> None:
    response = getattr(program("monitoring:read"), method)("/metrics")
    assert (response.status_code, response["Allow"]) == (405, "GET, HEAD")


def test_it_asks_every_room(settings: Any) -> None:
    settings.METRIC_COLLECTORS = [f"{__name__}.one"]
    text = program("monitoring:read").get("/metrics").content.decode()
    families = {family.name: family for family in parse(text)}
    assert families["room_size"].samples[0].value == 42
    assert families["wsmon_build_info"].samples[0].labels["version"]


def test_it_speaks_both_formats() -> None:
    client = program("monitoring:read")
    plain = client.get("/metrics")
    assert plain["Content-Type"].startswith("text/plain; version=")
    assert list(parse(plain.content.decode()))
    wanted = "application/openmetrics-text; version=1.0.0"
    modern = client.get("/metrics", headers={"accept": wanted})
    assert modern["Content-Type"].startswith("application/openmetrics-text")
    assert list(parse_openmetrics(modern.content.decode()))  # type: ignore[no-untyped-call]


def test_it_asks_the_database_once_for_many_scrapes() -> None:
    client = program("monitoring:read")
    with mock.patch.object(metrics._Rooms, "collect", side_effect=lambda: iter(())) as collect:
        for _ in range(5):
            assert client.get("/metrics").status_code == 200
    assert collect.call_count == 1


def test_it_makes_one_text_for_scrapes_at_the_same_time() -> None:
    made, slow = [], threading.Event()

    def make() -> bytes:
        made.append(1)
        slow.wait(0.2)
        return b"x"

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: metrics.kept.get("text", make), range(8))) == {b"x"}
    assert len(made) == 1


def test_it_says_nothing_of_the_inside_when_it_fails() -> None:
    client = program("monitoring:read")
    for error, status in [(OperationalError("db.internal refused"), 503), (RuntimeError("db.internal"), 500)]:
        with mock.patch.object(metrics._Rooms, "collect", side_effect=error):
            response = client.get("/metrics")
        assert response.status_code == status
        assert response["Content-Type"] == "application/problem+json"
        assert b"internal" not in response.content


@pytest.mark.django_db(transaction=True)
def test_it_can_be_scraped_over_http(live_server: LiveServer) -> None:
    headers = {"Authorization": f"Bearer {token('monitoring:read')}"}
    answer = requests.get(f"{live_server.url}/metrics", headers=headers, timeout=10)
    assert answer.status_code == 200
    assert "wsmon_overall_status" in answer.text
    assert requests.get(f"{live_server.url}/metrics", timeout=10, allow_redirects=False).status_code == 401
