"""The breaker of a destination: its own, or that of the service it names."""

from __future__ import annotations

from webhooks.configmodels import Destination

PREFIX = "destination:"
DEFAULT_POLICY = {"policy": "counting"}
"""A few calls that hang must open it: with a rolling window, and only so many requests at once, none ever would."""


def name_of(destination: Destination) -> str:
    """Under which name ``monitoring.breakers.breaker`` knows it; needs its ``service``."""
    service = destination.service
    return service.slug if service and service.archived_at is None else own_name(destination.slug)


def own_name(slug: str) -> str:
    """The name of a destination's own breaker."""
    return f"{PREFIX}{slug}"
