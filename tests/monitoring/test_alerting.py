"""monitoring/alerting.py: each part goes on when another one fails."""

from __future__ import annotations

import threading
from datetime import datetime
from types import SimpleNamespace

import pytest

from monitoring import alerting
from wsmon.celery import SCHEDULE


def test_a_part_that_fails_keeps_no_other_back(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def fail(_now: datetime) -> None:
        raise RuntimeError("a bug")

    alerting._run({"first": fail, "second": lambda _now: done.append("second")})
    alerting._run({"first": lambda _now: done.append("first")})
    assert done == ["second", "first"]  # and what failed is not locked


def test_a_part_that_is_still_at_it_is_not_started_again() -> None:
    began, end, runs = threading.Event(), threading.Event(), []

    def slow(_now: datetime) -> None:
        runs.append(1)
        began.set()
        end.wait(10)

    thread = threading.Thread(target=alerting._run, args=[{"slow": slow}])
    thread.start()
    assert began.wait(10)
    alerting._run({"slow": slow})
    end.set()
    thread.join(10)
    assert runs == [1]


def test_the_scheduler_calls_all_three() -> None:
    assert {"monitoring.tasks.alert", "monitoring.tasks.look", "monitoring.tasks.ask"} <= {
        entry["task"] for entry in SCHEDULE.values()
    }


@pytest.mark.django_db(transaction=True)
def test_with_nothing_to_do_every_part_works(monkeypatch: pytest.MonkeyPatch) -> None:
    failed: list[object] = []
    monkeypatch.setattr(alerting, "log", SimpleNamespace(exception=lambda _words, **told: failed.append(told)))
    for parts in (alerting.EACH_SECOND, alerting.EACH_FEW_SECONDS, alerting.EACH_MINUTE):
        alerting._run(parts)
    assert failed == []
