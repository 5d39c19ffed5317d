"""The stand-in vendors, probed by the real providers over loopback."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from os import environ
from pathlib import Path

import pytest
import requests
import yaml

import demo
import providers
from demo import vendors
from demo.__main__ import prepare
from demo.script import PERIOD, SCRIPT, Behaviour, scene
from demo.shapes import SHAPES
from demo.vendors import Demo, UnknownVendor
from monitoring.schema import read_service
from providers import oauth
from providers.base import NotConfigured, ProbeContext, ProbeOutcome
from providers.runner import run
from wsmon.http import Client
from wsmon.vocabulary import Category, Outcome

CONFIG = yaml.safe_load((Path(demo.__file__).parent / "wsmon.yaml").read_text())["services"]
KINDS = ("connectivity", "authentication", "functionality")
PLAYED_BY = {
    "stripe": "stripe",
    "resend": "resend",
    "twilio": "twilio",
    "google_calendar": "google",
    "supabase_auth": "supabase",
    "supabase_realtime": "supabase",
}
WITH_CREDENTIAL = [(slug, kind) for slug in PLAYED_BY for kind in KINDS[1:]]


@pytest.fixture(scope="module")
def standing() -> Iterator[Demo]:
    running = vendors.start(script=())
    yield running
    running.stop()


@pytest.fixture
def stage(standing: Demo) -> Iterator[Demo]:
    """The stand-ins, all well again afterwards."""
    oauth._kept.clear()
    yield standing
    for vendor in SHAPES:
        standing.set(vendor, None)
    oauth._kept.clear()


def probe(stage: Demo, slug: str, kind: str, timeout: float = 5) -> ProbeOutcome:
    provider = providers.get(slug)
    context = ProbeContext(
        http=Client(["127.0.0.0/8"]),
        timeout=timeout,
        now=datetime.now(UTC),
        variables=stage.environment(),
        options=provider.kinds[kind].options(),
    )
    return run(provider, kind, context)


@pytest.mark.parametrize("slug", PLAYED_BY)
@pytest.mark.parametrize("kind", KINDS)
def test_everybody_is_healthy_at_first(stage: Demo, slug: str, kind: str) -> None:
    outcome = probe(stage, slug, kind)
    assert (outcome.outcome, outcome.category) == (Outcome.HEALTHY, None), outcome.message
    assert "not_readable" not in outcome.details


@pytest.mark.parametrize("slug", PLAYED_BY)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("how", "category"),
    [(Behaviour.FAIL, Category.SERVER_ERROR), (Behaviour.GARBAGE, Category.VALIDATION_ERROR)],
)
def test_a_vendor_that_fails_is_critical(
    stage: Demo, slug: str, kind: str, how: Behaviour, category: Category
) -> None:
    stage.set(PLAYED_BY[slug], how)
    outcome = probe(stage, slug, kind)
    websocket = (slug, kind) == ("supabase_realtime", "functionality")
    assert outcome.outcome == Outcome.CRITICAL
    assert outcome.category == category or websocket


@pytest.mark.parametrize(("slug", "kind"), WITH_CREDENTIAL)
def test_a_vendor_that_limits_is_degraded(stage: Demo, slug: str, kind: str) -> None:
    stage.set(PLAYED_BY[slug], Behaviour.LIMIT)
    outcome = probe(stage, slug, kind)
    assert (outcome.outcome, outcome.category) == (Outcome.DEGRADED, Category.RATE_LIMITED)
    assert probe(stage, slug, "connectivity").outcome == Outcome.HEALTHY


@pytest.mark.parametrize(("slug", "kind"), [pair for pair in WITH_CREDENTIAL if pair[1] == "authentication"])
def test_a_vendor_that_refuses_the_credential_is_our_error(stage: Demo, slug: str, kind: str) -> None:
    stage.set(PLAYED_BY[slug], "refuse")
    outcome = probe(stage, slug, kind)
    assert (outcome.outcome, outcome.category) == (Outcome.ERROR, Category.AUTHENTICATION_ERROR)
    assert probe(stage, slug, "connectivity").outcome == Outcome.HEALTHY


def test_a_vendor_that_hangs_times_out(stage: Demo) -> None:
    stage.set("stripe", Behaviour.HANG)
    outcome = probe(stage, "stripe", "connectivity", timeout=0.4)
    assert (outcome.outcome, outcome.category) == (Outcome.CRITICAL, Category.TIMEOUT_ERROR)


def test_a_slow_vendor_answers_well_but_late(stage: Demo) -> None:
    stage.set("stripe", Behaviour.SLOW)
    outcome = probe(stage, "stripe", "connectivity")
    assert outcome.outcome == Outcome.HEALTHY
    assert (outcome.timings.total_ms or 0) > 1000


def test_the_vendor_s_own_word_follows(stage: Demo) -> None:
    url = stage.environment()["DEMO_STATUS_URL"]
    assert requests.get(url, timeout=5).json()["status"]["indicator"] == "none"
    stage.set("status", Behaviour.FAIL)
    told = requests.get(url, timeout=5).json()
    assert (told["status"]["indicator"], told["components"][0]["status"]) == ("major", "partial_outage")


def test_the_site_follows(stage: Demo) -> None:
    url = stage.environment()["DEMO_SITE_URL"]
    assert requests.get(url, timeout=5).json()["db"] == "up"
    stage.set("site", Behaviour.FAIL)
    assert requests.get(url, timeout=5).status_code == 503


# The control surface


def test_a_vendor_can_be_told_over_http(stage: Demo) -> None:
    said = requests.post(f"{stage.url}/control", json={"vendor": "resend", "behaviour": "fail"}, timeout=5)
    assert said.json()["behaviours"]["resend"] == "fail"
    assert requests.get(f"{stage.url}/resend/domains", timeout=5).status_code == 503
    requests.post(f"{stage.url}/control", json={"vendor": "resend", "behaviour": None}, timeout=5)
    assert requests.get(f"{stage.url}/control", timeout=5).json()["behaviours"]["resend"] == "well"


@pytest.mark.parametrize(
    "wish",
    ["", "[]", "{}", '{"vendor": "nobody", "behaviour": "fail"}', '{"vendor": "stripe", "behaviour": "dance"}'],
)
def test_a_wish_that_cannot_be_is_refused(stage: Demo, wish: str) -> None:
    said = requests.post(f"{stage.url}/control", data=wish, timeout=5)
    assert said.status_code == 422
    assert stage.behaviour("stripe") == Behaviour.WELL


def test_nobody_is_told_what_is_not_known(stage: Demo) -> None:
    with pytest.raises(UnknownVendor):
        stage.set("nobody", "fail")
    with pytest.raises(ValueError, match="dance"):
        stage.set("stripe", "dance")


def test_an_unknown_place_is_404(stage: Demo) -> None:
    assert requests.get(f"{stage.url}/nobody/x", timeout=5).status_code == 404
    assert requests.get(f"{stage.url}/site/nowhere", timeout=5).status_code == 404


def test_it_listens_on_loopback_only_and_gives_its_port_back() -> None:
    running = vendors.start()
    assert running._server.server_address[0] == "127.0.0.1"
    running.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", running.port), timeout=1)


# The script


def test_the_script_repeats() -> None:
    script = (("stripe", 10.0, 20.0, Behaviour.FAIL),)
    for seconds, how in ((0, "well"), (10, "fail"), (19.9, "fail"), (20, "well"), (PERIOD + 10, "fail")):
        assert scene(script, "stripe", seconds)[0] == how
    assert scene(script, "resend", 15)[0] == Behaviour.WELL


def test_every_scene_is_of_a_vendor_and_within_the_period() -> None:
    for vendor, begins, ends, _ in SCRIPT:
        assert vendor in SHAPES
        assert 0 <= begins < ends <= PERIOD


def test_within_a_minute_there_is_something_of_everything() -> None:
    during = {scene(SCRIPT, vendor, 45)[0] for vendor in SHAPES}
    assert {Behaviour.WELL, Behaviour.SLOW, Behaviour.FAIL, Behaviour.REFUSE, Behaviour.LIMIT} <= during
    assert {scene(SCRIPT, vendor, 235)[0] for vendor in SHAPES} == {Behaviour.WELL}


# The configuration


def test_the_demo_never_sees_real_credentials(monkeypatch: pytest.MonkeyPatch, stage: Demo) -> None:
    before = dict(environ)
    monkeypatch.setenv("STRIPE_SECRET_KEY", "sk_live_real")
    monkeypatch.setenv("WHATSAPP_TOKEN_FILE", "/run/secrets/real")
    monkeypatch.setenv("NEXT_PUBLIC_SUPABASE_URL", "https://real.supabase.co")
    monkeypatch.setenv("DATABASE_URL", "postgres://real")
    try:
        prepare(stage.environment())
        assert environ["STRIPE_SECRET_KEY"].startswith("sk_test_demo")
        assert "WHATSAPP_TOKEN_FILE" not in environ
        assert "NEXT_PUBLIC_SUPABASE_URL" not in environ
        assert "DATABASE_URL" not in environ
        assert environ["WSMON_ALLOW_PRIVATE_TARGETS"] == "127.0.0.0/8"
    finally:
        for name in set(environ) - set(before):
            del environ[name]
        environ.update(before)


def test_its_configuration_is_valid(monkeypatch: pytest.MonkeyPatch, stage: Demo) -> None:
    for name, value in stage.environment().items():
        monkeypatch.setenv(name, value)
    for slug, data in CONFIG.items():
        spec, findings = read_service(slug, data)
        assert findings == []
        assert spec is not None
        assert spec.checks


def test_it_watches_every_stand_in_in_every_way() -> None:
    used = {service.get("provider", slug) for slug, service in CONFIG.items()}
    assert set(PLAYED_BY) | {"whatsapp", "http", "status_page"} <= used
    for slug in PLAYED_BY:
        assert tuple(check["kind"] for check in CONFIG[slug]["checks"]) == KINDS
    assert len({service["criticality"] for service in CONFIG.values()}) == 4
    assert any(service.get("paused") for service in CONFIG.values())


def test_one_service_lacks_its_credential(stage: Demo) -> None:
    for check in CONFIG["whatsapp"]["checks"]:
        with pytest.raises(NotConfigured):
            probe(stage, "whatsapp", check["kind"])
