"""What tests of notifications share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.monitoring.notifications.factories import Sink


@pytest.fixture
def sink(loopback_targets: None) -> Iterator[Sink]:
    """A receiver that takes everything."""
    with Sink() as server:
        yield server
