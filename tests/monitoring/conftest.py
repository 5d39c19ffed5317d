"""What tests of the monitoring core share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.monitoring import fakes


@pytest.fixture
def vendors(monkeypatch: pytest.MonkeyPatch) -> Iterator[fakes.Vendors]:
    """Vendors that do as they are told."""
    yield from fakes.opened(fakes.install(monkeypatch))
