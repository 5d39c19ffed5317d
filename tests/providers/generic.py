"""How the tests of generic providers run a probe: options as in wsmon.yaml, a client that may use loopback."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

import providers
from providers.base import HeartbeatFacts, ProbeContext, ProbeOutcome
from tests.servers import LOOPBACK
from wsmon.http import Client

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def run(
    slug: str,
    options: dict[str, Any],
    *,
    kind: str | None = None,
    timeout: float = 2.0,
    client: Client | None = None,
    heartbeat: HeartbeatFacts | None = None,
    now: datetime = NOW,
) -> ProbeOutcome:
    """One probe of ``kind`` (the provider's own name by default), with its options validated."""
    provider = providers.get(slug)
    model = providers.kind(provider, kind or slug).options
    context = ProbeContext(
        http=client or Client(LOOPBACK),
        timeout=timeout,
        now=now,
        options=model.model_validate(options),
        heartbeat=heartbeat,
    )
    return providers.run(provider, kind or slug, context)


def refusal(slug: str, options: dict[str, Any]) -> str:
    """The text with which bad options are refused."""
    with pytest.raises(ValidationError) as caught:
        providers.kind(providers.get(slug), slug).options.model_validate(options)
    return str(caught.value)
