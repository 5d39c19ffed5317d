"""clients/node/wsmon-breaker.mjs against a fake wsmon: what it tells, and what it makes of what it hears."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.fake import TOKEN, Fake
from tests.whole import ROOT, clean_environment, eventually

pytestmark = pytest.mark.node

BEGIN = """
import { connect, CircuitOpen } from "CLIENT";
const breakers = await connect({ url: process.argv[2], token: process.argv[3] });
const say = (...words) => console.log(JSON.stringify(words));
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const until = async (look) => {
  for (let i = 0; i < 250 && !look(); i += 1) await pause(20);
};
const outcome = (promise) => promise.then((value) => value, (error) => error.name);
const status = (code, headers) => async () => new Response(null, { status: code, headers });
"""
END = "\nawait breakers.close();\n"


@pytest.fixture
def wsmon() -> Iterator[Fake]:
    fake = Fake("stripe")
    yield fake
    fake.stop()


def run(wsmon: Fake, tmp_path: Path, program: str) -> list[Any]:
    """What a program says, line by line."""
    client = (ROOT / "clients/node/wsmon-breaker.mjs").as_uri()
    (tmp_path / "program.mjs").write_text(BEGIN.replace("CLIENT", client) + program + END)
    done = subprocess.run(
        ["node", "program.mjs", wsmon.url, TOKEN],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_it_tells_how_calls_ended_by_the_same_rules(wsmon: Fake, tmp_path: Path) -> None:
    said = run(
        wsmon,
        tmp_path,
        """
for (const code of [200, 204, 404, 402, 401, 429, 503]) await breakers.call("stripe", status(code));
await breakers.call("stripe", status(503, { "Retry-After": "7" }));
const refused = Object.assign(new Error("card declined"), { status: 402 });
say(await outcome(breakers.call("stripe", async () => { throw refused; })));
say(await outcome(breakers.call("stripe", () => { throw new TypeError("fetch failed"); })));
say(await outcome(breakers.call("stripe", () => { throw new DOMException("", "AbortError"); })));
const exclude = (error) => error instanceof RangeError;
say(await outcome(breakers.call("stripe", () => { throw new RangeError(); }, { exclude })));
""",
    )
    assert said == [["Error"], ["TypeError"], ["AbortError"], ["RangeError"]]
    told = [(one["ok"], one["count"], one.get("status"), one.get("retry_after")) for one in wsmon.outcomes("stripe")]
    assert sum(count for ok, count, _status, _wait in told if ok) == 2
    assert [row for row in told if not row[0]] == [
        (False, 1, 401, None),
        (False, 1, 429, None),
        (False, 1, 503, None),
        (False, 1, 503, 7),
        (False, 1, None, None),
    ]


def test_what_counts_neither_way_gives_a_trial_back_and_a_failure_opens_it_again(wsmon: Fake, tmp_path: Path) -> None:
    wsmon.say("stripe", "OPEN", 0)
    said = run(
        wsmon,
        tmp_path,
        """
await breakers.call("stripe", status(404));
say(breakers.isOpen("stripe"));
const both = [breakers.call("stripe", status(500)), outcome(breakers.call("stripe", status(200)))];
say((await both[0]).status, await both[1]);
say(breakers.isOpen("stripe"), await outcome(breakers.call("stripe", status(200))));
""",
    )
    assert said == [[True], [500, "CircuitOpen"], [True, "CircuitOpen"]]
    trials = [(body["trial"], body["outcomes"][0].get("status")) for _name, body in wsmon.reports if "trial" in body]
    assert trials == [("trial-1", 499), ("trial-2", 500)]


def test_the_servers_clock_counts_and_not_its_own(wsmon: Fake, tmp_path: Path) -> None:
    wsmon.ahead = 86_400.0
    wsmon.say("stripe", "OPEN", 30)
    program = """
try { await breakers.call("stripe", status(200)); } catch (error) { say(error.retryIn > 20 && error.retryIn <= 30); }
"""
    assert run(wsmon, tmp_path, program) == [[True]]


def test_it_tells_later_what_wsmon_did_not_take_and_follows_it_again(wsmon: Fake, tmp_path: Path) -> None:
    wsmon.broken = 503

    def repair() -> None:
        wsmon.broken = None
        eventually(lambda: wsmon.streams == 1, "the stream", within=30)
        wsmon.say("stripe", "OPEN", 30)

    timer = threading.Timer(3.0, repair)
    timer.start()
    said = run(
        wsmon,
        tmp_path,
        """
for (let i = 0; i < 3; i += 1) await breakers.call("stripe", status(500));
for (let i = 0; i < 6 && !breakers.isOpen("stripe"); i += 1) await until(() => breakers.isOpen("stripe"));
say(breakers.isOpen("stripe"));
""",
    )
    timer.join()
    assert said == [[True]]
    assert wsmon.count("stripe", ok=False) == 3
    assert all("at" not in one or one["at"].endswith("Z") for one in wsmon.outcomes("stripe"))
