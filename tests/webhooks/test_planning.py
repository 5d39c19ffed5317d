"""Applying sources, destinations and routes: what is made, changed, renamed, revived, archived, and what stays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitoring.models import Circuit
from tests.monitoring.factories import make_service
from tests.webhooks.factories import make_destination, make_route, make_source
from webhooks import actions, catalog
from webhooks.models import CatalogVersion, Destination, DestinationState, Route, Secret, Source
from wsmon import redact, secrets
from wsmon.audit import Actor
from wsmon.config import ConfigError, Report, apply_file
from wsmon.models import AuditEntry

pytestmark = pytest.mark.django_db

WHSEC = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
WHOLE = """
services:
  billing: {provider: stripe, checks: []}
sources:
  stripe: {secrets: ["env:GOOD", "env:OLD"], service: billing}
destinations:
  app: {url: http://127.0.0.1:9100/hooks, signing_secret: env:GOOD, breaker: {failure_threshold: 3}}
  shared: {url: http://127.0.0.1:9101/, service: billing}
routes:
  - {source: stripe, destinations: [app, shared], events: ["invoice.*"], priority: critical}
  - {source: published, destination: app}
"""


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("GOOD", WHSEC)
    monkeypatch.setenv("OLD", WHSEC.replace("Mf", "Nf"))
    yield
    redact.forget()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "wsmon.yaml"


def apply(path: Path, text: str, **options: Any) -> Report:
    path.write_text(text)
    return apply_file(path, **options)


def words(**of: Any) -> list[str]:
    return [str(one) for one in Secret.objects.filter(**of).order_by("position", "id")]


# What it makes -----------------------------------------------------------------------------------


def test_it_makes_everything_that_the_file_says(path: Path) -> None:
    report = apply(path, WHOLE)

    assert report.changes == [
        "+ service billing (provider stripe)",
        "+ source stripe (provider stripe)",
        "+ secrets of source stripe: env:GOOD, env:OLD",
        "+ destination app (http://127.0.0.1:9100/hooks)",
        "+ secrets of destination app: env:GOOD",
        "+ destination shared (http://127.0.0.1:9101/)",
        "+ route stripe to app (invoice.*): critical",
        "+ route stripe to shared (invoice.*): critical",
        "+ route published to app (*): normal",
    ]
    assert words(source__slug="stripe") == ["env:GOOD", "env:OLD"]
    assert words(destination__slug="app") == ["env:GOOD"]
    assert DestinationState.objects.count() == 2
    assert {circuit.name: circuit.policy for circuit in Circuit.objects.all()} == {
        "destination:app": {"policy": "counting", "failure_threshold": 3}
    }
    found = catalog.refresh(force=True).source("stripe")
    assert found is not None
    assert (found.secrets[0], found.problem, len(found.ways)) == (WHSEC, "", 2)


def test_the_order_of_the_file_does_not_matter(path: Path) -> None:
    backwards = dict(reversed(yaml.safe_load(WHOLE).items()))

    assert len(apply(path, yaml.safe_dump(backwards, sort_keys=False)).changes) == 9
    assert apply(path, WHOLE, prune=True).changes == []


def test_a_second_time_it_changes_nothing_and_tells_nobody(path: Path) -> None:
    apply(path, WHOLE)
    before = CatalogVersion.objects.get().version

    report = apply(path, WHOLE, prune=True)

    assert (report.changes, report.not_in_file) == ([], [])
    assert CatalogVersion.objects.get().version == before
    assert AuditEntry.objects.filter(action="configuration.apply").count() == 1


def test_a_dry_run_says_the_same_and_changes_nothing(path: Path) -> None:
    report = apply(path, WHOLE, dry_run=True)

    assert len(report.changes) == 9
    assert not any(model.objects.exists() for model in (Source, Destination, Route, Secret, Circuit, CatalogVersion))


def test_every_change_is_told_to_every_process(path: Path) -> None:
    for text in (
        "sources: {stripe: {}}",
        "sources: {stripe: {max_bytes: 1MB}}",
        "destinations: {app: {url: http://127.0.0.1/}}",
        "routes: [{source: stripe, destination: app}]",
        "routes: [{source: stripe, destination: app, priority: low}]",
    ):
        before = CatalogVersion.objects.values_list("version", flat=True).first() or 0
        assert len(apply(path, text).changes) in {1, 2}
        assert CatalogVersion.objects.get().version == before + 1, text


def test_a_file_may_name_what_only_the_database_has(path: Path) -> None:
    make_source("stripe")
    make_destination("app")
    make_service("billing", "stripe")

    assert len(apply(path, "routes: [{source: stripe, destination: app}]").changes) == 1
    assert len(apply(path, "destinations: {other: {url: http://127.0.0.1/, service: billing}}").changes) == 1
    with pytest.raises(ConfigError, match=r'destinations.other.service: "billing" is not a service'):
        apply(path, "services: {}\ndestinations: {other: {url: http://127.0.0.1/, service: billing}}", prune=True)
    with pytest.raises(ConfigError, match=r'routes\[0\].source: "stripe" is not a source'):
        apply(path, "sources: {}\nroutes: [{source: stripe, destination: app}]", prune=True)
    report = apply(path, "sources: {}\nroutes: [{source: stripe, destination: app}]")
    assert report.not_in_file == ["source stripe"]


# What it changes ---------------------------------------------------------------------------------


def test_it_says_what_it_changes_and_shows_no_secret(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "Bearer planted-Secret-4711-value")
    apply(path, WHOLE)

    changed = (
        WHOLE.replace(
            "signing_secret: env:GOOD, breaker: {failure_threshold: 3}",
            'timeout: 5s, retry: [1s, 1m], headers: {Authorization: "env:TOKEN"}, max_per_second: 5,'
            ' breaker: {policy: rolling}, signing_secret: ["env:OLD", "env:GOOD"]',
        )
        .replace("service: billing}\ndest", "max_bytes: 64kB, watch_silence: false}\ndest")
        .replace("priority: critical", "priority: low")
    )
    report = apply(path, changed)

    assert report.changes == [
        "~ source stripe: max_bytes none -> 64000, watch_silence true -> false, service billing -> none",
        "~ destination app: timeout 10s -> 5s, max_per_second none -> 5.0, headers a mapping -> a mapping,"
        " retry 5s, 30s, 2m, 10m, 30m, 2h, 5h, 10h -> 1s, 1m, breaker changed",
        "~ secrets of destination app: env:GOOD -> env:OLD, env:GOOD",
        "~ route stripe to app (invoice.*): priority critical -> low",
        "~ route stripe to shared (invoice.*): priority critical -> low",
    ]
    assert Circuit.objects.get().policy == {"policy": "rolling"}
    assert words(destination__slug="app") == ["env:OLD", "env:GOOD"]
    assert apply(path, changed, prune=True).changes == []


def test_other_events_or_filters_are_another_route(path: Path) -> None:
    ends = "sources: {stripe: {}}\ndestinations: {app: {url: 'http://127.0.0.1/'}}\n"
    apply(path, f"{ends}routes: [{{source: stripe, destination: app, events: [a, b]}}]")

    other = f'{ends}routes: [{{source: stripe, destination: app, events: [b, a], filters: {{"$.live": true}}}}]'
    report = apply(path, other, prune=True)

    assert report.changes == [
        "+ route stripe to app (b, a, 1 filter): normal",
        "- route stripe to app (a, b) (archived)",
    ]
    back = apply(path, f"{ends}routes: [{{source: stripe, destination: app, events: [b, a], priority: high}}]")
    assert back.changes == ["+ route stripe to app (b, a): revived, high"]
    assert back.not_in_file == ["route stripe to app (b, a, 1 filter)"]
    assert Route.objects.count() == 2


def test_true_and_one_are_different_filters_but_all_events_are_none_named(path: Path) -> None:
    make_route(make_source("stripe", secrets=["env:GOOD"]), make_destination("app", "http://127.0.0.1/"), [])
    text = 'routes:\n- {source: stripe, destination: app, events: ["*"]}\n'

    assert apply(path, text).changes == []
    for value in ("true", "1", '"1"'):
        text += f'- {{source: stripe, destination: app, filters: {{"$.a": {value}}}}}\n'
    assert len(apply(path, text).changes) == 3
    assert apply(path, text.replace("1}", "1.0}"), prune=True).changes == []


# Names -------------------------------------------------------------------------------------------


def test_renaming_keeps_rows_routes_and_the_breakers_history(path: Path) -> None:
    apply(path, WHOLE)
    before = [
        list(model.objects.order_by("id").values_list("id", flat=True)) for model in (Source, Destination, Route)
    ]
    circuit = Circuit.objects.get()

    renamed = (
        WHOLE.replace("  stripe: {", "  pay: {provider: stripe, renamed_from: stripe, ")
        .replace("  app: {", "  shop: {renamed_from: app, ")
        .replace("source: stripe", "source: pay")
        .replace("app", "shop")
        .replace("renamed_from: shop", "renamed_from: app")
    )
    report = apply(path, renamed, prune=True)

    assert report.changes == ["~ source pay: renamed from stripe", "~ destination shop: renamed from app"]
    after = [
        list(model.objects.order_by("id").values_list("id", flat=True)) for model in (Source, Destination, Route)
    ]
    assert after == before
    circuit.refresh_from_db()
    assert (circuit.name, circuit.archived_at) == ("destination:shop", None)
    assert apply(path, renamed, prune=True).changes == []  # the key may stay


def test_an_archived_holder_of_a_wanted_name_makes_room(path: Path) -> None:
    apply(path, "destinations: {app: {url: 'http://127.0.0.1/'}, old: {url: 'http://127.0.0.2/'}}")
    apply(path, "destinations: {old: {url: 'http://127.0.0.2/'}}", prune=True)

    apply(path, "destinations: {app: {url: 'http://127.0.0.2/', renamed_from: old}}", prune=True)

    assert {row.slug: row.url for row in Destination.objects.all()} == {
        "app": "http://127.0.0.2/",
        "app-archived": "http://127.0.0.1/",
    }
    assert Circuit.objects.get(archived_at=None).name == "destination:app"


# What leaves -------------------------------------------------------------------------------------


def test_without_prune_what_is_not_in_the_file_stays_and_is_listed(path: Path) -> None:
    apply(path, WHOLE)

    report = apply(path, "sources: {}\ndestinations: {}\nroutes: []")

    assert report.changes == []
    assert report.not_in_file == [
        "source stripe",
        "destination app",
        "destination shared",
        "route stripe to app (invoice.*)",
        "route stripe to shared (invoice.*)",
        "route published to app (*)",
    ]


def test_prune_archives_routes_along_with_their_ends_and_keeps_everything(path: Path) -> None:
    apply(path, WHOLE)

    report = apply(path, "sources: {}\ndestinations: {}", prune=True)

    assert report.changes == [
        "- source stripe (archived, its history is kept)",
        "- destination app (archived, its history is kept)",
        "- destination shared (archived, its history is kept)",
    ]
    assert (Source.objects.count(), Destination.objects.count(), Route.objects.count()) == (2, 2, 3)
    assert not Route.objects.filter(archived_at=None).exists()
    assert [row.slug for row in Source.objects.filter(archived_at=None)] == ["published"]
    assert Circuit.objects.get().archived_at is not None

    again = apply(path, WHOLE)
    assert "+ source stripe: revived with its history" in again.changes
    assert "+ route stripe to app (invoice.*): revived, critical" in again.changes
    assert (Source.objects.count(), Destination.objects.count(), Route.objects.count()) == (2, 2, 3)
    assert Circuit.objects.get().archived_at is None


def test_a_service_takes_the_place_of_its_own_breaker_and_gives_it_back(path: Path) -> None:
    apply(path, WHOLE)
    circuit = Circuit.objects.get()

    apply(path, WHOLE.replace("signing_secret: env:GOOD, breaker: {failure_threshold: 3}", "service: billing"))
    circuit.refresh_from_db()
    assert circuit.archived_at is not None

    apply(path, WHOLE)
    given_back = Circuit.objects.get()
    assert (given_back.pk, given_back.archived_at, given_back.policy["failure_threshold"]) == (circuit.pk, None, 3)


# Secrets -----------------------------------------------------------------------------------------


def test_stored_values_are_put_in_order_and_stay_when_they_are_not_mentioned(path: Path) -> None:
    make_source("stripe", "stripe", secrets=[WHSEC, "env:OLD"])
    kept = Secret.objects.get(reference="")

    report = apply(path, "sources: {stripe: {secrets: ['env:GOOD', stored, 'env:OLD']}}")
    assert report.changes == ["~ secrets of source stripe: stored, env:OLD -> env:GOOD, stored, env:OLD"]
    assert report.not_in_file == []

    report = apply(path, "sources: {stripe: {secrets: 'env:OLD'}}", prune=True)
    assert report.changes == ["~ secrets of source stripe: env:GOOD, stored, env:OLD -> env:OLD, stored"]
    assert report.not_in_file == ["secret of source stripe (stored in the admin)"]
    assert words(source__slug="stripe") == ["env:OLD", "stored"]
    changed = kept.changed_at
    kept.refresh_from_db()
    assert secrets.decrypt(bytes(kept.encrypted or b"")) == WHSEC
    assert kept.changed_at == changed

    with pytest.raises(ConfigError, match="says stored, but only 1 value is stored"):
        apply(path, "sources: {stripe: {secrets: [stored, stored]}}")


def test_a_source_whose_variable_is_not_set_yet_is_accepted_and_not_configured(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STRIPE_WEBHOOK_SECRET", raising=False)
    apply(path, "sources: {stripe: {}}")

    found = catalog.refresh(force=True).source("stripe")
    assert found is not None
    assert "STRIPE_WEBHOOK_SECRET" in found.problem

    monkeypatch.setenv("STRIPE_WEBHOOK_SECRET", WHSEC)
    assert apply(path, "sources: {stripe: {}}", prune=True).changes == []
    configured = catalog.refresh(force=True).source("stripe")
    assert configured is not None
    assert (configured.problem, configured.secrets) == ("", (WHSEC,))


# Pauses ------------------------------------------------------------------------------------------


def paused_by(slug: str) -> str:
    state = DestinationState.objects.get(destination__slug=slug)
    return state.paused_by if state.paused_at else ""


def test_the_file_pauses_and_ends_its_own_pauses_only(path: Path) -> None:
    text = "destinations: {app: {url: 'http://127.0.0.1/'%s}}"
    made = apply(path, text % ", paused: true")
    assert made.changes == ["+ destination app (http://127.0.0.1/)", "~ destination app: paused"]
    assert paused_by("app") == "apply"
    assert AuditEntry.objects.filter(action="destination.pause", target="destination:app").exists()

    assert apply(path, text % "").changes == ["~ destination app: resumed"]
    assert paused_by("app") == ""

    person = Actor(None, "olga")
    actions.pause_destination(Destination.objects.get(), person, "moving house")
    assert apply(path, text % "").changes == []
    assert paused_by("app") == "olga"
    assert apply(path, text % ", paused: false").changes == ["~ destination app: resumed"]
    assert paused_by("app") == ""


def test_published_is_nobodys_to_archive(path: Path) -> None:
    apply(path, "destinations: {app: {url: 'http://127.0.0.1/'}}\nroutes: [{source: published, destination: app}]")

    report = apply(path, "sources: {}", prune=True)

    assert (report.changes, report.not_in_file) == ([], [])
    assert Source.objects.get().archived_at is None
