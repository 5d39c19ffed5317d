"""Configuring webhooks in the admin, as a superuser, an operator, a viewer and a stranger do it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client

from monitoring.models import Circuit
from tests.callers import colleague
from tests.monitoring.factories import make_service
from tests.webhooks.factories import make_destination, make_route, make_source
from webhooks.models import CatalogVersion, Destination, Route, Secret, Source
from wsmon import redact, secrets
from wsmon.config import apply_file, export_text
from wsmon.models import AuditEntry
from wsmon.roles import OPERATORS, VIEWERS

pytestmark = pytest.mark.django_db

SECRET = "whsec_cGxhbnRlZC1TZWNyZXQtNDcxMS12YWx1ZQ=="
OTHER = SECRET[:-6] + "QUJDRA=="
SOURCES = "/admin/webhooks/source/"
DESTINATIONS = "/admin/webhooks/destination/"
ROUTES = "/admin/webhooks/route/"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("GOOD", SECRET)
    monkeypatch.setenv("SHORT", "short-4711")
    yield
    redact.forget()


@pytest.fixture
def root() -> Client:
    return colleague("root", superuser=True)


@pytest.fixture
def operator() -> Client:
    return colleague("olga", OPERATORS)


@pytest.fixture
def viewer() -> Client:
    return colleague("vera", VIEWERS)


def form(base: dict[str, Any], rows: tuple[dict[str, Any], ...], fields: dict[str, Any]) -> dict[str, Any]:
    """What a browser would post; a row with an ``id`` stands for an existing secret."""
    data = (
        base | fields | {"secrets-TOTAL_FORMS": len(rows), "secrets-INITIAL_FORMS": sum("id" in row for row in rows)}
    )
    for index, row in enumerate(sorted(rows, key=lambda row: "id" not in row)):
        whole = {"position": "", "reference": "", "value": ""} | row
        data |= {f"secrets-{index}-{key}": value for key, value in whole.items()}
    return data


def source(*rows: dict[str, Any], **fields: Any) -> dict[str, Any]:
    base = {"slug": "stripe", "provider": "stripe", "options": "", "url": "", "max_bytes": "", "service": ""}
    return form(base | {"watch_silence": "on"}, rows, fields)


def destination(*rows: dict[str, Any], **fields: Any) -> dict[str, Any]:
    base = dict.fromkeys(
        ["health_url", "headers", "timeout", "max_per_second", "concurrency", "order_by", "retry", "service"], ""
    )
    base |= {"slug": "app", "url": "http://127.0.0.1:9100/hooks", "breaker": "", "disable_after": ""}
    return form(base | {"forward_headers": "on"}, rows, fields)


def route(**fields: Any) -> dict[str, Any]:
    base = {"source": "stripe", "destination": "app", "events": "", "filters": "", "priority": "normal"}
    return base | fields


def page(row: Any) -> str:
    return f"/admin/webhooks/{row._meta.model_name}/{row.pk}/change/"


def saved(response: Any) -> bool:
    return bool(response.status_code == 302)


def errors(response: Any) -> str:
    """Everything that the page complains of."""
    assert response.status_code == 200
    context = response.context
    found = [str(context["adminform"].form.errors.as_data())]
    for formset in context["inline_admin_formsets"]:
        found += [str(formset.formset.errors), str(formset.formset.non_form_errors())]
    return "\n".join(found)


def version() -> int:
    return CatalogVersion.objects.get().version if CatalogVersion.objects.exists() else 0


# Superusers: sources -----------------------------------------------------------------------------


def test_it_adds_a_source_whose_value_is_encrypted_and_never_shown_again(root: Client) -> None:
    before = version()
    response = root.post(f"{SOURCES}add/", source({"value": SECRET}, {"reference": "env:GOOD"}, max_bytes="1MB"))

    assert saved(response), errors(response)
    row = Source.objects.get()
    assert (row.slug, row.provider, row.max_bytes, row.watch_silence, row.reconcile) == (
        "stripe", "stripe", 1_000_000, True, False,
    )  # fmt: skip
    kept, reference = Secret.objects.order_by("position", "id")
    assert secrets.decrypt(bytes(kept.encrypted or b"")) == SECRET
    assert (kept.reference, reference.reference, reference.encrypted) == ("", "env:GOOD", None)
    html = root.get(page(row)).content.decode()
    assert "set on " in html
    assert "/api/webhooks/stripe" in html
    assert SECRET not in html
    entry = AuditEntry.objects.get(action="source.create")
    assert (entry.actor_name, entry.target) == ("root", "source:stripe")
    assert entry.details["secrets"]["added"] == ["stored", "env:GOOD"]
    assert SECRET not in str(entry.details)
    assert version() == before + 1


def test_a_source_without_secrets_looks_at_its_vendors_own_variables(root: Client) -> None:
    assert saved(root.post(f"{SOURCES}add/", source()))

    assert [one.reference for one in Secret.objects.all()] == ["env:STRIPE_WEBHOOK_SECRET"]


WRONG_SOURCES = [
    ((), {"slug": "a b"}, "slug"),
    ((), {"slug": "published"}, "this name is reserved"),
    ((), {"provider": "http"}, "Select a valid choice"),
    ((), {"max_bytes": "1 parsec"}, "is not a size such as"),
    ((), {"max_bytes": "0"}, "must be at least 1"),
    ((), {"url": "nowhere"}, "must be a URL"),
    ((), {"options": "zzz: 1"}, "zzz: unknown key"),
    ((), {"options": "url: http://x/"}, "url has a field of its own"),
    ((), {"options": f"verify_token: {SECRET}", "provider": "whatsapp"}, "a secret does not belong"),
    ((), {"provider": "shopify", "reconcile": "on"}, "has no list of its events"),
    (({"reference": "env:NOT_SET_ANYWHERE"},), {}, "leads nowhere"),
    (({"reference": SECRET},), {}, "must be env:NAME or file:PATH"),
    (({"reference": "env:GOOD", "value": SECRET},), {}, "either a value or a reference"),
    (({"position": "1"},), {}, "Give a reference or a value"),
    (({"reference": "env:GOOD"}, {"reference": "env:GOOD"}), {}, "A reference stands here twice"),
    (({"value": "short-4711"},), {"provider": "standardwebhooks"}, "is not"),
    (({"reference": "env:SHORT"},), {"provider": "standardwebhooks"}, "is not"),
]


@pytest.mark.parametrize(("rows", "fields", "complaint"), WRONG_SOURCES)
def test_it_refuses_a_source_that_the_file_would_be_refused_for(
    root: Client, rows: tuple[dict[str, Any], ...], fields: dict[str, Any], complaint: str
) -> None:
    response = root.post(f"{SOURCES}add/", source(*rows, **fields))

    assert complaint in errors(response)
    assert SECRET not in errors(response)
    assert "short-4711" not in errors(response)
    assert not Source.objects.exists()


def test_saving_without_a_change_changes_nothing(root: Client) -> None:
    root.post(f"{SOURCES}add/", source({"value": SECRET}, max_bytes="64kB"))
    row, kept = Source.objects.get(), Secret.objects.get()
    entries, before = AuditEntry.objects.count(), version()

    same = source({"id": kept.id, "source": row.id, "position": "0"}, max_bytes="64kB")
    response = root.post(page(row), same)

    assert saved(response), errors(response)
    assert secrets.decrypt(bytes(Secret.objects.get().encrypted or b"")) == SECRET
    assert (AuditEntry.objects.count(), version()) == (entries, before)


def test_a_reference_replaces_a_stored_value_and_a_removed_one_is_gone(root: Client) -> None:
    root.post(f"{SOURCES}add/", source({"value": SECRET}, {"value": OTHER}))
    row = Source.objects.get()
    first, second = Secret.objects.order_by("position", "id")

    rows = (
        {"id": first.id, "source": row.id, "position": "0", "reference": "env:GOOD"},
        {"id": second.id, "source": row.id, "position": "0", "DELETE": "on"},
    )
    response = root.post(page(row), source(*rows))

    assert saved(response), errors(response)
    left = Secret.objects.get()
    assert (left.reference, left.encrypted) == ("env:GOOD", None)
    details = AuditEntry.objects.filter(action="source.change").latest("id").details
    assert details["secrets"] == {"changed": {"env:GOOD": ["reference"]}, "removed": ["stored"]}


def test_deleting_a_source_archives_it_with_its_routes_and_its_slug_brings_it_back(root: Client) -> None:
    row, target = make_source("stripe", "stripe"), make_destination("app")
    way = make_route(row, target)

    assert "Archive" in root.get(f"{SOURCES}{row.pk}/delete/").content.decode()
    root.post(f"{SOURCES}{row.pk}/delete/", {"post": "yes"})

    row.refresh_from_db()
    way.refresh_from_db()
    assert row.archived_at is not None
    assert way.archived_at == row.archived_at
    assert AuditEntry.objects.filter(action="source.archive", target="source:stripe").exists()

    response = root.post(f"{SOURCES}add/", source({"value": SECRET}))
    assert saved(response), errors(response)
    assert Source.objects.get().pk == row.pk
    assert Source.objects.get().archived_at is None


def test_two_sources_in_use_cannot_share_a_slug(root: Client) -> None:
    make_source("stripe")

    assert 'There is a source "stripe" already' in errors(root.post(f"{SOURCES}add/", source()))


# Superusers: destinations ------------------------------------------------------------------------


def test_it_adds_a_destination_with_its_state_and_its_breaker(root: Client) -> None:
    response = root.post(
        f"{DESTINATIONS}add/",
        destination(
            {"reference": "env:GOOD"},
            timeout="5s",
            headers="X-Team: ops\nAuthorization: env:GOOD",
            retry="5s, 1m",
            breaker="failure_threshold: 3",
            order_by="$.data.id",
            max_per_second="50",
        ),
    )

    assert saved(response), errors(response)
    row = Destination.objects.select_related("state").get()
    assert (row.timeout, row.retry, row.concurrency, row.disable_after) == (5, [5, 60], 8, 432_000)
    assert row.headers == {"X-Team": "ops", "Authorization": "env:GOOD"}
    assert row.state.paused_at is None
    circuit = Circuit.objects.get(name="destination:app")
    assert circuit.policy == row.breaker == {"policy": "counting", "failure_threshold": 3}


WRONG_DESTINATIONS = [
    ((), {"url": "nowhere"}, "must be a URL"),
    ((), {"url": f"http://u:{SECRET}@127.0.0.1/"}, "holds a secret"),
    ((), {"timeout": "5 parsecs"}, "is not a duration"),
    ((), {"retry": "5s, soon"}, '[1]: "soon" is not a duration'),
    ((), {"headers": "Host: x"}, "Host: this header is set by wsmon itself"),
    ((), {"headers": f"Authorization: {SECRET}"}, "Authorization: a secret does not belong here"),
    ((), {"breaker": "policy: rollin"}, "did you mean"),
    ((), {"order_by": "data"}, "must be subject, or a path"),
    ((), {"concurrency": "0"}, "must be at least 1"),
    ((), {"concurrency": "many"}, "Enter a whole number"),
    (({"value": "short-4711"},), {}, "is shorter than 16 characters"),
    (({"reference": "env:SHORT"},), {}, "is shorter than 16 characters"),
]


@pytest.mark.parametrize(("rows", "fields", "complaint"), WRONG_DESTINATIONS)
def test_it_refuses_a_destination_that_the_file_would_be_refused_for(
    root: Client, rows: tuple[dict[str, Any], ...], fields: dict[str, Any], complaint: str
) -> None:
    response = root.post(f"{DESTINATIONS}add/", destination(*rows, **fields))

    assert complaint in errors(response)
    assert "short-4711" not in errors(response)
    assert not Destination.objects.exists()
    assert not Circuit.objects.exists()


def test_renaming_a_destination_keeps_its_breaker_and_a_service_takes_its_place(root: Client) -> None:
    root.post(f"{DESTINATIONS}add/", destination())
    row, circuit = Destination.objects.get(), Circuit.objects.get()

    assert saved(root.post(page(row), destination(slug="app2")))
    circuit.refresh_from_db()
    assert (circuit.name, circuit.label, circuit.archived_at) == ("destination:app2", "app2", None)

    service = make_service("billing", "stripe")
    assert saved(root.post(page(row), destination(slug="app2", service=service.pk)))
    circuit.refresh_from_db()
    assert circuit.archived_at is not None

    response = root.post(page(row), destination(slug="app2", service=service.pk, breaker="trials: 2"))
    assert "has no use beside service" in errors(response)


def test_secrets_in_clear_are_masked_for_everybody(root: Client, viewer: Client) -> None:
    row = make_destination("app", f"http://u:{SECRET}@127.0.0.1/", headers={"Authorization": SECRET})
    wa = make_source("wa", "whatsapp", options={"verify_token": SECRET})

    for browser in (root, viewer):
        for url in (page(row), page(wa), DESTINATIONS):
            response = browser.get(url)
            assert response.status_code == 200
            assert SECRET not in response.content.decode()


def test_an_archived_destination_is_revived_with_its_routes_and_its_breaker(root: Client) -> None:
    root.post(f"{DESTINATIONS}add/", destination())
    row = Destination.objects.get()
    ways = [make_route(make_source("stripe"), row), make_route(make_source("gone"), row)]
    chosen = {"_selected_action": [row.pk]}

    root.post(DESTINATIONS, chosen | {"action": "archive"})
    assert Circuit.objects.get().archived_at is not None
    assert not Route.objects.filter(archived_at=None).exists()
    Source.objects.filter(slug="gone").update(archived_at="2026-01-01T00:00Z")

    root.post(f"{DESTINATIONS}?use=archived", chosen | {"action": "revive"})

    row.refresh_from_db()
    assert row.archived_at is None
    assert Circuit.objects.get().archived_at is None
    assert [one.pk for one in Route.objects.filter(archived_at=None)] == [ways[0].pk]


# Superusers: routes ------------------------------------------------------------------------------


def test_it_adds_changes_and_archives_a_route(root: Client) -> None:
    make_source("stripe")
    make_destination("app")
    response = root.post(
        f"{ROUTES}add/",
        route(events="invoice.*\npayout.paid, charge.*", filters='"$.livemode": true', priority="high"),
    )

    assert saved(response), errors(response)
    row = Route.objects.get()
    assert (row.events, row.filters, row.priority) == (
        ["invoice.*", "payout.paid", "charge.*"],
        {"$.livemode": True},
        1,
    )
    assert saved(root.post(page(row), route(events="invoice.*", priority="low")))
    row.refresh_from_db()
    assert (row.events, row.filters, row.priority) == (["invoice.*"], {}, 3)

    root.post(f"{ROUTES}{row.pk}/delete/", {"post": "yes"})
    row.refresh_from_db()
    assert row.archived_at is not None
    assert [entry.action for entry in AuditEntry.objects.order_by("id")] == [
        "route.create", "route.change", "route.archive",
    ]  # fmt: skip

    assert saved(root.post(f"{ROUTES}add/", route(events="invoice.*", priority="low")))
    assert (Route.objects.get().pk, Route.objects.get().archived_at) == (row.pk, None)


def test_a_route_of_published_events_makes_their_source(root: Client) -> None:
    make_destination("app")

    response = root.post(f"{ROUTES}add/", route(source="published"))

    assert saved(response), errors(response)
    assert Route.objects.get().source.slug == "published"
    root.get(ROUTES)  # shows the message that names it
    assert "published" not in root.get(SOURCES).content.decode()


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"source": "nobody"}, "Select a valid choice"),
        ({"destination": ""}, "This field is required"),
        ({"events": "ä" * 201}, "is not a pattern"),
        ({"filters": "x: 1"}, "is not a path"),
        ({"filters": '"$.x": []'}, "must list 1 to 100 values"),
        ({"priority": "5"}, "Select a valid choice"),
        ({}, "There is a route with these events and filters already"),
    ],
)
def test_it_refuses_a_route_that_the_file_would_be_refused_for(
    root: Client, fields: dict[str, Any], complaint: str
) -> None:
    make_route(make_source("stripe"), make_destination("app"))

    assert complaint in errors(root.post(f"{ROUTES}add/", route(**fields)))
    assert Route.objects.count() == 1


def test_a_route_comes_back_only_between_what_is_in_use(root: Client) -> None:
    row = make_route(make_source("stripe"), make_destination("app"), archived_at="2026-01-01T00:00Z")
    twin = make_route(row.source, row.destination, ["*"])
    chosen = {"_selected_action": [row.pk], "action": "revive"}

    root.post(f"{ROUTES}?use=archived", chosen)
    row.refresh_from_db()
    assert row.archived_at is not None

    twin.delete()
    root.post(f"{ROUTES}?use=archived", chosen)
    row.refresh_from_db()
    assert row.archived_at is None


def test_what_the_admin_makes_the_file_can_say(root: Client, tmp_path: Any) -> None:
    root.post(f"{SOURCES}add/", source({"value": SECRET}, {"reference": "env:GOOD"}, options=""))
    root.post(
        f"{DESTINATIONS}add/", destination({"value": SECRET}, retry="none", timeout="2s", breaker="policy: rolling")
    )
    root.post(f"{ROUTES}add/", route(events="invoice.*"))
    path = tmp_path / "wsmon.yaml"
    path.write_text(export_text())

    assert SECRET not in path.read_text()
    report = apply_file(path, prune=True)
    assert (report.changes, report.not_in_file) == ([], [])


# Others ------------------------------------------------------------------------------------------


def test_a_stranger_is_sent_to_the_login_page() -> None:
    row = make_source("stripe")

    for url in (SOURCES, f"{SOURCES}add/", page(row), DESTINATIONS, ROUTES, "/admin/webhooks/refusal/"):
        response = Client().get(url)
        assert response.status_code == 302
        assert "/login/" in response["Location"]


@pytest.mark.parametrize("group", [VIEWERS, OPERATORS])
def test_viewers_and_operators_see_but_do_not_configure(group: str) -> None:
    browser = colleague("vera", group)
    way = make_route(make_source("stripe", secrets=[SECRET, "env:GOOD"]), make_destination("app"), ["invoice.*"])

    for row, shown in ((way.source, "set on"), (way.destination, "http://127.0.0.1:9/hooks"), (way, "invoice.*")):
        html = browser.get(page(row)).content.decode()
        assert shown in html
        assert 'name="slug"' not in html
        assert 'name="secrets-0-value"' not in html
        for url in (page(row), f"/admin/webhooks/{row._meta.model_name}/{row.pk}/delete/"):
            assert browser.post(url, {"post": "yes"}).status_code == 403
    for url, data in ((SOURCES, source()), (DESTINATIONS, destination()), (ROUTES, route())):
        assert browser.post(f"{url}add/", data).status_code == 403
    for name in ("source", "destination", "route", "refusal", "replay", "erasure"):
        assert browser.get(f"/admin/webhooks/{name}/").status_code == 200


def test_staff_without_a_role_sees_nothing() -> None:
    browser = colleague("nobody")

    for url in (SOURCES, DESTINATIONS, ROUTES, "/admin/webhooks/replay/"):
        assert browser.get(url).status_code == 403


def test_an_operator_pauses_and_resumes_a_destination_with_a_reason(operator: Client) -> None:
    row = make_destination("app")
    chosen = {"_selected_action": [row.pk]}

    operator.post(DESTINATIONS, chosen | {"action": "pause", "reason": " "})
    row.state.refresh_from_db()
    assert row.state.paused_at is None

    operator.post(DESTINATIONS, chosen | {"action": "pause", "reason": "moving house"})
    row.state.refresh_from_db()
    assert (row.state.paused_by, row.state.paused_reason) == ("olga", "moving house")
    assert "paused" in operator.get(DESTINATIONS).content.decode()

    operator.post(DESTINATIONS, chosen | {"action": "resume"})
    row.state.refresh_from_db()
    assert row.state.paused_at is None
    assert [entry.action for entry in AuditEntry.objects.order_by("id")] == [
        "destination.pause",
        "destination.resume",
    ]


def test_a_viewer_is_offered_no_action(viewer: Client) -> None:
    row = make_destination("app")

    assert 'name="action"' not in viewer.get(DESTINATIONS).content.decode()
    viewer.post(DESTINATIONS, {"_selected_action": [row.pk], "action": "pause", "reason": "because"})
    row.state.refresh_from_db()
    assert row.state.paused_at is None
