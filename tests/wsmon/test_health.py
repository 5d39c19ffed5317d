"""``/healthz`` and ``/readyz``."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import pytest
import requests
from django.test import Client
from pytest_django.live_server_helper import LiveServer

from wsmon import health


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    """No answer of an earlier test, and a scheduler that is fine."""
    monkeypatch.setattr(health, "_made", {})
    settings.READINESS_CHECKS = {"scheduler": lambda: (True, "")}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_it_is_alive_without_a_database(client: Client) -> None:
    """pytest-django refuses every query here: none is made."""
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert "no-store" in answer["Cache-Control"]


def test_it_is_alive_for_somebody_with_a_session_cookie_too(client: Client) -> None:
    client.cookies["sessionid"] = "x" * 32
    assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_it_takes_no_post(client: Client, path: str) -> None:
    assert client.post(path).status_code == 405


@pytest.mark.django_db(transaction=True)
def test_it_is_ready_when_everything_is() -> None:
    answer = Client().get("/readyz")
    assert answer.status_code == 200
    found = answer.json()
    assert found["status"] == "ready"
    assert set(found["checks"]) == {"database", "broker", "scheduler"}
    assert all(check["ok"] for check in found["checks"].values())


@pytest.mark.django_db(transaction=True)
def test_it_is_open_to_strangers_over_http(live_server: LiveServer) -> None:
    for path in ("/healthz", "/readyz"):
        assert requests.get(live_server.url + path, timeout=10, allow_redirects=False).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_it_is_not_ready_when_the_scheduler_is_late(settings: Any) -> None:
    settings.READINESS_CHECKS = {"scheduler": lambda: (False, "late by 40 s")}
    answer = Client().get("/readyz")
    assert answer.status_code == 503
    found = answer.json()
    assert found["status"] == "not_ready"
    assert (found["checks"]["scheduler"]["ok"], found["checks"]["scheduler"]["why"]) == (False, "late by 40 s")
    assert found["checks"]["database"]["ok"] is True


@pytest.mark.django_db(transaction=True)
def test_it_keeps_what_an_exception_says_to_itself(settings: Any) -> None:
    def fails() -> tuple[bool, str]:
        raise RuntimeError("host=db.internal password=hunter2")

    settings.READINESS_CHECKS = {"scheduler": fails}
    answer = Client().get("/readyz")
    assert answer.status_code == 503
    assert b"hunter2" not in answer.content
    assert b"internal" not in answer.content
    assert b"RuntimeError" not in answer.content


def test_it_says_so_when_the_database_is_down(monkeypatch: pytest.MonkeyPatch, client: Client) -> None:
    """Without the database mark every query raises, like one to a server that is gone."""
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"]["database"]["why"] == "does not answer"


@pytest.mark.django_db(transaction=True)
def test_it_answers_in_time_when_the_database_hangs(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    hung, started = threading.Event(), []

    def hangs() -> tuple[bool, str]:
        started.append(1)
        hung.wait(30)
        return True, ""

    monkeypatch.setattr(health, "database", hangs)
    monkeypatch.setattr(health, "BUDGET_S", 0.2)
    monkeypatch.setattr(health.look, "__defaults__", (0.2,))
    try:
        for _ in range(5):
            answer = Client().get("/readyz")
            assert answer.status_code == 503
            assert answer.json()["checks"]["database"]["why"] == "no answer within 0.2 s"
            assert answer.json()["checks"]["broker"]["ok"] is True
        assert len(started) == 1, "one thread hangs, not one for each request"
    finally:
        hung.set()


def test_it_recovers_after_a_hang() -> None:
    hung = threading.Event()
    looker = health.Looker("x", lambda: (hung.wait(30), ""))
    first = looker.start()
    assert looker.start() is first
    hung.set()
    assert first.result(timeout=10).ok
    time.sleep(health.FRESH_S)
    assert looker.start() is not first


def test_it_gives_a_fresh_answer_again_to_many_askers() -> None:
    looked = []

    def look() -> tuple[bool, str]:
        looked.append(1)
        return True, ""

    looker = health.Looker("x", look)
    for _ in range(50):
        assert looker.start().result(timeout=10).ok
    assert len(looked) < 10


class TestTheBroker:
    """What CELERY_BROKER_URL points at."""

    def test_it_is_fine_in_process(self, settings: Any) -> None:
        settings.CELERY_BROKER_URL = "memory://"
        assert health.broker() == (True, "in process")

    def test_it_fails_soon_when_nobody_listens(self, settings: Any) -> None:
        settings.CELERY_BROKER_URL = f"redis://:hunter2@127.0.0.1:{free_port()}/0"
        assert health.broker() == (False, "does not answer")

    def test_it_fails_when_somebody_listens_and_says_nothing(self, settings: Any) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            settings.CELERY_BROKER_URL = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
            assert health.broker() == (False, "does not answer")

    @pytest.mark.redis
    def test_it_is_fine_with_a_real_redis(self, settings: Any, redis_url: str) -> None:
        settings.CELERY_BROKER_URL = redis_url
        assert health.broker() == (True, "")
