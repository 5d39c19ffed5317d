"""The story that `make demo` is for: one vendor's outage, from the first failing probe to the last message."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
import requests

from tests.whole import ROOT, Stack, eventually

TOKEN = "demo-bootstrap-token-for-this-test-0002"
OUTAGE = "Twilio answers with errors of its own"

pytestmark = pytest.mark.stack


class Stage:
    """The demo, told what to play, and what came of it."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        found = re.search(r"stand-in vendors on (http://127\.0\.0\.1:\d+)", stack.output())
        assert found, stack.output()
        self.url = found[1]

    def ask(self, path: str) -> Any:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        return requests.get(f"{self.stack.url}/api/admin/{path}", headers=headers, timeout=10).json()

    def tell(self, **wish: Any) -> None:
        said = requests.post(f"{self.url}/control", json=wish, timeout=10)
        assert said.status_code == 200, said.text

    def told(self, incident: int) -> list[tuple[str, str]]:
        """To whom, and what, about an incident; in the order of arrival."""
        messages = requests.get(f"{self.url}/inbox.json", timeout=5).json()["messages"]
        return [(one["to"], one["title"]) for one in messages if f"/incidents/{incident}/" in one["text"]]

    def about(self, words: str) -> list[str]:
        messages = requests.get(f"{self.url}/inbox.json", timeout=5).json()["messages"]
        return [one["title"] for one in messages if words in one["title"]]

    def status(self, service: str) -> str:
        rows = self.ask("integrations/health")["services"]
        return str(next(one["status"] for one in rows if one["service"] == service))

    def incidents(self) -> list[dict[str, Any]]:
        return list(self.ask("incidents?service=twilio")["incidents"])


def play(stage: Stage, number: int) -> dict[str, Any]:
    """Twilio's outage until its incident is judged and admitted and somebody's phone has rung; then it is over."""
    eventually(lambda: stage.status("twilio") == "healthy", "twilio is healthy", within=60)
    stage.tell(vendor="twilio", behaviour="fail")
    eventually(lambda: len(stage.incidents()) == number, "an incident is opened", within=40)
    incident = stage.incidents()[0]["id"]
    rung = ("phone", f"Nobody has acknowledged: {OUTAGE}")
    eventually(lambda: rung in stage.told(incident), "nobody acknowledges, so a phone rings", within=60)
    eventually(lambda: stage.incidents()[0]["admitted_at"], "the vendor admits it", within=90)
    eventually(lambda: stage.incidents()[0]["verdict"] == "theirs", "it is theirs", within=30)
    stage.tell(vendor="twilio", behaviour="well")
    eventually(lambda: stage.incidents()[0]["closed_at"], "the incident is over", within=60)
    over = f"Resolved: {OUTAGE}"
    for name in ("chat", "phone"):
        eventually(lambda name=name: (name, over) in stage.told(incident), f"{name} hears of the end", within=20)  # type: ignore[misc]
    assert stage.told(incident)[:2] == [("chat", OUTAGE), rung]
    assert sorted(stage.told(incident)[2:]) == [("chat", over), ("phone", over)], (
        "one message each, and one at the end"
    )
    found = stage.ask(f"incidents/{incident}")
    assert isinstance(found, dict)
    return found


def delay(incident: dict[str, Any]) -> float:
    """Seconds from the first failing probe to the confirmed failure, which is told at once."""
    began, opened = (datetime.fromisoformat(incident[name]) for name in ("began_at", "opened_at"))
    return (opened - began).total_seconds()


def test_one_outage_is_one_incident_one_message_each_an_escalation_and_an_end(
    make_stack: Callable[..., Stack],
) -> None:
    stack = make_stack({"WSMON_BOOTSTRAP_TOKEN": TOKEN})
    stack.command = [sys.executable, "-m", "demo", "--well"]
    stack.env["WSMON_CONFIG"] = str(ROOT / "demo" / "wsmon.yaml")
    stage = Stage(stack.start())
    eventually(lambda: stage.status("twilio") == "healthy", "twilio is healthy", within=60)
    stage.tell(critical_day=False)
    usual = play(stage, 1)
    texts = [one["text"] for one in usual["timeline"]]
    for words in (
        "Incident opened", "healthy to critical", "Alert sent to chat", "It is Twilio, not us", "The vendor says",
        "Escalated to phone", "The recovery is confirmed", "Told that it is over",
    ):  # fmt: skip
        assert any(words in text for text in texts), f"{words}: {texts}"
    assert {one["key"] for one in usual["evidence"]} >= {"probes", "page", "control"}
    assert usual["confidence"] > 0.7

    stage.tell(critical_day=True)
    saturday = play(stage, 2)
    assert saturday["critical_day"]
    assert not usual["critical_day"]
    assert delay(saturday) < delay(usual)
    assert len(stage.incidents()) == 2
    assert stage.about("breaker is open") == [], "the incident says it already"
    assert stack.stop() == 0
