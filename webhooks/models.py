"""Every table of this room; see the modules it is put together from."""

from __future__ import annotations

from webhooks.configmodels import CatalogVersion, Destination, DestinationState, Route, Secret, Source
from webhooks.eventmodels import (
    Attempt,
    Delivery,
    DeliveryCount,
    Event,
    EventCount,
    EventTokens,
    Message,
    Refusal,
)
from webhooks.replaymodels import Erasure, IdempotencyKey, Reconciliation, Replay, TypeRate

__all__ = [
    "Attempt",
    "CatalogVersion",
    "Delivery",
    "DeliveryCount",
    "Destination",
    "DestinationState",
    "Erasure",
    "Event",
    "EventCount",
    "EventTokens",
    "IdempotencyKey",
    "Message",
    "Reconciliation",
    "Refusal",
    "Replay",
    "Route",
    "Secret",
    "Source",
    "TypeRate",
]
