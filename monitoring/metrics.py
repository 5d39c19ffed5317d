"""What this room shows Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import Metric


def collect() -> Iterator[Metric]:
    """Yield every metric of this room."""
    yield from ()
