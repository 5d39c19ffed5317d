"""docs/breakers.md is right: its yaml applies, its numbers are the code's, and its programs run."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wsmon_breaker
import yaml
from django.utils import timezone

from monitoring.breakers import guard, machine, sync
from monitoring.breakers.api import router
from monitoring.breakers.api_schemas import MOST_OUTCOMES, OutcomesAnswer, OutcomesRequest, TrialRequest
from monitoring.breakers.policy import LONGEST_RETRY_AFTER, Kind, Policy
from monitoring.breakers.store import Shared
from monitoring.breakers.stream import _item
from monitoring.schema import BREAKERS, read_service
from tests.clients.fake import TOKEN, Fake
from tests.monitoring.factories import make_service
from tests.whole import clean_environment, eventually

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "docs" / "breakers.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def block(language: str, holds: str) -> str:
    (found,) = [one for one in blocks(language) if holds in one]
    return found


# What it says of the code ------------------------------------------------------------------------


def services() -> Iterator[tuple[str, Any]]:
    for text in blocks("yaml"):
        for written in (text, text.replace("# slow_over", "slow_over").replace("# ignore_status", "ignore_status")):
            yield from yaml.safe_load(written)["services"].items()


def test_its_yaml_applies() -> None:
    for name, data in services():
        spec, findings = read_service(name, data)
        assert findings == []
        assert spec is not None


def test_its_yaml_names_every_parameter_with_its_default() -> None:
    named: dict[str, set[str]] = {}
    for _name, data in services():
        named.setdefault(data["breaker"]["policy"], set()).update(data["breaker"])
    shared = {"slow_over", "ignore_status"}
    assert {policy: keys | shared for policy, keys in named.items()} == {
        policy: set(entry.model_fields) for policy, entry in BREAKERS.items()
    }
    for text in blocks("yaml"):
        ((name, data),) = yaml.safe_load(text)["services"].items()
        spec, _findings = read_service(name, data)
        assert spec is not None
        assert Policy.of(spec.breaker) == Policy.of({"policy": data["breaker"]["policy"]})


def median_calls(rate: float) -> int:
    """After how many calls half of all breakers of the counting policy have opened, exactly."""
    threshold = Policy().failure_threshold
    at, opened, calls = [1.0] + [0.0] * (threshold - 1), 0.0, 0
    while opened < 0.5:
        calls += 1
        after = [0.0] * threshold
        for score, share in enumerate(at):
            up, down = machine.Fold().then(ok=False), machine.Fold().then(ok=True)
            if up.apply(score)[0] >= threshold:
                opened += share * rate
            else:
                after[up.apply(score)[0]] += share * rate
            after[down.apply(score)[0]] += share * (1 - rate)
        at = after
    return calls


def test_its_random_walk_is_the_policys() -> None:
    rows = dict(re.findall(r"^\| (all|\d+%) \| (\d+) calls \|$", TEXT, re.MULTILINE))
    rates = {"all": 1.0, "50%": 0.5, "30%": 0.3}
    assert {share: int(calls) for share, calls in rows.items()} == {
        share: median_calls(rate) for share, rate in rates.items()
    }
    assert f"after a median of {rows['30%']} calls" in TEXT


@pytest.mark.parametrize(
    ("status", "kind"),
    [(500, "fail"), (503, "fail"), (408, "fail"), (425, "fail"), (429, "limited"), (401, "credential"),
     (403, "credential"), (404, "neutral"), (402, "neutral"), (499, "neutral"), (200, "ok")],
)  # fmt: skip
def test_its_table_of_statuses_is_the_policys_and_the_clients(status: int, kind: str) -> None:
    assert Policy().of_status(status).kind == Kind(kind)

    class Answer:
        status_code = status

    ok = {"ok": True, "neutral": None}.get(kind, False)
    assert wsmon_breaker.of_answer(Answer(), wsmon_breaker.Policy()).ok is ok


def test_its_times_are_the_codes() -> None:
    assert (machine.LEASE, machine.LONGEST_TRIAL, LONGEST_RETRY_AFTER, MOST_OUTCOMES) == (10, 120, 3600, 1000)
    assert (wsmon_breaker.POLL, wsmon_breaker.ASK, wsmon_breaker.SILENCE) == (15, 0.5, 25)
    assert (wsmon_breaker.QUIET, wsmon_breaker.FAILING) == (1, 0.25)


def test_its_client_has_the_policys_defaults() -> None:
    ours, theirs = Policy(), wsmon_breaker.Policy()
    for name, value in theirs._asdict().items():
        assert tuple(getattr(ours, name)) == value if name == "ignore_status" else getattr(ours, name) == value


def test_its_list_of_an_events_fields_is_the_streams() -> None:
    item = _item(Shared(1, "stripe", machine.State(), machine.Window(), Policy(), 1.0, timezone.now()))
    said = TEXT.partition("one `breaker` for each change")[2].partition(". A comment")[0]
    assert set(re.findall(r"`(\w+)`", said)) == set(item)


def test_its_requests_exist_and_their_bodies_are_taken() -> None:
    paths = {*router.path_operations, "/stream"}
    text = block("sh", "API=")
    for path in re.findall(r'"\$API(/[\w/]+)', text + block("sh", "-sN")):
        assert path.replace("/stripe", "/{service}") in paths
    bodies = [json.loads(body) for body in re.findall(r"-d '(.*?)'", text)]
    assert len(bodies) == 3
    for body in bodies:
        TrialRequest(**body) if body == {} else OutcomesRequest(**body)
    said = TEXT.partition("An answer to outcomes is `")[2].partition("`")[0]
    assert set(re.findall(r'"(\w+)"', said)) == set(OutcomesAnswer.model_fields)


# Its programs ------------------------------------------------------------------------------------


@pytest.fixture
def fake() -> Iterator[Fake]:
    made = Fake("stripe")
    yield made
    made.stop()


@pytest.mark.django_db(transaction=True)
def test_its_program_inside_wsmon_runs() -> None:
    make_service("stripe")
    names: dict[str, Any] = {}
    try:
        exec(block("python", "from monitoring.breakers"), names)
        assert names["charge"](lambda amount: amount) == 100
    finally:
        sync.syncer.stop()
        sync.syncer.breakers.clear()
        sync.syncer.forget()
        guard._plain.clear()


def test_its_python_program_runs(fake: Fake) -> None:
    text = block("python", "from wsmon_breaker")
    names: dict[str, Any] = {}
    exec(text.replace("https://wsmon.example", fake.url).replace("wsm_...", TOKEN), names)
    breakers = names["breakers"]

    async def fine() -> str:
        return "fine"

    try:
        eventually(lambda: fake.streams == 1, "the stream")
        assert names["charge"](lambda amount: amount) == 100
        assert names["recent_charges"]() == [1, 2, 3]
        assert asyncio.run(names["later"](fine)) == "fine"
        eventually(lambda: fake.count("stripe", ok=True) == 3, "they are told")
        fake.say("stripe", "OPEN", 30)
        eventually(lambda: breakers("stripe").is_open, "it is open")
        assert names["charge"](pytest.fail) in ("again in 30 s", "again in 29 s")
        assert names["recent_charges"]() == []
    finally:
        breakers.close()


@pytest.mark.node
def test_its_node_program_runs(fake: Fake, tmp_path: Path) -> None:
    (tmp_path / "wsmon-breaker.mjs").write_text((ROOT / "clients/node/wsmon-breaker.mjs").read_text())
    text = block("js", "wsmon-breaker.mjs").replace("https://wsmon.example", fake.url).replace("wsm_...", TOKEN)
    text = text.replace('fetch("https://api.stripe.com/v1/charges")', "({ status: 200 })")
    (tmp_path / "program.mjs").write_text(text)
    done = subprocess.run(
        ["node", "program.mjs"],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("{ status: 200 } false\n", "")
    assert fake.count("stripe", ok=True) == 1
