from __future__ import annotations

from collections.abc import Iterator

import pytest

from monitoring.breakers import guard, local, sync
from tests.conftest import forget_breakers
from tests.monitoring.breakers.fakes import COUNTING, Clock, Process


@pytest.fixture
def syncer() -> Iterator[sync.Syncer]:
    """This process's syncer, empty at first and stopped at the end. Needs committed rows: ``transaction=True``."""
    forget_breakers()
    yield sync.syncer
    forget_breakers()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    for module in (local, guard):  # their own clock: event loops and locks go on by the real one
        monkeypatch.setattr(module, "time", made)
    return made


@pytest.fixture
def rolling(clock: Clock) -> Process:
    made = Process(clock)
    made.learn()
    return made


@pytest.fixture
def counting(clock: Clock) -> Process:
    made = Process(clock, COUNTING)
    made.learn()
    return made
