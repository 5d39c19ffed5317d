"""Svix: whoever sends webhooks through it. The scheme is Standard Webhooks under older header names.

https://docs.svix.com/receiving/verifying-payloads/how-manual
"""

from __future__ import annotations

from dataclasses import replace

from providers.base import Provider
from providers.standardwebhooks import HOOKS

PROVIDER = Provider(
    slug="svix",
    label="Svix",
    kinds={},
    hooks=replace(HOOKS, secrets=("SVIX_WEBHOOK_SECRET",)),
    docs_url="https://docs.svix.com/receiving/introduction",
)
