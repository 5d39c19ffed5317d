"""Programs outside of a running wsmon that share its breakers: by the Python file, by Node, and by hand."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests
from wsmon_breaker import Breakers, CircuitOpen, Guard

from tests.whole import ROOT, Stack, clean_environment, eventually

pytestmark = pytest.mark.stack

TOKEN = "a-bootstrap-token-for-tests-5555555555"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
API = "/api/admin/circuit-breakers"
CONFIG = """
services:
  stripe:
    provider: heartbeat
    breaker: {policy: rolling, min_volume: 10, recovery_timeout: 2s}
    checks: [{kind: heartbeat, period: 24h}]
  github:
    provider: heartbeat
    breaker: {policy: counting, failure_threshold: 3, success_threshold: 2, recovery_timeout: 1s}
    checks: [{kind: heartbeat, period: 24h}]
"""
"""A heartbeat says nothing of calls: only the programs' own count."""


@pytest.fixture
def stack(make_stack: Callable[..., Stack]) -> Stack:
    made = make_stack({"WSMON_BOOTSTRAP_TOKEN": TOKEN})
    made.config.write_text(CONFIG)
    return made.start()


@pytest.fixture
def programs(stack: Stack) -> Iterator[tuple[Breakers, Breakers]]:
    """Two programs: nothing is shared between them but wsmon."""
    made = Breakers(stack.url, TOKEN), Breakers(stack.url, TOKEN)
    for breakers in made:
        guards = [breakers(name) for name in ("stripe", "github")]
        eventually(partial(have_heard, guards), "wsmon's first word")
    yield made
    for breakers in made:
        breakers.close()


def have_heard(guards: list[Guard]) -> bool:
    return all(guard._local.word is not None for guard in guards)


def call(stack: Stack, method: str, path: str, **more: Any) -> Any:
    answer = requests.request(method, stack.url + API + path, headers=HEADERS, timeout=10, **more)
    assert answer.status_code < 300, answer.text
    return answer.json()


def state(stack: Stack, name: str) -> dict[str, Any]:
    return dict(call(stack, "GET", f"/status?service={name}")["breakers"][0])


def fine() -> str:
    return "fine"


def fails() -> None:
    raise TimeoutError


def fail(guard: Guard) -> None:
    with pytest.raises(TimeoutError):
        guard.call(fails)


def test_two_programs_open_and_close_a_breaker_together(stack: Stack, programs: tuple[Breakers, Breakers]) -> None:
    one, two = (breakers("stripe") for breakers in programs)
    for guard in (one, two):  # neither saw enough calls to open it alone
        for _ in range(3):
            fail(guard)
        for _ in range(2):
            guard.call(fine)
    eventually(lambda: one.is_open and two.is_open, "both know that it is open", within=5)
    found = state(stack, "stripe")
    assert (found["state"], found["cause"], found["policy"]) == ("OPEN", "outage", "rolling")
    with pytest.raises(CircuitOpen) as refused:
        two.call(fine)
    assert 0 < refused.value.retry_in <= 2
    eventually(lambda: state(stack, "stripe")["calls_rejected"] >= 1, "refusals are counted")

    def passed(guard: Guard) -> bool:
        try:
            return bool(guard.call(fine) == "fine")
        except CircuitOpen:
            return False

    eventually(lambda: passed(two), "the trial", within=30)
    assert not two.is_open
    eventually(lambda: not one.is_open, "the other program knows", within=10)
    assert state(stack, "stripe")["state"] == "CLOSED"


def test_counting_needs_two_trials_of_any_program(stack: Stack, programs: tuple[Breakers, Breakers]) -> None:
    one, two = (breakers("github") for breakers in programs)
    for _ in range(3):
        fail(one)
    eventually(lambda: one.is_open and two.is_open, "both know that it is open", within=5)
    time.sleep(1.2)
    assert one.call(fine) == "fine"
    assert state(stack, "github")["state"] == "HALF_OPEN"
    assert two.call(fine) == "fine"
    assert state(stack, "github")["state"] == "CLOSED"
    eventually(lambda: not one.is_open, "the other program knows", within=10)


def test_a_person_forces_and_resets_it_for_every_program(stack: Stack, programs: tuple[Breakers, Breakers]) -> None:
    guards = [breakers("stripe") for breakers in programs]
    call(stack, "POST", "/force/stripe", json={"state": "OPEN", "reason": "moving", "minutes": 5})
    eventually(lambda: all(guard.is_open for guard in guards), "both know", within=10)
    with pytest.raises(CircuitOpen) as refused:
        guards[0].call(fine)
    assert 290 < refused.value.retry_in <= 300
    call(stack, "POST", "/reset/stripe", json={"reason": "moved"})
    eventually(lambda: not any(guard.is_open for guard in guards), "both know", within=10)


