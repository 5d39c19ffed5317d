"""The API of a whole wsmon: the bootstrap token, real probes, and a database that freezes."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest
import requests

from tests.whole import Stack, eventually

pytestmark = pytest.mark.stack

TOKEN = "a-bootstrap-token-for-tests-0123456789"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
CONFIG = """
services:
  itself:
    provider: http
    checks:
      - {{kind: http, name: alive, url: "{url}/healthz", interval: 1s, timeout: 1s, confirm_up: 1}}
"""


@pytest.fixture
def stack(make_stack: Callable[..., Stack]) -> Stack:
    """A wsmon that watches itself."""
    made = make_stack({"WSMON_BOOTSTRAP_TOKEN": TOKEN})
    made.config.write_text(CONFIG.format(url=made.url))
    return made.start()


def test_it_answers_with_what_it_really_probed(stack: Stack) -> None:
    root = f"{stack.url}/api/admin/integrations"

    def get(path: str, **query: str) -> Any:
        answer = requests.get(root + path, query, headers=HEADERS, timeout=10)
        assert answer.status_code == 200, answer.text
        return answer.json()

    eventually(lambda: get("/health")["overall_status"] == "healthy", "the service is healthy")
    service = get("/health", detailed="true", include_history="true")["services"][0]
    assert service["service"] == "itself"
    assert service["checks"][0]["http_status"] == 200
    assert service["checks"][0]["timings"]["total"] > 0
    assert service["history"]["changes"]
    metrics = get("/status", timeframe="1h", include_metrics="true")["services"][0]["metrics"]
    assert metrics["uptime"] == 1.0
    assert metrics["p95"] > 0

    tested = requests.post(f"{root}/test/itself", json={"test_type": "connectivity"}, headers=HEADERS, timeout=20)
    assert (tested.status_code, tested.json()["success"]) == (200, True)

    scraped = requests.get(f"{stack.url}/metrics", headers=HEADERS, timeout=10).text
    assert 'wsmon_check_up{check="alive",kind="http",service="itself"} 1.0' in scraped
    assert "wsmon_workers 1.0" in scraped


def test_it_is_not_ready_while_the_database_is_frozen(stack: Stack) -> None:
    def status(path: str) -> int:
        return requests.get(stack.url + path, timeout=4).status_code

    eventually(lambda: status("/readyz") == 200, "wsmon is ready")
    frozen = stack.postgres()
    for process in frozen:
        process.send_signal(signal.SIGSTOP)
    try:
        eventually(lambda: status("/readyz") == 503, "wsmon is not ready", within=8)
        assert status("/healthz") == 200
        found = requests.get(f"{stack.url}/readyz", timeout=4).json()
        assert found["checks"]["database"]["ok"] is False
        assert found["checks"]["broker"]["ok"] is True
    finally:
        for process in frozen:
            process.send_signal(signal.SIGCONT)
    eventually(lambda: status("/readyz") == 200, "wsmon is ready again", within=30)
