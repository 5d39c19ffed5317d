"""The store goes away: stopped, frozen, slow."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest
from django.db import Error, connection

from monitoring.breakers import CircuitOpen, breaker, store, sync
from monitoring.breakers.guard import Guard
from monitoring.breakers.local import STALE_SECONDS
from monitoring.breakers.machine import Mode
from monitoring.breakers.policy import NEUTRAL, OK
from monitoring.models import Breaker, BreakerMinute, BreakerSlot, BreakerTransition, Service
from tests.monitoring.factories import make_service
from tests.whole import eventually
from wsmon.embedded import Server

pytestmark = pytest.mark.django_db(transaction=True)


def known(**policy: Any) -> Guard:
    make_service("vendor", breaker=policy)
    guard = breaker("vendor")
    eventually(lambda: guard._local.shared, "the store was read")
    return guard


def fail() -> None:
    raise ConnectionRefusedError


def fails(guard: Guard, times: int) -> None:
    for _ in range(times):
        with pytest.raises(ConnectionRefusedError):
            guard.call(fail)


def alone(guard: Guard) -> bool:
    return guard._local._is_alone(time.monotonic())


@contextmanager
def stopped(server: Server) -> Iterator[None]:
    """No PostgreSQL at all."""
    connection.close()
    server.stop()
    try:
        yield
    finally:
        server.start()


@contextmanager
def frozen(server: Server) -> Iterator[None]:
    """A PostgreSQL that accepts connections and answers nothing."""
    assert server.process is not None
    leader = psutil.Process(server.process.pid)
    stuck = [leader, *leader.children(recursive=True)]
    for process in stuck:
        os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in stuck:
            os.kill(process.pid, signal.SIGCONT)


def total(column: str) -> int:
    return sum(BreakerMinute.objects.values_list(column, flat=True))


def test_calls_go_on_and_are_counted_while_postgresql_is_stopped(syncer: sync.Syncer, embedded_database: Server):
    guard = known()
    with stopped(embedded_database):
        eventually(lambda: alone(guard), "it is noticed")
        for _ in range(50):
            guard.call(int)
        fails(guard, 5)
    service = Service.objects.get()
    eventually(lambda: (total("ok"), total("fail")) == (50, 5), "what was counted meanwhile arrives")
    store.force(service.id, Mode.OPEN, "ann", "stop", None)
    eventually(lambda: guard.is_open, "it listens again")
    with pytest.raises(CircuitOpen):
        guard.call(int)


def test_it_opens_by_itself_while_postgresql_is_stopped_and_the_store_opens_when_it_is_back(
    syncer: sync.Syncer, embedded_database: Server
):
    guard = known(policy="counting", recovery_timeout=60)
    with stopped(embedded_database):
        eventually(lambda: alone(guard), "it is noticed")
        fails(guard, 5)
        with pytest.raises(CircuitOpen):
            guard.call(int)
    eventually(lambda: Breaker.objects.filter(state="OPEN").exists(), "the store learns of the failures")
    with pytest.raises(CircuitOpen):
        guard.call(int)
    assert BreakerTransition.objects.count() == 1


def test_how_a_trial_ended_is_told_when_postgresql_is_back(
    syncer: sync.Syncer, embedded_database: Server, monkeypatch: pytest.MonkeyPatch
):
    guard = known(policy="counting", recovery_timeout=0.1, success_threshold=1)
    fails(guard, 5)
    eventually(lambda: Breaker.objects.filter(state="OPEN").exists(), "the store opened it")
    passed = eventually(guard.trial, "a trial is let through")
    with stopped(embedded_database):
        eventually(lambda: not syncer._ears.listening, "it is noticed")
        guard.end(passed, OK)
    eventually(lambda: Breaker.objects.filter(state="CLOSED").exists(), "the trial closed it")


def test_no_call_waits_for_a_postgresql_that_is_frozen(syncer: sync.Syncer, embedded_database: Server):
    guard = known()
    done: list[int] = []
    with frozen(embedded_database):
        caller = threading.Thread(target=lambda: done.extend(guard.call(int) for _ in range(100)))
        caller.start()
        caller.join(5)
        fails(guard, 5)
        eventually(lambda: alone(guard), "it is noticed")
        assert len(done) == 100
        guard.call(int)
    eventually(lambda: (total("ok"), total("fail")) == (101, 5), "what was counted meanwhile arrives")
    assert sum(BreakerSlot.objects.values_list("fail", flat=True)) == 5


def test_a_trial_is_decided_without_a_postgresql_that_is_frozen(syncer: sync.Syncer, embedded_database: Server):
    guard = known(policy="counting", recovery_timeout=0.3, success_threshold=1)
    fails(guard, 5)
    eventually(lambda: Breaker.objects.filter(state="OPEN").exists(), "the store opened it")
    eventually(lambda: not guard._local._opened, "and this process knows")
    with frozen(embedded_database):
        passed = eventually(guard.trial, "it goes on alone")  # refused until then, each time after a moment
        assert passed is not None
        assert passed.alone
        assert guard.trial() is None
    # The place that the store may have given meanwhile is given back: nobody was there to take it.
    eventually(lambda: not alone(guard), "the store is back")
    eventually(lambda: not Breaker.objects.get().trials, "no trial is left behind")
    assert Breaker.objects.get().openings == 1
    eventually(lambda: works(guard), "the next trial is made with the store")
    eventually(lambda: Breaker.objects.get().state == "CLOSED", "and closes it")


def works(guard: Guard) -> bool:
    try:
        return guard.call(int) == 0
    except CircuitOpen:
        return False


def test_a_place_that_is_given_too_late_is_given_back(syncer: sync.Syncer, monkeypatch: pytest.MonkeyPatch):
    guard = known(policy="counting", recovery_timeout=0.1, success_threshold=1)
    fails(guard, 5)
    eventually(lambda: Breaker.objects.filter(state="OPEN").exists(), "the store opened it")
    admit, gave_up, given = store.admit, threading.Event(), threading.Event()

    def slow(service_id: int, token: str, by: str) -> store.Shared | None:
        gave_up.wait(10)
        found = admit(service_id, token, by)
        given.set()
        return found

    monkeypatch.setattr(store, "admit", slow)
    eventually(lambda: guard._local.knock() is None, "it is time for a trial")
    assert guard.trial() is None
    monkeypatch.undo()
    gave_up.set()
    assert given.wait(10)
    eventually(lambda: not Breaker.objects.get().trials, "it is given back")
    assert (Breaker.objects.get().state, Breaker.objects.get().openings) == ("HALF_OPEN", 1)


@pytest.mark.parametrize("problem", [Error("gone"), ValueError("a bug")], ids=["the database's", "its own"])
def test_counts_survive_an_error_in_a_round(syncer: sync.Syncer, monkeypatch: pytest.MonkeyPatch, problem: Exception):
    guard = known(policy="counting", failure_threshold=50)
    refused: list[int] = []

    def broken(*arguments: Any) -> None:
        refused.append(len(arguments))
        raise problem

    with monkeypatch.context() as patch:
        patch.setattr(store, "count", broken)
        patch.setattr(store, "add_to_score", broken)
        fails(guard, 3)
        guard.call(int)
        eventually(lambda: len(refused) >= 2, "it tries and tries again")
    eventually(lambda: Breaker.objects.filter(score=2).exists(), "the score arrives")
    assert (total("ok"), total("fail")) == (1, 3)
    assert sum(BreakerSlot.objects.values_list("fail", flat=True)) == 3


def test_a_service_that_is_deleted_stops_nobody_elses_counts(syncer: sync.Syncer):
    guard = known()
    make_service("other")
    other = breaker("other")
    eventually(lambda: other._local.shared, "the store was read")
    guard.call(int)
    Service.objects.get(slug="vendor").delete()
    other.call(int)
    eventually(lambda: guard._local.shared is None, "it is gone")
    eventually(lambda: total("ok") == 1, "the other's count arrives")
    guard.call(int)


def test_trials_that_ask_again_and_again_keep_no_round_from_being_made(syncer: sync.Syncer):
    """Or nothing would be counted, and this process would think that the store is away."""
    guard = known(policy="counting", recovery_timeout=0.1, success_threshold=1)
    fails(guard, 5)
    eventually(lambda: Breaker.objects.filter(state="OPEN").exists(), "the store opened it")
    mine = eventually(guard.trial, "a trial is let through")
    until = time.monotonic() + STALE_SECONDS + 1
    while time.monotonic() < until:
        assert guard.trial() is None
        time.sleep(0.01)
    assert not alone(guard)
    eventually(lambda: total("rejected") > 50, "refusals are counted")
    guard.end(mine, NEUTRAL)
    eventually(guard.trial, "the next one is let through")