def test_wsmon_stops_and_comes_back_while_programs_go_on(stack: Stack, programs: tuple[Breakers, Breakers]) -> None:
    guard = programs[0]("stripe")
    assert stack.stop(signal.SIGTERM) == 0  # in time, although streams are open
    started = time.monotonic()
    for _ in range(1000):
        assert guard.call(fine) == "fine"
    assert time.monotonic() - started < 10  # a call that waited for wsmon would take half a second, a thousand times
    stack.start()
    eventually(lambda: not programs[0].away, "wsmon is heard again", within=15)
    call(stack, "POST", "/force/stripe", json={"state": "OPEN", "reason": "test", "minutes": 5})
    eventually(lambda: guard.is_open, "the stream is open again", within=40)


def test_an_ordinary_program_needs_the_file_and_nothing_else(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "wsmon_breaker.py").write_text((ROOT / "clients/python/wsmon_breaker.py").read_text())
    program = """
import sys
from wsmon_breaker import Breakers

breakers = Breakers(sys.argv[1], sys.argv[2])
for _ in range(7):
    breakers("stripe").call(int, "1")
"""
    subprocess.run(
        [sys.executable, "-c", program, stack.url, TOKEN],
        cwd=tmp_path,
        env=clean_environment(),
        check=True,
        timeout=30,
    )
    assert state(stack, "stripe")["success_count"] == 7


def test_the_stream_by_hand(stack: Stack) -> None:
    url = stack.url + API + "/stream"
    assert requests.get(url, timeout=10).status_code == 401
    with requests.get(url, headers=HEADERS, timeout=10, stream=True) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        lines = answer.iter_lines(chunk_size=1, decode_unicode=True)
        assert next(line for line in lines if line.startswith("event:")) == "event: breakers"
        items = json.loads(next(lines).removeprefix("data: "))
        assert [item["service"] for item in items] == ["github", "stripe"]
        time.sleep(0.5)  # LISTEN may have begun after the first list
        call(stack, "POST", "/force/github", json={"state": "CLOSED", "reason": "test"})
        assert next(line for line in lines if line == "event: breaker")
        item = json.loads(next(lines).removeprefix("data: "))
        assert (item["service"], item["state"], item["forced"]) == ("github", "CLOSED", "CLOSED")


NODE = """
import {{ connect, CircuitOpen }} from "{client}";

const breakers = await connect({{ url: process.argv[2], token: process.argv[3] }});
const say = (...words) => console.log(JSON.stringify(words));
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const until = async (look, ms = 8000) => {{
  for (const end = Date.now() + ms; Date.now() < end; await pause(20)) if (look()) return true;
  throw new Error(`not in time: ${{look}}`);
}};

say("first", await breakers.call("github", async () => "fine"), breakers.isOpen("github"));
for (let i = 0; i < 3; i += 1) {{
  await breakers.call("github", async () => ({{ status: 503, headers: new Headers() }}));
}}
await until(() => breakers.isOpen("github"));
try {{
  await breakers.call("github", () => say("called"));
}} catch (error) {{
  say("refused", error instanceof CircuitOpen, error.retryIn <= 1);
}}
say("fallback", await breakers.call("github", () => say("called"), {{ fallback: () => "instead" }}));
await pause(1200);
say("trials", await breakers.call("github", () => 1), await breakers.call("github", () => 2));
say("closed", !breakers.isOpen("github"));
say("ready");
await until(() => breakers.isOpen("stripe"));
say("told");
await breakers.close();
"""


@pytest.mark.node
def test_a_program_in_node(stack: Stack, tmp_path: Path) -> None:
    script = tmp_path / "program.mjs"
    script.write_text(NODE.format(client=(ROOT / "clients/node/wsmon-breaker.mjs").as_uri()))
    with subprocess.Popen(
        ["node", str(script), stack.url, TOKEN],
        env=clean_environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(json.loads(line))
            if said[-1] == ["ready"]:
                assert state(stack, "github")["state"] == "CLOSED"
                call(stack, "POST", "/force/stripe", json={"state": "OPEN", "reason": "test"})
        assert process.wait(20) == 0
    assert said == [
        ["first", "fine", False],
        ["refused", True, True],
        ["fallback", "instead"],
        ["trials", 1, 2],
        ["closed", True],
        ["ready"],
        ["told"],
    ]


ALONE = """
import {{ connect }} from "{client}";

const started = Date.now();
const breakers = await connect({{ url: process.argv[2], token: "none" }});
let passed = 0;
let refused = 0;
for (let i = 0; i < 40; i += 1) {{
  try {{
    await breakers.call("stripe", () => {{
      passed += 1;
      throw new Error("down");
    }});
  }} catch (error) {{
    refused += error.name === "CircuitOpen";
  }}
}}
await breakers.close();
console.log(JSON.stringify([passed, refused, Date.now() - started < 5000]));
"""


@pytest.mark.node
def test_a_program_in_node_without_wsmon(tmp_path: Path) -> None:
    script = tmp_path / "alone.mjs"
    script.write_text(ALONE.format(client=(ROOT / "clients/node/wsmon-breaker.mjs").as_uri()))
    found = subprocess.run(
        ["node", str(script), f"http://127.0.0.1:{os.getpid() % 1000 + 1}"],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert json.loads(found.stdout) == [20, 20, True], found.stderr
