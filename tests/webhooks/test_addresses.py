"""webhooks/addresses.py: under which URLs vendors call, whatever a request says."""

from __future__ import annotations

import pytest

from webhooks.addresses import ALIASES, PATH, bases, candidates, url_of

IN = f"{PATH}twilio"


@pytest.fixture(autouse=True)
def here(settings) -> None:
    settings.PUBLIC_URL = ""
    settings.ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]"]
    settings.BIND = "127.0.0.1:8000"
    settings.PRODUCTION = False


def test_the_public_url_is_the_only_one_when_it_is_set(settings):
    settings.PUBLIC_URL = "https://ops.example.com"
    settings.ALLOWED_HOSTS = ["ops.example.com", "other.example.com"]
    assert bases() == ["https://ops.example.com"]
    assert candidates(IN, "a=1&b=2") == [f"https://ops.example.com{IN}?a=1&b=2"]
    assert url_of("twilio") == f"https://ops.example.com{IN}"


def test_without_it_the_configured_hosts_are_tried_before_loopback(settings):
    settings.ALLOWED_HOSTS = [".example.com", "ops.example.org", "*", "127.0.0.1", "localhost", "[::1]"]
    assert candidates(IN, "") == [
        f"https://example.com{IN}",
        f"https://ops.example.org{IN}",
        f"http://127.0.0.1:8000{IN}",
        f"http://localhost:8000{IN}",
    ]


def test_a_sources_own_url_stands_above_all(settings, monkeypatch: pytest.MonkeyPatch):
    settings.PUBLIC_URL = "https://ops.example.com"
    assert candidates(IN, "", "https://hooks.example.com/t") == ["https://hooks.example.com/t"]
    assert candidates(IN, "x=1", "https://hooks.example.com/t") == ["https://hooks.example.com/t?x=1"]
    assert candidates(IN, "x=1", "https://hooks.example.com/t?k=v") == [
        "https://hooks.example.com/t?k=v",
        "https://hooks.example.com/t?x=1",
    ]
    monkeypatch.setenv("TWILIO_HOOK_URL", "https://from.env/t")
    assert candidates(IN, "", "env:TWILIO_HOOK_URL") == ["https://from.env/t"]
    assert url_of("twilio", "https://hooks.example.com/t") == "https://hooks.example.com/t"


def test_there_is_always_one():
    assert candidates(IN, "", "env:NOT_SET_ANYWHERE") == [""]
    assert bases()[0] == "http://127.0.0.1:8000"


def test_the_contracts_aliases_lead_to_providers_that_there_are():
    import providers  # noqa: PLC0415

    assert set(ALIASES) == {f"communications/{name}" for name in ("resend", "twilio", "whatsapp", "calendar")}
    assert all(providers.get(provider).hooks for provider in ALIASES.values())
