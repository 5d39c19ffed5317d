from __future__ import annotations

import json
from pathlib import Path

import pytest

import providers
from monitoring import variables
from monitoring.models import Credential, Service
from providers.base import Provider
from tests.monitoring.factories import make_service
from tests.monitoring.fakes import Vendors
from wsmon import secrets
from wsmon.secrets import Unresolvable

pytestmark = pytest.mark.django_db
NAMES = ("FAKE_KEY", "PUBLIC_FAKE_KEY", "FAKE_USER", "FAKE_API_BASE", "OTHER")


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without any of the names, and nothing remembered."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"{name}_FILE", raising=False)
    variables.forget()


@pytest.fixture
def fake(vendors: Vendors) -> Provider:
    return providers.get("fake")


@pytest.fixture
def service() -> Service:
    return make_service(provider="fake")


def resolved(service: Service, provider: Provider) -> dict[str, str]:
    variables.forget()
    return variables.resolve(provider, variables.credentials_of(service.id))


def test_without_any_there_are_none(service: Service, fake: Provider):
    assert resolved(service, fake) == {}


def test_the_first_of_credential_environment_and_file_wins(
    service: Service, fake: Provider, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    path = tmp_path / "key"
    path.write_text("from the file\n")
    monkeypatch.setenv("FAKE_KEY_FILE", str(path))
    assert resolved(service, fake) == {"FAKE_KEY": "from the file"}
    monkeypatch.setenv("FAKE_KEY", "from the environment")
    assert resolved(service, fake) == {"FAKE_KEY": "from the environment"}
    monkeypatch.setenv("OTHER", "from a reference")
    own = Credential.objects.create(service=service, variable="FAKE_KEY", reference="env:OTHER")
    assert resolved(service, fake) == {"FAKE_KEY": "from a reference"}
    own.reference, own.encrypted = "", secrets.encrypt("typed in")
    own.save()
    assert resolved(service, fake) == {"FAKE_KEY": "typed in"}


def test_a_value_may_stand_under_another_name(service: Service, fake: Provider, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PUBLIC_FAKE_KEY", "public")
    assert resolved(service, fake) == {"FAKE_KEY": "public"}
    monkeypatch.setenv("FAKE_KEY", "its own")
    assert resolved(service, fake) == {"FAKE_KEY": "its own"}


def test_an_empty_value_is_none(service: Service, fake: Provider, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FAKE_KEY", "")
    monkeypatch.setenv("PUBLIC_FAKE_KEY", "")
    assert resolved(service, fake) == {}


def test_base_urls_are_overridden_the_same_way(service: Service, fake: Provider, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FAKE_API_BASE", "http://127.0.0.1:9")
    assert resolved(service, fake) == {"FAKE_API_BASE": "http://127.0.0.1:9"}


def test_what_the_provider_does_not_know_is_not_read(
    service: Service, fake: Provider, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OTHER", "x")
    Credential.objects.create(service=service, variable="ELSE", reference="env:OTHER")
    assert resolved(service, fake) == {}


def test_each_service_has_credentials_of_its_own(service: Service, fake: Provider):
    other = make_service(provider="fake")
    Credential.objects.create(service=service, variable="FAKE_KEY", encrypted=secrets.encrypt("mine"))
    Credential.objects.create(service=other, variable="FAKE_KEY", encrypted=secrets.encrypt("theirs"))
    assert [resolved(one, fake)["FAKE_KEY"] for one in (service, other)] == ["mine", "theirs"]


def test_a_long_encrypted_value_survives_the_way(service: Service, fake: Provider):
    Credential.objects.create(service=service, variable="FAKE_KEY", encrypted=secrets.encrypt("ü" * 4_000))
    assert resolved(service, fake) == {"FAKE_KEY": "ü" * 4_000}


def test_credentials_travel_encrypted(service: Service):
    Credential.objects.create(service=service, variable="FAKE_KEY", encrypted=secrets.encrypt("in clear"))
    assert "in clear" not in variables.credentials_of(service.id)


def test_a_service_that_is_gone_has_none():
    assert variables.credentials_of(0) == "{}"


def test_a_reference_that_leads_nowhere_says_so_instead_of_falling_back(
    service: Service, fake: Provider, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FAKE_KEY", "from the environment")
    Credential.objects.create(service=service, variable="FAKE_KEY", reference="env:OTHER")
    with pytest.raises(Unresolvable, match="OTHER"):
        resolved(service, fake)


def test_a_value_encrypted_with_a_key_that_is_gone_says_so(service: Service, fake: Provider, settings: object):
    Credential.objects.create(service=service, variable="FAKE_KEY", encrypted=secrets.encrypt("x"))
    settings.ENCRYPTION_KEYS = ["another-key"]  # type: ignore[attr-defined]
    with pytest.raises(Unresolvable, match="WSMON_ENCRYPTION_KEYS"):
        resolved(service, fake)


def test_values_are_remembered_and_read_again_after_a_while(
    service: Service, fake: Provider, monkeypatch: pytest.MonkeyPatch
):
    now = [1000.0]
    monkeypatch.setattr(variables.time, "monotonic", lambda: now[0])
    monkeypatch.setenv("FAKE_KEY", "old")
    assert variables.resolve(fake, "{}") == {"FAKE_KEY": "old"}
    monkeypatch.setenv("FAKE_KEY", "new")
    assert variables.resolve(fake, "{}") == {"FAKE_KEY": "old"}
    now[0] += variables.FRESH_SECONDS
    assert variables.resolve(fake, "{}") == {"FAKE_KEY": "new"}
    monkeypatch.setenv("FAKE_KEY", "newest")
    variables.forget()
    assert variables.resolve(fake, "{}") == {"FAKE_KEY": "newest"}


class TestOptions:
    def test_references_in_them_are_resolved_wherever_they_stand(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("OTHER", "Bearer abc")
        options = {"url": "http://x.example/", "headers": {"Authorization": "env:OTHER", "X": "y"}}
        found = variables.resolve_options(providers.get("http"), "http", json.dumps(options))
        assert found.model_dump()["headers"] == {"Authorization": "Bearer abc", "X": "y"}

    def test_a_reference_that_leads_nowhere_says_so(self, fake: Provider):
        with pytest.raises(Unresolvable, match="OTHER"):
            variables.resolve_options(fake, "ping", '{"target": "env:OTHER"}')
