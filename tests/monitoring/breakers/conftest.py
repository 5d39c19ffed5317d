from __future__ import annotations

from collections.abc import Iterator

import pytest

from monitoring.breakers import guard, sync


@pytest.fixture
def syncer() -> Iterator[sync.Syncer]:
    """This process's syncer, empty at first and stopped at the end. Needs committed rows: ``transaction=True``."""
    _empty()
    yield sync.syncer
    _empty()


def _empty() -> None:
    sync.syncer.stop()
    sync.syncer.breakers.clear()
    sync.syncer.forget()
    guard._plain.clear()
