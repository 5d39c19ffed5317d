from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from monitoring import claims, cycle, store, variables
from monitoring.claims import Claim
from monitoring.models import CheckState, Credential, Heartbeat, ProbeResult
from monitoring.store import Finished
from providers.base import NotConfigured, ProbeContext, ProbeOutcome
from tests.monitoring.factories import make_check, make_service, outcome
from tests.monitoring.fakes import Vendors, healthy
from wsmon.vocabulary import Category, Outcome

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FAKE_KEY", "PUBLIC_FAKE_KEY"):
        monkeypatch.delenv(name, raising=False)
    variables.forget()


def claimed(provider: str = "fake", kind: str = "ping", **fields: Any) -> Claim:
    check = make_check(make_service(provider=provider), kind, **fields)
    return next(one for one in claims.claim(uuid.uuid4(), 100, {}, 100) if one.check_id == check.id)


def probe(claim: Claim, **changed: Any) -> Finished:
    now = time.monotonic()
    return cycle.probe(claim, changed.get("started", now), changed.get("claimed", now), changed.get("since"))


def test_a_due_check_is_probed_judged_and_stored(vendors: Vendors):
    claim = claimed(options={"target": "t"})
    finished = probe(claim)
    assert (finished.check_id, finished.token, finished.due_at) == (claim.check_id, claim.token, claim.due_at)
    assert store.settle([finished]) == 1
    assert vendors.fake.calls == {"t": 1}
    assert CheckState.objects.get().status == "healthy"
    assert ProbeResult.objects.get().message == "fine"


def test_probing_needs_no_database(vendors: Vendors, monkeypatch: pytest.MonkeyPatch):
    claim = claimed()
    monkeypatch.setattr(connection, "cursor", lambda: 1 / 0)
    assert probe(claim).outcome.outcome is Outcome.HEALTHY  # type: ignore[union-attr]


def test_times_are_the_databases_even_when_this_hosts_clock_is_off(vendors: Vendors):
    seen: list[ProbeContext] = []
    vendors.fake.answer = lambda context: seen.append(context) or healthy(context)
    there = timezone.now() - timedelta(days=400)
    claim = replace(claimed(), claimed_at=there)
    now = time.monotonic()
    finished = probe(claim, claimed=now - 5, started=now - 3)
    assert seen[0].now == there + timedelta(seconds=2)
    assert timedelta(seconds=5) <= finished.at - there < timedelta(seconds=10)


def test_slowness_degrades(vendors: Vendors):
    vendors.fake.answer = lambda _: outcome(ms=900, message="200")
    found = probe(claimed(degraded_over=0.5)).outcome
    assert found is not None
    assert (found.outcome, found.message) == ("degraded", "200; slow: 900 ms, limit 500 ms")


class TestWhatAProbeGets:
    def seen(self, vendors: Vendors, claim: Claim, **changed: Any) -> ProbeContext:
        got: list[ProbeContext] = []
        vendors.fake.answer = lambda context: got.append(context) or healthy(context)
        probe(claim, **changed)
        return got[0]

    def test_its_options_timeout_and_variables(self, vendors: Vendors, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("FAKE_KEY", "secret")
        context = self.seen(vendors, claimed(options={"target": "env:FAKE_KEY"}, timeout=7))
        assert (context.options.target, context.timeout) == ("secret", 7)
        assert context.variables == {"FAKE_KEY": "secret"}
        assert context.heartbeat is None

    def test_the_calls_of_its_job_and_since_when_they_could_be_received(self, vendors: Vendors):
        check = make_check(make_service(provider="fake"), "ping")
        Heartbeat.objects.create(check_ref=check)
        since = timezone.now()
        context = self.seen(vendors, claims.claim(uuid.uuid4(), 1, {}, 1)[0], since=since)
        assert context.heartbeat is not None
        assert context.heartbeat.watching_since == since


class TestNotConfigured:
    def test_a_variable_that_is_absent_is_named_and_nothing_is_probed(self, vendors: Vendors):
        finished = probe(claimed(kind="login"))
        assert (finished.outcome, finished.missing) == (None, ("FAKE_KEY",))
        assert vendors.fake.total == 0

    def test_a_probe_may_find_out_itself(self, vendors: Vendors):
        def needs_more(context: ProbeContext) -> ProbeOutcome:
            context.need("FAKE_KEY", "FAKE_USER")
            raise AssertionError

        vendors.fake.answer = needs_more
        assert probe(claimed()).missing == ("FAKE_KEY", "FAKE_USER")

    def test_with_its_variable_it_is_probed(self, vendors: Vendors, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("FAKE_KEY", "x")
        assert probe(claimed(kind="login")).missing == ()
        assert vendors.fake.total == 1


class TestOurOwnFaults:
    """None of them is ever the vendor's."""

    def ours(self, claim: Claim) -> ProbeOutcome:
        found = probe(claim).outcome
        assert found is not None
        assert found.outcome is Outcome.ERROR
        return found

    def test_a_reference_that_leads_nowhere(self, vendors: Vendors):
        service = make_service(provider="fake")
        Credential.objects.create(service=service, variable="FAKE_KEY", reference="env:WSMON_NO_SUCH_NAME")
        make_check(service, "ping")
        found = self.ours(claims.claim(uuid.uuid4(), 1, {}, 1)[0])
        assert found.category is Category.CONFIGURATION_ERROR
        assert "env:WSMON_NO_SUCH_NAME" in found.message

    def test_options_of_another_version(self, vendors: Vendors):
        found = self.ours(claimed(options={"unknown": 1}))
        assert found.category is Category.CONFIGURATION_ERROR
        assert "options are invalid" in found.message

    @pytest.mark.parametrize(("provider", "kind"), [("gone", "ping"), ("fake", "gone")])
    def test_a_provider_or_kind_that_is_gone(self, vendors: Vendors, provider: str, kind: str):
        found = self.ours(claimed(provider, kind))
        assert found.category is Category.CONFIGURATION_ERROR
        assert "gone" in found.message

    def test_a_provider_that_crashes(self, vendors: Vendors):
        def crash(_: ProbeContext) -> ProbeOutcome:
            raise ZeroDivisionError("with a secret in it")

        vendors.fake.answer = crash
        found = self.ours(claimed())
        assert found.category is Category.UNKNOWN_ERROR
        assert "secret" not in found.message

    def test_a_fault_of_the_cycle_itself(self, vendors: Vendors, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(cycle.storable, "details", lambda _: 1 / 0)
        found = self.ours(claimed())
        assert (found.category, found.message) == (Category.UNKNOWN_ERROR, "wsmon failed to probe; see its log")

    def test_nothing_is_made_of_the_absence_of_a_credential(self, vendors: Vendors):
        with pytest.raises(NotConfigured):
            cycle.run("fake", "login", "{}", "{}", 1.0, timezone.now())


@pytest.mark.parametrize(
    ("details", "kept"),
    [
        ({"literal": "\\u0000"}, {"literal": "\\u0000"}),
        ({"nul": "a\x00b", "half": "\ud800"}, {"nul": "ab", "half": "?"}),
        ({"left": float("nan")}, {"left": None}),
        ({"body": "x" * 10_000}, {"too_large": ["body"]}),
    ],
)
def test_whatever_details_a_target_makes_they_are_stored(
    vendors: Vendors, details: dict[str, Any], kept: dict[str, Any]
):
    answer: Callable[[ProbeContext], ProbeOutcome] = lambda _: replace(outcome(), details=details)  # noqa: E731
    vendors.fake.answer = answer
    assert store.settle([probe(claimed())]) == 1
    assert ProbeResult.objects.get().details == kept
