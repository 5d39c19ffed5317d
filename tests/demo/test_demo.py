"""`make demo` as a person starts it."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any

import pytest
import requests

from tests.whole import ROOT, Stack, eventually

TOKEN = "demo-bootstrap-token-for-this-test-0001"

pytestmark = pytest.mark.stack


def ask(stack: Stack, path: str) -> Any:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    return requests.get(f"{stack.url}/api/admin/{path}", headers=headers, timeout=10).json()


def statuses(stack: Stack) -> dict[str, str]:
    return {one["service"]: one["status"] for one in ask(stack, "integrations/health")["services"]}


def breakers(stack: Stack) -> dict[str, str]:
    return {one["service"]: one["state"] for one in ask(stack, "circuit-breakers/status")["breakers"]}


def calls(stack: Stack) -> dict[str, int]:
    """By service: how many calls its breaker counted."""
    return {one["service"]: one["calls"] for one in ask(stack, "circuit-breakers/metrics")["breakers"]}


def test_within_a_minute_it_shows_everything_and_then_it_recovers(make_stack: Callable[..., Stack]) -> None:
    stack = make_stack({"WSMON_BOOTSTRAP_TOKEN": TOKEN, "STRIPE_SECRET_KEY": "sk_live_not_for_stand_ins"})
    stack.command = [sys.executable, "-m", "demo"]
    stack.env["WSMON_CONFIG"] = str(ROOT / "demo" / "wsmon.yaml")
    stack.start()
    seen: set[str] = set()

    def everything() -> bool:
        found = statuses(stack)
        seen.update(found.values())
        return {"healthy", "degraded", "critical", "error", "not_configured", "paused"} <= seen

    eventually(everything, "one service in each state", within=60)
    control = re.search(r"stand-in vendors on (http://127\.0\.0\.1:\d+)", stack.output())
    assert control, stack.output()
    requests.post(f"{control[1]}/control", json={"vendor": "resend", "behaviour": "fail"}, timeout=5)
    eventually(lambda: breakers(stack)["resend"] == "OPEN", "resend's breaker opens", within=30)
    for vendor in ("resend", "twilio"):
        said = requests.post(f"{control[1]}/control", json={"vendor": vendor, "behaviour": "well"}, timeout=5)
        assert said.status_code == 200
    eventually(lambda: statuses(stack)["resend"] == "healthy", "resend recovers", within=40)
    eventually(lambda: statuses(stack)["twilio"] == "healthy", "twilio recovers", within=40)
    eventually(lambda: breakers(stack)["resend"] == "CLOSED", "resend's breaker closes", within=40)
    eventually(lambda: calls(stack)["stripe"] > 30, "the application's calls are counted", within=90)
    assert statuses(stack)["whatsapp"] == "not_configured"
    assert statuses(stack)["old-site"] == "paused"
    assert "sk_live" not in stack.output()
    assert stack.stop() == 0
