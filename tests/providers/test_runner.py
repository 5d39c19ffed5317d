"""Whatever happens in a probe, it ends in an outcome without secrets."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

import providers
from providers.base import Kind, NotConfigured, ProbeContext, ProbeOutcome, Provider, Variable
from tests.providers.generic import NOW
from tests.servers import Server, answering
from wsmon.http import Client, HttpError
from wsmon.redact import redact
from wsmon.vocabulary import Category, Outcome, Timings

SECRET = "planted-s3cret-value"
PLACES = [
    f"https://user:{SECRET}@api.example.com/",
    f"https://api.example.com/?q={SECRET}",
    f"Authorization: Bearer {SECRET}",
    f'{{"nested": "{SECRET}"}}',
    SECRET.encode().hex(),
    "cGxhbnRlZC1zM2NyZXQtdmFsdWU=",
]


def vendor(probe: Callable[[ProbeContext], ProbeOutcome], **parts: Any) -> Provider:
    return Provider(
        slug="vendor",
        label="Vendor",
        kinds={"connectivity": Kind(probe)},
        variables=(Variable("VENDOR_KEY"), Variable("VENDOR_REGION", secret=False)),
        **parts,
    )


def run(probe: Callable[[ProbeContext], ProbeOutcome]) -> ProbeOutcome:
    context = ProbeContext(
        http=Client(), timeout=1, now=NOW, variables={"VENDOR_KEY": SECRET, "VENDOR_REGION": "europe-west"}
    )
    return providers.run(vendor(probe), "connectivity", context)


def raising(error: Exception) -> Callable[[ProbeContext], ProbeOutcome]:
    def probe(context: ProbeContext) -> ProbeOutcome:
        raise error

    return probe


def test_a_good_outcome_passes_through() -> None:
    timings = Timings(total_ms=5)
    outcome = run(lambda context: ProbeOutcome(Outcome.HEALTHY, None, "fine", timings, 200, {"a": [1, None]}))
    assert outcome == ProbeOutcome(Outcome.HEALTHY, None, "fine", timings, 200, {"a": [1, None]})


def test_the_probe_knows_its_provider() -> None:
    seen = []

    def probe(context: ProbeContext) -> ProbeOutcome:
        seen.append(context.provider.slug if context.provider else None)
        return ProbeOutcome(Outcome.HEALTHY)

    run(probe)
    assert seen == ["vendor"]


@pytest.mark.parametrize(("ours", "outcome"), [(False, Outcome.CRITICAL), (True, Outcome.ERROR)])
def test_a_failed_exchange_is_the_targets_fault_or_ours(ours: bool, outcome: Outcome) -> None:
    error = HttpError("it broke", Category.NETWORK_ERROR, ours=ours, timings=Timings(total_ms=7))
    found = run(raising(error))
    assert (found.outcome, found.category, found.message) == (outcome, Category.NETWORK_ERROR, "it broke")
    assert found.timings.total_ms == 7


@pytest.mark.parametrize("error", [ValueError(SECRET), KeyError(SECRET), OSError(f"at {SECRET}")])
def test_an_unexpected_exception_is_our_error_and_only_its_class_is_told(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        found = run(raising(error))
    assert (found.outcome, found.category) == (Outcome.ERROR, Category.UNKNOWN_ERROR)
    assert found.message == f"the probe itself failed ({type(error).__name__})"
    assert SECRET not in caplog.text
    assert "test_runner.py" in caplog.text


def test_absent_variables_are_raised_through() -> None:
    with pytest.raises(NotConfigured) as caught:
        run(raising(NotConfigured("VENDOR_KEY", "VENDOR_OTHER")))
    assert caught.value.variables == ("VENDOR_KEY", "VENDOR_OTHER")


@pytest.mark.parametrize("place", PLACES)
def test_planted_secrets_are_masked_in_messages_and_details(place: str) -> None:
    def probe(context: ProbeContext) -> ProbeOutcome:
        return ProbeOutcome(Outcome.CRITICAL, None, f"said {place}", details={"a": {"b": [place]}, place: 1})

    found = run(probe)
    assert SECRET not in str(found)
    assert place not in str(found)


@pytest.mark.parametrize("place", PLACES)
def test_planted_secrets_are_masked_in_errors(place: str) -> None:
    found = run(raising(HttpError(f"said {place}", Category.NETWORK_ERROR)))
    assert place not in str(found)


def test_public_variables_are_shown() -> None:
    assert run(lambda context: ProbeOutcome(Outcome.HEALTHY, None, "in europe-west")).message == "in europe-west"


def test_secrets_seen_by_a_probe_are_masked_in_logs_from_then_on() -> None:
    run(lambda context: ProbeOutcome(Outcome.HEALTHY))
    assert SECRET not in redact(f"a log line with {SECRET}")


def test_messages_are_bounded() -> None:
    assert len(run(lambda context: ProbeOutcome(Outcome.HEALTHY, None, "x" * 9_000)).message) == 500


def test_generic_kinds_run_for_a_vendors_service() -> None:
    provider = vendor(raising(AssertionError("not this one")))
    with Server(answering()) as server:
        options = providers.kind(providers.get("http"), "http").options.model_validate({"url": server.url()})
        context = ProbeContext(http=Client(["127.0.0.1"]), timeout=1, now=NOW, options=options)
        assert providers.run(provider, "http", context).outcome is Outcome.HEALTHY


def test_an_unknown_kind_is_told() -> None:
    with pytest.raises(providers.UnknownKind):
        providers.run(vendor(raising(ValueError())), "no-such", ProbeContext(http=Client(), timeout=1, now=NOW))
