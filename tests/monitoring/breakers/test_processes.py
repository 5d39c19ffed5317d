"""Real processes that share a breaker."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from monitoring.breakers import breaker, machine, store, sync
from monitoring.breakers.machine import Mode, Trigger
from monitoring.models import Breaker, BreakerMinute, BreakerSlot, BreakerTransition
from tests.monitoring.factories import make_service
from tests.whole import ROOT, eventually

pytestmark = pytest.mark.django_db(transaction=True)

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """A starter of processes that are gone when the test is."""
    made: list[subprocess.Popen[str]] = []

    def one(what: str, number: int = 0, lease: float = machine.LEASE) -> subprocess.Popen[str]:
        database = connection.settings_dict
        words = [database["NAME"], database["HOST"], lease, what, number]
        command = [sys.executable, "-m", "tests.monitoring.breakers.another", *map(str, words)]
        made.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True))
        return made[-1]

    yield one
    for process in made:
        process.kill()
        process.communicate()


def said(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


def transitions() -> list[tuple[str, str]]:
    return list(BreakerTransition.objects.order_by("id").values_list("new", "trigger"))


def open_and_due(**policy: Any) -> None:
    one = make_service("vendor", breaker={"policy": "counting", "recovery_timeout": 0.1, **policy})
    past = timezone.now() - timedelta(minutes=1)
    Breaker.objects.create(
        service=one, state="OPEN", generation=1, since=past, opened_at=past, openings=1, open_for=0.1
    )


def test_trials_of_sixteen_threads_in_four_processes_never_overlap(start: Start):
    open_and_due(success_threshold=1_000_000)
    processes = [start("hammer", 2) for _ in range(4)]
    trials = sorted(tuple(one) for process in processes for one in said(process))
    assert len(trials) > 2
    overlaps = [(before, after) for before, after in itertools.pairwise(trials) if after[0] < before[1]]
    assert overlaps == []
    row = Breaker.objects.get()
    assert (row.state, row.successes) == ("HALF_OPEN", len(trials))
    assert transitions() == [("HALF_OPEN", Trigger.TRIAL)]


def test_failures_that_no_process_could_judge_alone_open_it_in_all(start: Start):
    make_service("vendor", breaker={"min_volume": 20, "recovery_timeout": 60})
    processes = [start("failing", 6) for _ in range(4)]
    assert [said(process) for process in processes] == ["done"] * 4
    assert [said(process) for process in processes] == [True] * 4
    assert transitions() == [("OPEN", Trigger.THRESHOLD)]
    assert sum(BreakerSlot.objects.filter(generation=0).values_list("fail", flat=True)) == 24


def test_a_trial_whose_process_is_killed_counts_as_failed_and_another_is_made(
    start: Start, syncer: sync.Syncer, monkeypatch: pytest.MonkeyPatch
):
    open_and_due(success_threshold=1)
    monkeypatch.setattr(machine, "LEASE", 1.0)
    holder = start("hold", lease=1.0)
    assert said(holder) is True
    eventually(lambda: Breaker.objects.get().trials, "the store knows of the trial")
    guard = breaker("vendor")
    eventually(lambda: guard.is_open, "this process knows, too")
    first = Breaker.objects.get().trials[0]["until"]
    eventually(lambda: Breaker.objects.get().trials[0]["until"] != first, "its process renews it")
    assert guard.trial() is None
    holder.kill()
    eventually(lambda: ("OPEN", Trigger.TRIAL_LOST) in transitions(), "its lease ran out")
    passed = eventually(guard.trial, "another trial is let through")
    guard.end(passed, sync.NEUTRAL)
    assert Breaker.objects.get().openings == 2


def test_a_child_learns_what_its_parent_would_and_its_counts_arrive(start: Start):
    one = make_service("vendor")
    parent = start("fork", 3)
    assert said(parent) == "forked"
    store.force(one.id, Mode.OPEN, "ann", "stop", None)
    assert said(parent) == 0
    parent.wait(20)
    assert sum(BreakerMinute.objects.values_list("ok", flat=True)) == 5


def test_a_program_that_ends_at_once_is_counted(start: Start):
    make_service("vendor")
    assert start("short", 4).wait(20) == 0
    assert sum(BreakerMinute.objects.values_list("ok", flat=True)) == 4


def test_a_program_that_ends_gives_its_trials_back(syncer: sync.Syncer):
    open_and_due(success_threshold=1)
    guard = breaker("vendor")
    eventually(lambda: guard.is_open, "this process knows")
    eventually(guard.trial, "it gets the trial")
    syncer.stop()
    row = Breaker.objects.get()
    assert (row.state, row.trials) == ("HALF_OPEN", [])
