"""A breaker's local half with a clock and a store of the test's own."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from monitoring.breakers import local
from monitoring.breakers.guard import CircuitOpen, Guard
from monitoring.breakers.local import LocalBreaker
from monitoring.breakers.machine import Mode, State, Window
from monitoring.breakers.policy import Ending, Policy
from monitoring.breakers.store import Counts, Shared

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ROLLING = Policy(min_volume=4, recovery_timeout=30)
COUNTING = Policy("counting", failure_threshold=3, success_threshold=2, recovery_timeout=30)


class Clock:
    """Monotonic time that moves when told to."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now


@dataclass
class Store:
    """What the sync thread is to a breaker: answers as it is told to."""

    clock: Clock
    away: bool = False
    grants: bool | None = True
    asked: list[str] = field(default_factory=list)
    ended: list[tuple[str, Ending]] = field(default_factory=list)
    woken: int = 0
    slow: threading.Event | None = None
    heard: float = float("-inf")

    @property
    def heard_at(self) -> float:
        return self.heard if self.away else self.clock.now

    def leave(self) -> None:
        self.heard, self.away = self.clock.now, True

    def wake(self) -> None:
        self.woken += 1

    def ask(self, _one: LocalBreaker, token: str) -> bool | None:
        self.asked.append(token)
        if self.slow is not None:
            assert self.slow.wait(10)
        return self.grants

    def end(self, _one: LocalBreaker, token: str, ending: Ending) -> threading.Event:
        self.ended.append((token, ending))
        known = threading.Event()
        known.set()
        return known


class Process:
    """A breaker in a process, with a store and a clock of the test's."""

    def __init__(self, clock: Clock, policy: Policy = ROLLING) -> None:
        self.clock, self.policy, self.store = clock, policy, Store(clock)
        self.local = LocalBreaker("vendor", self.store)
        self.guard = Guard(self.local)

    def learn(self, state: State | None = None, window: Window | None = None, **more: Any) -> None:
        """The store says this."""
        shared = Shared(1, "vendor", state or State(), window or Window(), self.policy, 1.0, NOW)
        self.local.learn(replace(shared, **more), self.clock.now)

    def fails(self, times: int) -> None:
        for _ in range(times):
            with pytest.raises(ZeroDivisionError):
                self.guard.call(lambda: 1 / 0)

    def works(self, times: int = 1) -> None:
        for _ in range(times):
            assert self.guard.call(lambda: "yes") == "yes"

    def refuses(self) -> bool:
        try:
            self.guard.call(lambda: None)
        except CircuitOpen:
            return True
        return False

    def counts(self) -> Counts:
        """All that it would write now."""
        total = Counts()
        for one in self.local.take():
            total = local._sum(total, one.counts)
        return total


def is_open(**more: Any) -> State:
    return State(Mode.OPEN, 1, NOW, opened_at=NOW, openings=1, open_for=30.0, **more)


def interrupt() -> None:
    raise KeyboardInterrupt
