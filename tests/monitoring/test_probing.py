from __future__ import annotations

import pytest
from django.db import connection
from django.utils import timezone

import providers
from monitoring import variables
from monitoring.models import CheckState, Credential, Heartbeat, ProbeResult, Rollup
from monitoring.probing import configured, probe_now
from providers.base import NotConfigured, ProbeContext
from tests.monitoring.factories import make_check, make_service, outcome
from tests.monitoring.fakes import Vendors, healthy
from wsmon import secrets

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, vendors: Vendors) -> None:
    for name in ("FAKE_KEY", "PUBLIC_FAKE_KEY"):
        monkeypatch.delenv(name, raising=False)
    variables.forget()


def test_a_configured_check_lends_its_options_and_keeps_the_result(vendors: Vendors):
    check = make_check(make_service(provider="fake"), "ping", name="mine", options={"target": "t"})
    tested = probe_now(check.service, "ping", 3)
    assert (tested.check, tested.kind, tested.outcome.message) == ("mine", "ping", "fine")
    assert vendors.fake.calls == {"t": 1}
    row = ProbeResult.objects.get()
    assert (row.manual, row.check_ref, row.at) == (True, check, tested.at)
    assert CheckState.objects.get().status == "unknown"
    assert not Rollup.objects.exists()


def test_without_a_check_nothing_is_kept(vendors: Vendors):
    tested = probe_now(make_service(provider="fake"), "ping", 3)
    assert (tested.check, tested.outcome.outcome) == (None, "healthy")
    assert not ProbeResult.objects.exists()


def test_one_of_several_checks_can_be_asked_for(vendors: Vendors):
    service = make_service(provider="fake")
    make_check(service, "ping", options={"target": "first"})
    second = make_check(service, "ping", options={"target": "second"})
    probe_now(service, "ping", 3, check=second)
    probe_now(service, "ping", 3)
    assert vendors.fake.calls == {"second": 1, "first": 1}


def test_it_takes_the_timeout_asked_for_and_the_limit_configured(vendors: Vendors):
    seen: list[ProbeContext] = []
    vendors.fake.answer = lambda context: seen.append(context) or outcome(ms=700)
    check = make_check(make_service(provider="fake"), "ping", timeout=2, degraded_over=0.5)
    assert probe_now(check.service, "ping", 12.5).outcome.outcome == "degraded"
    assert seen[0].timeout == 12.5


def test_it_uses_the_services_own_credentials(vendors: Vendors):
    seen: list[ProbeContext] = []
    vendors.fake.answer = lambda context: seen.append(context) or healthy(context)
    service = make_service(provider="fake")
    Credential.objects.create(service=service, variable="FAKE_KEY", encrypted=secrets.encrypt("own"))
    probe_now(service, "login", 3)
    assert seen[0].variables == {"FAKE_KEY": "own"}


def test_without_its_credential_it_is_not_configured():
    with pytest.raises(NotConfigured) as absent:
        probe_now(make_service(provider="fake"), "login", 3)
    assert absent.value.variables == ("FAKE_KEY",)


def test_an_unknown_kind_is_refused():
    with pytest.raises(providers.UnknownKind):
        probe_now(make_service(provider="fake"), "telepathy", 3)


def test_a_heartbeat_is_judged_by_its_calls(vendors: Vendors):
    seen: list[ProbeContext] = []
    vendors.fake.answer = lambda context: seen.append(context) or healthy(context)
    check = make_check(make_service(provider="fake"), "ping")
    beat = Heartbeat.objects.create(check_ref=check)
    beat.refresh_from_db()
    check.refresh_from_db()
    probe_now(check.service, "ping", 3)
    assert seen[0].heartbeat is not None
    assert seen[0].heartbeat.created_at == beat.created_at


class TestConfigured:
    def test_the_first_check_of_a_kind_answers_for_it(self):
        service = make_service(provider="fake")
        first, _ = make_check(service, "ping"), make_check(service, "ping")
        assert configured(service, "ping") == first
        assert configured(service, "login") is None

    def test_connectivity_of_a_generic_service_is_its_first_check(self):
        service = make_service(provider="plain")
        assert configured(service, "connectivity") is None
        first, _ = make_check(service, "ping"), make_check(service, "ping")
        assert configured(service, "connectivity") == first
        assert configured(service, "authentication") is None

    def test_connectivity_of_a_vendor_is_only_that(self):
        service = make_service(provider="fake")
        make_check(service, "ping")
        assert configured(service, "connectivity") is None

    def test_archived_checks_do_not_answer(self):
        service = make_service(provider="plain")
        make_check(service, "ping", archived_at=timezone.now())
        assert configured(service, "connectivity") is None


@pytest.mark.django_db(transaction=True)
def test_it_holds_no_database_connection_while_it_waits_for_the_vendor(vendors: Vendors):
    held: list[object] = []
    vendors.fake.answer = lambda context: held.append(connection.connection) or healthy(context)
    check = make_check(make_service(provider="fake"), "ping")
    probe_now(check.service, "ping", 3)
    assert held == [None]
    assert ProbeResult.objects.get().manual
