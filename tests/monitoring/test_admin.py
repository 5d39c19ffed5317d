"""Configuring in the admin, as a superuser, an operator, a viewer and a stranger do it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django.utils import timezone

from monitoring.models import Check, CheckState, Credential, Heartbeat, MaintenanceWindow, Service, StateChange
from tests.callers import colleague
from tests.monitoring.factories import make_check, make_service
from wsmon import redact, secrets
from wsmon.models import AuditEntry
from wsmon.roles import OPERATORS, VIEWERS

pytestmark = pytest.mark.django_db

SECRET = "planted-Secret-4711-value"
ADD = "/admin/monitoring/service/add/"
LIST = "/admin/monitoring/service/"
COMMON = {"confirm_down": "2", "confirm_up": "2", "interval": "", "timeout": "", "degraded_over": "", "options": ""}


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
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


def page(service: Service) -> str:
    return f"{LIST}{service.pk}/change/"


def form(
    checks: list[dict[str, Any]] | None = None, credentials: list[dict[str, Any]] | None = None, **service: Any
) -> dict[str, Any]:
    """What a browser would post; a row with an ``id`` stands for an existing one."""
    data: dict[str, Any] = {
        "slug": "our-site",
        "name": "",
        "provider": "http",
        "criticality": "normal",
        "breaker": "",
    }
    data |= service
    for prefix, rows in (("checks", checks or []), ("credentials", credentials or [])):
        data[f"{prefix}-TOTAL_FORMS"] = len(rows)
        data[f"{prefix}-INITIAL_FORMS"] = sum("id" in row for row in rows)
        for index, row in enumerate(sorted(rows, key=lambda row: "id" not in row)):
            whole = (COMMON if prefix == "checks" else {}) | row
            data |= {f"{prefix}-{index}-{key}": value for key, value in whole.items()}
    return data


def http_check(**fields: Any) -> dict[str, Any]:
    return {"kind": "http", "name": "health", "options": "url: http://127.0.0.1:1/health"} | fields


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


# Superusers --------------------------------------------------------------------------------------


def test_it_adds_a_service_with_a_check_that_is_due_at_once(root: Client) -> None:
    response = root.post(ADD, form([http_check(interval="30s", timeout="5s", degraded_over="800ms")]))

    assert saved(response), errors(response)
    check = Check.objects.get(service__slug="our-site")
    assert (check.name, check.interval, check.timeout, check.degraded_over) == ("health", 30, 5, 0.8)
    assert check.options == {"url": "http://127.0.0.1:1/health"}
    assert CheckState.objects.get(check_ref=check).next_due_at <= timezone.now()
    entry = AuditEntry.objects.get(action="service.create")
    assert (entry.actor_name, entry.target, entry.address) == ("root", "service:our-site", "127.0.0.1")
    assert entry.details["check"]["added"] == ["our-site/health"]


def test_it_takes_the_options_as_json_too(root: Client) -> None:
    response = root.post(
        ADD, form([http_check(options='{"url": "https://example.com", "expect": {"status": [204]}}')])
    )

    assert saved(response), errors(response)
    assert Check.objects.get().options == {"url": "https://example.com", "expect": {"status": [204]}}


def test_it_fills_in_the_defaults_of_the_kind(root: Client) -> None:
    response = root.post(ADD, form([http_check(name="")]))

    assert saved(response), errors(response)
    check = Check.objects.get()
    assert (check.name, check.interval, check.timeout, check.confirm_down) == ("http", 30, 5, 2)


def test_it_gives_a_heartbeat_its_token(root: Client) -> None:
    response = root.post(ADD, form([{"kind": "heartbeat", "name": "job", "options": "period: 1h"}]))

    assert saved(response), errors(response)
    assert len(Heartbeat.objects.get().token) > 16


WRONG = [
    ({"slug": "our site"}, [], "slug"),
    ({"provider": "htp"}, [], "Select a valid choice"),
    ({"breaker": "policy: rollin"}, [], 'policy: "rollin" is not a policy; did you mean "rolling"?'),
    ({"breaker": "[1]"}, [], "lines, or JSON in braces"),
    ({"breaker": "policy: [1"}, [], "is not valid YAML"),
    ({}, [http_check(interval="5 parsecs")], '"5 parsecs" is not a duration such as 250ms, 5s, 2m, 1h'),
    ({}, [http_check(interval="1s", timeout="2s")], "2s is longer than the interval, 1s"),
    ({}, [http_check(interval="2d")], "is not between 1s and 1d"),
    ({}, [http_check(options="url: example.com")], "must be a URL"),
    ({}, [http_check(options="url: http://x\nurl: http://y")], "stands here twice"),
    ({}, [http_check(options="url: http://x\nmehtod: GET")], 'mehtod: unknown key; did you mean "method"?'),
    ({}, [http_check(options="url: http://x\ninterval: 5s")], "interval has a field of its own"),
    ({}, [http_check(options="url: http://x\nheaders: {Authorization: 'Bearer " + SECRET + "'}")], "does not belong"),
    ({}, [http_check(options="url: env:NOT_SET_ANYWHERE")], "leads nowhere"),
    ({}, [http_check(options="\turl: x")], "tab"),
    ({}, [http_check(kind="htp")], "Select a valid choice"),
    ({}, [http_check(kind="connectivity")], "is not a kind of check that http has"),
    ({}, [http_check(confirm_down="0")], "0 must be at least 1"),
    ({}, [http_check(name="a b")], "is not a name"),
    ({}, [http_check(), http_check()], "Duplicate name"),
]


@pytest.mark.parametrize(("service", "checks", "complaint"), WRONG)
def test_it_refuses_what_the_file_would_be_refused_for(
    root: Client, service: dict[str, Any], checks: list[dict[str, Any]], complaint: str
) -> None:
    response = root.post(ADD, form(checks, **service))

    assert complaint in errors(response).replace("\\", "")
    assert not Service.objects.exists()
    assert not AuditEntry.objects.exists()


def test_it_puts_the_error_under_its_field(root: Client) -> None:
    response = root.post(ADD, form([http_check(interval="soon", options="url: 1")]))

    found = response.context["inline_admin_formsets"][0].formset.errors[0]
    assert set(found) == {"interval", "options"}


def test_it_shows_durations_as_people_write_them(root: Client) -> None:
    check = make_check(interval=90, timeout=0.25, name="x")

    html = root.get(page(check.service)).content.decode()

    assert 'value="90s"' in html
    assert 'value="250ms"' in html


def test_saving_without_a_change_changes_nothing(root: Client) -> None:
    check = make_check(interval=60, timeout=5, name="health")
    later = timezone.now() + timedelta(minutes=1)
    CheckState.objects.update(next_due_at=later)
    row = http_check(id=check.id, options="url: http://127.0.0.1:9/", interval="1m", timeout="5s")

    response = root.post(page(check.service), form([row | {"service": check.service_id}], slug=check.service.slug))

    assert saved(response), errors(response)
    assert CheckState.objects.get().next_due_at == later
    assert not AuditEntry.objects.exists()


def test_renaming_keeps_the_row_and_its_history(root: Client) -> None:
    check = make_check(name="old")
    StateChange.objects.create(
        at=timezone.now(), service=check.service, check_ref=check, old="unknown", new="healthy"
    )
    row = http_check(id=check.id, name="new", interval="1m")

    response = root.post(page(check.service), form([row | {"service": check.service_id}], slug="new-slug"))

    assert saved(response), errors(response)
    check.refresh_from_db()
    assert (check.name, check.service.slug) == ("new", "new-slug")
    assert Service.objects.get(pk=check.service_id).slug == "new-slug"
    assert StateChange.objects.filter(check_ref=check, old="unknown").exists()
    details = AuditEntry.objects.get(action="service.change").details
    assert "slug" in details["fields"]
    assert "name" in details["check"]["changed"]["new-slug/new"]


def test_a_change_makes_the_check_due_at_once(root: Client) -> None:
    check = make_check(name="health", interval=600, timeout=5)
    CheckState.objects.update(next_due_at=timezone.now() + timedelta(minutes=9))
    row = http_check(id=check.id, interval="5m", service=check.service_id)

    response = root.post(page(check.service), form([row], slug=check.service.slug))

    assert saved(response), errors(response)
    assert CheckState.objects.get().next_due_at <= timezone.now()


def test_taking_a_check_away_archives_it_and_its_name_brings_it_back(root: Client) -> None:
    check = make_check(name="health")
    row = http_check(id=check.id, service=check.service_id)

    response = root.post(page(check.service), form([row | {"DELETE": "on"}], slug=check.service.slug))

    assert saved(response), errors(response)
    check.refresh_from_db()
    assert check.archived_at is not None
    assert AuditEntry.objects.get(action="service.change").details["check"]["removed"]
    assert 'value="health"' not in root.get(page(check.service)).content.decode()

    response = root.post(page(check.service), form([http_check(interval="20s")], slug=check.service.slug))

    assert saved(response), errors(response)
    back = Check.objects.get()
    assert (back.id, back.archived_at, back.interval) == (check.id, None, 20)


def test_a_check_may_take_the_name_of_an_archived_one(root: Client) -> None:
    service = make_service("our-site")
    old = make_check(service, name="health", archived_at=timezone.now())
    check = make_check(service, name="other")

    response = root.post(page(service), form([http_check(id=check.id, service=service.id)]))

    assert saved(response), errors(response)
    old.refresh_from_db()
    check.refresh_from_db()
    assert (old.name, check.name) == ("health-archived", "health")


def test_deleting_a_service_archives_it_and_its_slug_brings_it_back(root: Client) -> None:
    check = make_check(make_service("our-site"), name="health")
    url = f"{LIST}{check.service_id}/delete/"
    assert "history is kept" in root.get(url).content.decode()

    assert root.post(url, {"post": "yes"}).status_code == 302

    service = Service.objects.get()
    assert service.archived_at is not None
    assert Check.objects.get().archived_at is not None
    assert AuditEntry.objects.get().action == "service.archive"
    assert list(root.get(LIST).context["cl"].queryset) == []
    assert list(root.get(LIST, {"use": "archived"}).context["cl"].queryset) == [service]

    response = root.post(ADD, form([http_check()], name="Our site"))

    assert saved(response), errors(response)
    back = Service.objects.get()
    assert (back.id, back.archived_at, back.name) == (service.id, None, "Our site")
    assert Check.objects.get().id == check.id
    assert Check.objects.get().archived_at is None


def test_two_services_in_use_cannot_share_a_slug(root: Client) -> None:
    make_service("our-site")

    assert "already" in errors(root.post(ADD, form()))


def test_archived_services_can_be_taken_into_use_again(root: Client) -> None:
    check = make_check(make_service("our-site"), name="health")
    chosen = {"_selected_action": [check.service_id]}
    root.post(LIST, chosen | {"action": "archive"})
    assert Service.objects.get().archived_at is not None

    root.post(LIST + "?use=archived", chosen | {"action": "revive"})

    assert Service.objects.get().archived_at is None
    assert Check.objects.get().archived_at is None
    assert set(AuditEntry.objects.values_list("action", flat=True)) == {"service.archive", "service.revive"}


# Credentials -------------------------------------------------------------------------------------


def credential(**fields: Any) -> dict[str, Any]:
    return {"variable": "STRIPE_SECRET_KEY", "reference": "", "value": ""} | fields


def stripe(*credentials: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return form([], list(credentials), **{"slug": "stripe", "provider": "stripe"} | fields)


def test_a_value_is_encrypted_at_rest_and_never_shown_again(root: Client) -> None:
    response = root.post(ADD, stripe(credential(value=SECRET)), follow=True)

    kept = Credential.objects.get()
    assert kept.reference == ""
    assert kept.encrypted is not None
    assert SECRET.encode() not in bytes(kept.encrypted)
    assert secrets.decrypt(bytes(kept.encrypted)) == SECRET
    html = root.get(page(kept.service)).content.decode()
    assert "set on " in html
    for text in (response.content.decode(), html, root.get(f"{LIST}{kept.service_id}/history/").content.decode()):
        assert SECRET not in text
        assert bytes(kept.encrypted).decode() not in text
    assert SECRET not in str([entry.details for entry in AuditEntry.objects.all()])


def test_a_refused_form_does_not_give_the_value_back(root: Client) -> None:
    response = root.post(ADD, stripe(credential(value=SECRET), slug="no name"))

    assert response.status_code == 200
    assert SECRET not in response.content.decode()
    assert not Credential.objects.exists()


def test_an_empty_value_keeps_what_is_stored_and_a_new_one_replaces_it(root: Client) -> None:
    root.post(ADD, stripe(credential(value=SECRET)))
    kept = Credential.objects.get()
    row = credential(id=kept.id, service=kept.service_id)

    assert saved(root.post(page(kept.service), stripe(row, name="Stripe")))
    assert secrets.decrypt(bytes(Credential.objects.get().encrypted or b"")) == SECRET

    assert saved(root.post(page(kept.service), stripe(row | {"value": "another-value"})))
    assert secrets.decrypt(bytes(Credential.objects.get().encrypted or b"")) == "another-value"
    assert AuditEntry.objects.filter(action="service.change").first().details["credential"]["changed"] == {  # type: ignore[union-attr]
        "STRIPE_SECRET_KEY": ["value"]
    }


def test_a_reference_replaces_a_stored_value(root: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", SECRET)
    root.post(ADD, stripe(credential(value="first-value")))
    kept = Credential.objects.get()

    row = credential(id=kept.id, service=kept.service_id, reference="env:SOME_KEY")

    response = root.post(page(kept.service), stripe(row))

    assert saved(response), errors(response)
    kept.refresh_from_db()
    assert (kept.reference, kept.encrypted) == ("env:SOME_KEY", None)
    assert SECRET not in root.get(page(kept.service)).content.decode()


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        (credential(), "Give a reference or a value"),
        (credential(value="x-value", reference="env:PATH"), "either a value or a reference"),
        (credential(reference="env:NOT_SET_ANYWHERE"), "leads nowhere"),
        (credential(reference=SECRET), "must be env:NAME or file:PATH"),
        (credential(variable="STRIPE_KEY", value="x-value"), "reads no such variable"),
        (credential(variable="", value="x-value"), "This field is required"),
    ],
)
def test_it_refuses_a_wrong_credential(root: Client, row: dict[str, Any], complaint: str) -> None:
    response = root.post(ADD, stripe(row))

    assert complaint in errors(response)
    assert SECRET not in errors(response)
    assert not Credential.objects.exists()


def test_taking_a_credential_away_deletes_it(root: Client) -> None:
    root.post(ADD, stripe(credential(value=SECRET)))
    kept = Credential.objects.get()

    root.post(page(kept.service), stripe(credential(id=kept.id, service=kept.service_id, DELETE="on")))

    assert not Credential.objects.exists()
    assert AuditEntry.objects.filter(action="service.change").exists()


def test_secrets_in_options_are_masked_for_everybody(root: Client, viewer: Client) -> None:
    check = make_check(options={"url": "http://127.0.0.1:9/", "headers": {"Authorization": SECRET}})

    for browser in (root, viewer):
        html = browser.get(page(check.service)).content.decode()
        assert "Authorization" in html
        assert SECRET not in html


# Others ------------------------------------------------------------------------------------------


def test_a_stranger_is_sent_to_the_login_page() -> None:
    check = make_check()

    for url in (LIST, ADD, page(check.service), "/admin/", "/admin/wsmon/auditentry/", "/admin/wsmon/apitoken/"):
        response = Client().get(url)
        assert response.status_code == 302
        assert "/login/" in response["Location"]


@pytest.mark.parametrize("groups", [(VIEWERS,), (OPERATORS,)])
def test_viewers_and_operators_see_but_do_not_configure(groups: tuple[str, ...]) -> None:
    browser = colleague("vera", *groups)
    check = make_check(make_service("our-site"), name="health")
    Credential.objects.create(service=check.service, variable="X", encrypted=secrets.encrypt(SECRET))

    html = browser.get(page(check.service)).content.decode()

    assert "health" in html
    assert "set on" in html
    assert 'name="slug"' not in html
    assert 'name="credentials-0-value"' not in html
    assert browser.get(LIST).status_code == 200
    for url in (ADD, page(check.service), f"{LIST}{check.service_id}/delete/"):
        assert browser.post(url, form(name="changed") | {"post": "yes"}).status_code == 403
    check.service.refresh_from_db()
    assert (check.service.name, check.service.archived_at) == ("", None)


def test_a_granted_permission_to_change_does_not_make_a_configurer(viewer: Client) -> None:
    from django.contrib.auth.models import Permission  # noqa: PLC0415

    user = get_user_model()._default_manager.get(username="vera")
    user.user_permissions.set(Permission.objects.filter(codename__in=["add_service", "change_service"]))

    assert viewer.get(ADD).status_code == 403


def test_staff_without_a_role_sees_nothing() -> None:
    browser = colleague("nobody")
    check = make_check()

    assert browser.get(LIST).status_code == 403
    assert browser.get(page(check.service)).status_code == 403
    assert browser.get("/admin/wsmon/apitoken/").status_code == 403


# Pausing -----------------------------------------------------------------------------------------


def test_an_operator_pauses_and_resumes_with_a_reason(operator: Client) -> None:
    check = make_check()
    chosen = {"_selected_action": [check.service_id]}

    operator.post(LIST, chosen | {"action": "pause", "reason": "moving house"})

    check.refresh_from_db()
    assert (check.paused_by, check.paused_reason) == ("olga", "moving house")
    assert "1 of 1" in operator.get(LIST).content.decode()

    operator.post(LIST, chosen | {"action": "resume"})

    check.refresh_from_db()
    assert check.paused_at is None
    assert list(AuditEntry.objects.order_by("id").values_list("action", flat=True)) == ["check.pause", "check.resume"]


def test_pausing_needs_a_reason(operator: Client) -> None:
    check = make_check()

    response = operator.post(LIST, {"_selected_action": [check.service_id], "action": "pause"}, follow=True)

    assert "a reason is required" in response.content.decode()
    check.refresh_from_db()
    assert check.paused_at is None


def test_a_viewer_is_offered_no_action(viewer: Client) -> None:
    check = make_check()

    viewer.post(LIST, {"_selected_action": [check.service_id], "action": "pause", "reason": "because"})

    check.refresh_from_db()
    assert check.paused_at is None
    assert "Pause all" not in viewer.get(LIST).content.decode()


# Maintenance -------------------------------------------------------------------------------------

MAINTENANCE = "/admin/monitoring/maintenancewindow/"


def window(**fields: str) -> dict[str, str]:
    return {
        "service": "",
        "starts_at_0": "2126-01-01",
        "starts_at_1": "10:00",
        "ends_at_0": "2126-01-01",
        "ends_at_1": "12:00",
        "recurrence": "",
        "time_zone": "UTC",
        "reason": "new disks",
    } | fields


def test_maintenance_is_planned_changed_and_cancelled(root: Client) -> None:
    response = root.post(MAINTENANCE + "add/", window(recurrence="FREQ=WEEKLY;BYDAY=SU", time_zone="Europe/Berlin"))
    assert response.status_code == 302, response.context["adminform"].form.errors
    planned = MaintenanceWindow.objects.get()
    assert (planned.created_by, planned.recurrence) == ("root", "FREQ=WEEKLY;BYDAY=SU")

    root.post(f"{MAINTENANCE}{planned.pk}/change/", window(reason="newer disks"))
    assert MaintenanceWindow.objects.get().reason == "newer disks"

    root.post(f"{MAINTENANCE}{planned.pk}/delete/", {"post": "yes"})
    assert MaintenanceWindow.objects.get().cancelled_at is not None
    assert sorted(AuditEntry.objects.values_list("action", flat=True)) == [
        "maintenance.cancel",
        "maintenance.change",
        "maintenance.start",
    ]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"ends_at_1": "09:00"}, "ends_at"),
        ({"ends_at_0": "2126-03-01"}, "ends_at"),
        ({"starts_at_0": "2016-01-01", "ends_at_0": "2016-01-01"}, "ends_at"),
        ({"recurrence": "every sunday"}, "recurrence"),
        ({"recurrence": "FREQ=SECONDLY"}, "recurrence"),
        ({"time_zone": "Europe/Bonn"}, "time_zone"),
        ({"time_zone": "../../etc/passwd"}, "time_zone"),
        ({"reason": ""}, "reason"),
        ({"starts_at_0": "tomorrow"}, "starts_at"),
    ],
)
def test_it_refuses_wrong_maintenance(root: Client, fields: dict[str, str], field: str) -> None:
    response = root.post(MAINTENANCE + "add/", window(**fields))

    assert field in response.context["adminform"].form.errors
    assert not MaintenanceWindow.objects.exists()


def test_operators_plan_maintenance_elsewhere(operator: Client) -> None:
    assert operator.get(MAINTENANCE).status_code == 200
    assert operator.get(MAINTENANCE + "add/").status_code == 403
